"""The span engine says exactly what the step-by-step reference says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from servesim.engine.continuous import ContinuousEngine
from servesim.engine.reference import ReferenceEngine
from servesim.engine.settings import EngineSettings
from servesim.registry import kinds
from servesim.service_time.noise import NoiseLaw
from tests.engine.harness import BentTimes, Job, play

ROUNDED = ("host_ttft_s", "host_s", "preempted_s", "preempted_ttft_s")


@st.composite
def workloads(draw: st.DrawFn) -> tuple[list[Job], EngineSettings, BentTimes, int, int, NoiseLaw | None]:
    block_size = draw(st.sampled_from([1, 2, 4, 16]))
    longest = draw(st.sampled_from([8, 40, 120]))
    chunked = draw(st.booleans())
    max_seqs = draw(st.integers(1, 8))
    budget = draw(st.integers(max_seqs, 64)) if chunked else 2 * longest
    enough = -(-2 * longest // block_size) + 1
    settings_ = EngineSettings(
        max_num_seqs=min(max_seqs, budget),
        max_num_batched_tokens=budget,
        max_model_len=draw(st.sampled_from([2 * longest, longest + 4])),
        enable_chunked_prefill=chunked,
        scheduler_reserve_full_isl=draw(st.booleans()),
        resume_from_cache=draw(st.booleans()),
        watermark=draw(st.sampled_from([0.0, 0.0, 0.05])),
        async_scheduling=draw(st.booleans()),
        block_size=block_size,
        num_gpu_blocks=draw(st.sampled_from([enough // 2 + 1, enough, 3 * enough, 1 << 40])),
        host_time_s=draw(st.sampled_from([0.0, 0.001, 0.02])),
        host_time_per_seq_s=draw(st.sampled_from([0.0, 0.0005])),
        admission_time_s=draw(st.sampled_from([0.0, 0.0, 0.005])),
        admission_time_per_token_s=draw(st.sampled_from([0.0, 0.0, 0.0001])),
        guaranteed_no_evict=draw(st.sampled_from([False, False, True])),
        batch_wait_timeout_iters=0 if chunked else draw(st.sampled_from([0, 0, 1, 3, 20])),
        batch_wait_tokens=draw(st.sampled_from([3.0, 0.5 * budget, 0.9 * budget, math.inf])),
    )
    times = BentTimes(
        base_s=draw(st.sampled_from([0.01, 0.0078125, 0.25])),
        per_seq_s=draw(st.sampled_from([0.0, 0.0003])),
        per_token_s=draw(st.sampled_from([0.0, 0.0001])),
        slope_s=draw(st.sampled_from([0.0, 1e-5, 3e-4])),
        pair_s=draw(st.sampled_from([0.0, 1e-6])),
        bend_tokens=draw(st.sampled_from([math.inf, 7, 60.5, 200])),
    )
    # Multiples of 1/128 s meet iteration boundaries exactly; that is where ties are.
    gap = draw(st.sampled_from([0.0, 1 / 128, 0.01, 0.1]))
    count = draw(st.integers(1, 30))
    jobs, now = [], draw(st.sampled_from([0.0, 0.0, 1e6]))
    for _ in range(count):
        now += gap * draw(st.integers(0, 4))
        cancel = draw(st.one_of(st.none(), st.none(), st.floats(0.0, 2.0), st.sampled_from([1 / 128, 0.25])))
        jobs.append(
            Job(
                now,
                draw(st.integers(1, longest)),
                draw(st.integers(1, longest)),
                cancel,
                draw(st.integers(0, 2)),
                computed_tokens=draw(st.sampled_from([0, 0, 0, 5, 50])),
                follow_ups=draw(st.sampled_from([0, 0, 0, 1, 3])),
            )
        )
    replicas = draw(st.integers(1, 3))
    clients = draw(st.sampled_from([0, 0, 1, 5]))
    noise = draw(st.sampled_from([None, None, NoiseLaw(0.3, 1), NoiseLaw(0.1, 3), NoiseLaw(0.1, 50)]))
    return jobs, settings_, times, replicas, clients, noise


@pytest.mark.parametrize("kind", sorted(kinds("scheduler")))
@settings(max_examples=400, deadline=None)
@given(case=workloads())
def test_span_engine_equals_the_reference(kind: str, case) -> None:
    jobs, engine_settings, times, replicas, clients, noise = case
    scheduler = kinds("scheduler")[kind]
    args = (jobs, engine_settings, times, replicas, clients, scheduler, noise)
    span, step = play(ContinuousEngine, *args), play(ReferenceEngine, *args)
    for name, expected in step.requests.items():
        if name in ROUNDED:
            np.testing.assert_allclose(span.requests[name], expected, rtol=1e-9, atol=1e-12, err_msg=name)
        else:
            np.testing.assert_array_equal(span.requests[name], expected, err_msg=name)
    for replica in range(replicas):
        for name, expected in step.runs[replica].items():
            np.testing.assert_array_equal(span.runs[replica][name], expected, err_msg=name)
        assert span.segments[replica] == step.segments[replica]
        assert span.engines[replica].preemptions == step.engines[replica].preemptions
        assert span.engines[replica].outstanding == 0
        assert span.engines[replica].kv.free == span.engines[replica].kv.usable
        assert step.engines[replica].free == step.engines[replica].usable


def test_time_lost_to_preemption_is_the_sum_of_the_gaps_it_tore() -> None:
    """However often a request is preempted, also while it is still recomputing."""
    jobs = [Job(0.01 * i, 40, 60) for i in range(30)]
    tight = EngineSettings(
        max_num_seqs=8, max_num_batched_tokens=16, block_size=4, num_gpu_blocks=40, scheduler_reserve_full_isl=False
    )
    outcome = play(ContinuousEngine, jobs, tight)
    lost = outcome.requests["preempted_s"] - outcome.requests["preempted_ttft_s"]
    torn = np.zeros(len(jobs))
    for request_id, *_, gap_start_s, gap_end_s in outcome.segments[0]:
        torn[int(request_id)] += gap_end_s - gap_start_s
    assert outcome.requests["preemptions"].max() > 3
    np.testing.assert_allclose(lost, torn, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("engine", [ContinuousEngine, ReferenceEngine])
def test_no_more_run_than_there_are_slots(engine: type[ContinuousEngine] | type[ReferenceEngine]) -> None:
    """Ten at once on three slots, 20 iterations each: the last starts when nine have ended."""
    settings_ = EngineSettings(max_num_seqs=3, max_num_batched_tokens=64, async_scheduling=False)
    outcome = play(engine, [Job(0.0, 8, 20)] * 10, settings_)
    np.testing.assert_allclose(outcome.requests["first_token_s"], 0.01 * (1 + 20 * (np.arange(10) // 3)))
