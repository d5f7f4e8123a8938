"""Every conservation check fires when the record is damaged in the way it is about, and only then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from servesim import Scenario, simulate
from servesim.engine.settings import EngineSettings
from servesim.errors import ServesimError
from servesim.metrics.checks import check
from servesim.metrics.record import ClassRecord, RunRecord
from servesim.metrics.spool import Spool
from servesim.request import COMPLETED, PENDING, TIMED_OUT
from tests.metrics.records import Job, poisson_jobs, record_of, with_timeouts

CLASSES = (ClassRecord("chat", "main"), ClassRecord("batch", "main"))


def test_tokens_of_servers_that_answer_at_the_end_are_those_of_completed_requests() -> None:
    one = {"arrivals": {"kind": "poisson", "request_rate_rps": 1.5}, "prompt_tokens": 1, "output_tokens": 3}
    pool = {"engine": {"kind": "request_batching"}, "service_time": {"kind": "constant", "mean_s": 2.0}}
    workload = {"num_requests": 200, "classes": {"c": {**one, "timeout_s": 3.0}}}
    record = simulate(Scenario.model_validate({"name": "x", "workload": workload, "pools": {"main": pool}}), 1).record
    check(record)
    (outcome,) = record.requests.column("outcome")
    row = int(np.flatnonzero(outcome == TIMED_OUT)[0])
    with pytest.raises(ServesimError, match="output tokens"):
        check(replace(record, requests=damaged(record.requests, "generated_tokens", row, lambda _: 99)))


def damaged(spool: Spool, column: str, row: int, change: Callable[[float], float]) -> Spool:
    """Return a copy of a spool with one value changed."""
    copy = Spool(spool.columns)
    table = np.vstack(list(spool.chunks()))
    index = spool.columns.index(column)
    table[row, index] = change(table[row, index])
    for values in table.tolist():
        copy.add(values)
    return copy


def a_record() -> RunRecord:
    jobs = with_timeouts(poisson_jobs(60, 30, 60, 80, classes=2), 4, 0.5)
    return record_of(jobs, EngineSettings(num_gpu_blocks=60), replicas=2, classes=CLASSES)


@settings(max_examples=150, deadline=None)
@given(
    jobs=st.lists(
        st.builds(
            Job,
            st.floats(0, 1),
            st.integers(1, 120),
            st.integers(1, 60),
            st.integers(0, 1),
            st.one_of(st.none(), st.floats(0.0, 0.5)),
        ),
        max_size=25,
    ),
    blocks=st.sampled_from([12, 40, 1 << 30]),
    one_ahead=st.booleans(),
    admission_s=st.sampled_from([0.0, 0.01]),
    replicas=st.integers(1, 3),
)
def test_whatever_the_engine_does_its_record_adds_up(
    jobs: list[Job], blocks: int, one_ahead: bool, admission_s: float, replicas: int
) -> None:
    engine = EngineSettings(
        num_gpu_blocks=blocks,
        max_num_batched_tokens=48,
        max_num_seqs=8,
        async_scheduling=one_ahead,
        admission_time_s=admission_s,
    )
    check(record_of(jobs, engine, replicas=replicas, classes=CLASSES))


def test_the_record_used_below_has_preemptions_and_timeouts() -> None:
    record = a_record()
    preemptions, outcome = record.requests.column("preemptions", "outcome")
    assert preemptions.sum() > 0
    assert set(outcome) == {COMPLETED, TIMED_OUT}
    check(record)


def _row(record: RunRecord, outcome: int = COMPLETED) -> int:
    return int(np.flatnonzero(record.requests.column("outcome")[0] == outcome)[0])


DAMAGE = {
    "twice": ("request_id", COMPLETED, lambda _: 3.0, "more than one record"),
    "pending": ("outcome", COMPLETED, lambda _: float(PENDING), "outcome is none of"),
    "class": ("class_index", COMPLETED, lambda x: 1 - x, "requests offered"),
    "before arrival": ("arrival_s", COMPLETED, lambda x: x + 1e3, "before it arrives"),
    "scheduled too early": ("first_scheduled_s", COMPLETED, lambda x: x - 5, "scheduled before"),
    "token too early": ("first_token_s", COMPLETED, lambda x: x - 5, "before it is scheduled"),
    "token too late": ("first_token_s", COMPLETED, lambda x: x + 1e3, "before its first token"),
    "later": ("finish_s", COMPLETED, lambda x: x + 1e-5, "as counted at the door"),
    "token lost": ("generated_tokens", TIMED_OUT, lambda x: x + 1, "output tokens"),
    "too short": ("generated_tokens", COMPLETED, lambda x: x - 1, "more or fewer tokens"),
    "wrong rows": ("last_row", COMPLETED, lambda x: x - 1, "disagree on who decodes"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_requests_are_noticed(name: str) -> None:
    column, outcome, change, text = DAMAGE[name]
    record = a_record()
    record.requests = damaged(record.requests, column, _row(record, outcome), change)
    with pytest.raises(ServesimError, match=text):
        check(record)


@pytest.mark.parametrize(
    ("column", "text"), [("decode_seqs", "disagree on who decodes"), ("iterations", "output tokens")]
)
def test_damaged_logs_are_noticed(column: str, text: str) -> None:
    record = a_record()
    log = record.pools[0].replicas[1]
    row = int(np.flatnonzero(log.runs.column("decode_seqs")[0])[0])
    log.runs = damaged(log.runs, column, row, lambda x: x + 1)
    with pytest.raises(ServesimError, match=text):
        check(record)


def test_prefill_of_undisturbed_requests_is_exact() -> None:
    record = record_of(poisson_jobs(40, 30, 60, 20))
    log = record.pools[0].replicas[0]
    log.runs = damaged(log.runs, "prefill_tokens", 0, lambda x: x + 1)
    with pytest.raises(ServesimError, match="prefilled"):
        check(record)


def test_a_missing_request_is_noticed() -> None:
    record = a_record()
    record.offered[0] += 1
    with pytest.raises(ServesimError, match="class chat"):
        check(record)
