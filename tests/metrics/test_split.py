"""The parts of TTFT and E2E: they sum up, and each is what it says."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from servesim.engine.settings import EngineSettings
from servesim.metrics.alone import Alone, AloneInPool
from servesim.metrics.chunks import named_chunks
from servesim.metrics.record import ClassRecord, RunRecord
from servesim.metrics.split import Split, Splitter, network_s
from servesim.request import COMPLETED
from servesim.service_time.base import IterationTime
from tests.engine.harness import BentTimes
from tests.metrics.records import TIMES, Job, poisson_jobs, record_of

BENT = BentTimes(base_s=0.004, per_token_s=1e-5, slope_s=1e-6, pair_s=1e-8, bend_tokens=90.5)


def split_all(record: RunRecord) -> tuple[Split, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Return split, TTFT, E2E and the columns of the (few) completed requests."""
    (chunk,) = named_chunks(record.requests)
    done = {name: column[chunk["outcome"] == COMPLETED] for name, column in chunk.items()}
    network = network_s(record)
    ttft, e2e = (done[end] - done["arrival_s"] + network for end in ("first_token_s", "finish_s"))
    return Splitter(record).split(done), ttft, e2e, done


ENGINES = st.builds(
    EngineSettings,
    max_num_seqs=st.sampled_from([4, 64]),
    max_num_batched_tokens=st.sampled_from([64, 100, 2048]),
    num_gpu_blocks=st.sampled_from([20, 1 << 30]),
    async_scheduling=st.booleans(),
    host_time_s=st.sampled_from([0.0, 0.001, 0.02]),
    host_time_per_seq_s=st.sampled_from([0.0, 0.0001]),
    admission_time_s=st.sampled_from([0.0, 0.003]),
    admission_time_per_token_s=st.sampled_from([0.0, 1e-5]),
)
JOBS = st.lists(st.builds(Job, st.floats(0, 2), st.integers(1, 150), st.integers(1, 60)), min_size=1, max_size=20)


@settings(max_examples=100, deadline=None)
@given(jobs=JOBS, engine=ENGINES)
def test_parts_sum_to_the_latency_and_others_never_speed_a_request_up(jobs: list[Job], engine: EngineSettings) -> None:
    split, ttft, e2e, done = split_all(record_of(jobs, engine))
    for latency, parts in ((ttft, split.ttft_s), (e2e, split.e2e_s)):
        np.testing.assert_allclose(sum(parts.values()), latency, rtol=0, atol=1e-9)
        for name, values in parts.items():
            assert (values >= -1e-9).all(), name
    assert (done["preempted_s"] == split.e2e_s["preemption_s"]).all()


@pytest.mark.parametrize("times", [TIMES, BENT], ids=["straight", "bent"])
@settings(max_examples=60, deadline=None)
@given(prompt=st.integers(1, 400), output=st.integers(1, 200), engine=ENGINES)
def test_a_request_alone_suffers_no_interference(
    times: IterationTime, prompt: int, output: int, engine: EngineSettings
) -> None:
    record = record_of([Job(0.5, prompt, output)], engine, times)
    split, _, _, done = split_all(record)
    if len(done["arrival_s"]) == 0:
        return  # larger than the KV cache: rejected
    assert split.ttft_s["interference_s"][0] == pytest.approx(0.0, abs=1e-9)
    assert split.e2e_s["interference_s"][0] == pytest.approx(0.0, abs=1e-9)
    assert split.e2e_s["queue_s"][0] == pytest.approx(0.0, abs=1e-9)
    assert split.e2e_s["own_compute_s"][0] > 0


@given(prompt=st.integers(1, 300), output=st.integers(1, 150), budget=st.sampled_from([1, 64, 1000]))
def test_own_compute_is_the_sum_over_its_iterations(prompt: int, output: int, budget: int) -> None:
    alone = Alone(BENT, budget)
    prefill, computed = 0.0, 0
    while computed < prompt:
        chunk = min(budget, prompt - computed)
        prefill += BENT.mixed_s(0, 0, 1, chunk, sum(computed + i + 1 for i in range(chunk)))
        computed += chunk
    decode = 0.0
    for context in range(prompt, prompt + output - 1):
        base, slope, _ = BENT.decode_line(1, context)
        decode += base + slope * context
    assert alone.prefill_s(np.array([prompt]))[0] == pytest.approx(prefill, rel=1e-12)
    assert alone.decode_s(np.array([prompt]), np.array([output - 1]))[0] == pytest.approx(decode, rel=1e-12)


def test_two_requests_at_once_slow_each_other_by_the_difference() -> None:
    times = BentTimes(base_s=0.01, per_seq_s=0.002)
    split, *_ = split_all(record_of([Job(0.0, 10, 6), Job(0.0, 10, 6)], times=times))
    # Prefill and five decode steps, each 0.002 s longer than alone.
    np.testing.assert_allclose(split.ttft_s["interference_s"], 0.002)
    np.testing.assert_allclose(split.e2e_s["interference_s"], 6 * 0.002)
    np.testing.assert_allclose(split.e2e_s["own_compute_s"], 6 * 0.012)


def test_steps_emitted_by_a_recomputation_are_preemption_not_own_compute() -> None:
    times = BentTimes(base_s=0.01, slope_s=1e-5)
    record = record_of([Job(0.0, 40, 200) for _ in range(4)], EngineSettings(num_gpu_blocks=30), times)
    split, _, _, done = split_all(record)
    segments = record.pools[0].replicas[0].segments
    ids, first, last = segments.column("request_id", "first_row", "last_row")
    upto = np.concatenate([[0], np.cumsum(record.pools[0].replicas[0].runs.column("iterations")[0])])
    assert len(ids) >= 2
    for i, request_id in enumerate(done["request_id"]):
        contexts = list(range(40, 40 + 199))
        generated = 0
        for s in np.flatnonzero(ids == request_id):
            generated += int(upto[int(last[s])] - upto[int(first[s])]) + 1
            contexts.remove(40 + generated - 1)
        expected = 0.01 + sum(0.01 + 1e-5 * context for context in contexts)
        assert split.e2e_s["own_compute_s"][i] == pytest.approx(expected, rel=1e-12)


def test_network_is_part_of_the_latency_on_the_clients_clock_only() -> None:
    record = record_of([Job(0.0, 10, 5)])
    record.request_network_s, record.response_network_s = 0.03, 0.04
    server, _, server_e2e, _ = split_all(record)
    record.client_clock = True
    client, _, client_e2e, _ = split_all(record)
    assert server.e2e_s["network_s"][0] == 0.0
    assert client.ttft_s["network_s"][0] == pytest.approx(0.07)
    assert client_e2e[0] == pytest.approx(server_e2e[0] + 0.07)
    assert client.e2e_s["interference_s"][0] == pytest.approx(server.e2e_s["interference_s"][0])


def test_each_pool_computes_with_its_own_service_time() -> None:
    classes = (ClassRecord("chat", "small"), ClassRecord("batch", "large"))
    record = record_of(poisson_jobs(200, 5, 50, 20, classes=2), classes=classes)
    one_pool, *_ = split_all(record)
    record.pools[1].own_compute = partial(AloneInPool, BENT, EngineSettings().max_num_batched_tokens)
    two_pools, _, _, done = split_all(record)
    other = done["class_index"] == 1
    same = one_pool.e2e_s["own_compute_s"] == two_pools.e2e_s["own_compute_s"]
    assert same[~other].all()
    assert not same[other].any()
