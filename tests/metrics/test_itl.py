"""Pooled token gaps against every token of every request, written out one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from servesim.engine.settings import EngineSettings
from servesim.metrics.itl import decoding_by_row, itl_s
from servesim.metrics.record import ClassRecord, RunRecord
from servesim.metrics.tables import iterations_frame, token_times
from servesim.request import COMPLETED
from tests.metrics.records import Job, poisson_jobs, record_of, rows, slow_token_times, with_timeouts

TWO_CLASSES = (ClassRecord("chat", "main"), ClassRecord("batch", "main"))


def assert_gaps_equal(record: RunRecord) -> None:
    class_of = dict(zip(*record.requests.column("request_id", "class_index"), strict=True))
    times = slow_token_times(record)
    for index in (None, *range(len(record.classes))):
        gaps = [np.diff(t) for i, t in times.items() if index is None or class_of[i] == index]
        pooled = np.concatenate(gaps) if gaps else np.empty(0)
        found = itl_s(record, index)
        if not len(pooled):
            assert np.isnan(found["mean"])
            continue
        # Differences of absolute times are rounded at the size of the times.
        assert found["mean"] == pytest.approx(pooled.mean(), rel=1e-9)
        for percent in (50, 90, 95, 99):
            assert found[f"p{percent}"] == pytest.approx(np.percentile(pooled, percent), rel=1e-8), (index, percent)


JOBS = st.lists(
    st.builds(
        Job,
        st.floats(0, 2),
        st.integers(1, 60),
        st.integers(1, 60),
        st.integers(0, 1),
        st.one_of(st.none(), st.none(), st.floats(0.01, 0.5)),
    ),
    min_size=1,
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(jobs=JOBS, blocks=st.sampled_from([12, 30, 1000]), one_ahead=st.booleans(), replicas=st.integers(1, 2))
def test_gaps_equal_the_tokens_written_out(jobs: list[Job], blocks: int, one_ahead: bool, replicas: int) -> None:
    settings_ = EngineSettings(
        num_gpu_blocks=blocks, max_num_batched_tokens=48, max_num_seqs=16, async_scheduling=one_ahead
    )
    jobs = [job for job in jobs if job.timeout_s is None] or jobs[:1]
    assert_gaps_equal(record_of(jobs, settings_, replicas=replicas, classes=TWO_CLASSES))


def test_preemption_gaps_are_in_the_pool() -> None:
    record = record_of(
        [Job(0.0, 40, 200, i % 2) for i in range(8)], EngineSettings(num_gpu_blocks=60), classes=TWO_CLASSES
    )
    assert len(record.pools[0].replicas[0].segments) > 0
    assert_gaps_equal(record)
    gap = record.pools[0].replicas[0].segments.column("gap_start_s", "gap_end_s")
    assert itl_s(record)["p99"] < (gap[1] - gap[0]).max()


def test_tokens_of_requests_that_timed_out_count() -> None:
    record = record_of(with_timeouts(poisson_jobs(300, 20, 200, 100), 3, 0.4))
    outcome, generated = record.requests.column("outcome", "generated_tokens")
    cut = outcome != COMPLETED
    assert generated[cut].sum() > 0
    runs = rows(record.pools[0].replicas[0].runs)
    gaps = (runs["decode_seqs"] * runs["iterations"]).sum()
    assert gaps == np.maximum(generated - 1, 0).sum()
    expanded = iterations_frame(record)
    mean = np.average(expanded["duration_s"], weights=expanded["decode_seqs"])
    assert itl_s(record)["mean"] == pytest.approx(mean, rel=1e-12)


def test_classes_add_up_to_the_batch() -> None:
    record = record_of(poisson_jobs(400, 30, 100, 60, classes=2), replicas=3, classes=TWO_CLASSES)
    pool = record.pools[0]
    batch = np.concatenate([replica.runs.column("decode_seqs")[0] for replica in pool.replicas])
    per_class = [decoding_by_row(record, pool, index) for index in (0, 1)]
    assert (per_class[0] > 0).any()
    assert (per_class[1] > 0).any()
    np.testing.assert_array_equal(per_class[0] + per_class[1], batch)


def test_classes_in_pools_of_their_own() -> None:
    classes = (ClassRecord("chat", "small"), ClassRecord("batch", "large"))
    assert_gaps_equal(record_of(poisson_jobs(200, 30, 100, 60, classes=2), classes=classes))


def test_token_times_equal_the_tokens_written_out() -> None:
    record = record_of([Job(0.01 * i, 40, 150) for i in range(8)], EngineSettings(num_gpu_blocks=30), replicas=2)
    expected = slow_token_times(record)
    assert any(len(replica.segments) for replica in record.pools[0].replicas)
    for request_id, times in expected.items():
        found = token_times(record, request_id)
        assert len(found) == 150
        np.testing.assert_allclose(found, times, rtol=1e-15)
