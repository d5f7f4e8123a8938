"""The bins conserve what the records hold, whatever their width."""

from __future__ import annotations

import numpy as np
import pytest

from servesim.engine.settings import EngineSettings
from servesim.errors import InputError
from servesim.metrics.pools import PoolLoad
from servesim.metrics.record import ClassRecord, RunRecord
from servesim.metrics.timeseries import COLUMNS, MAX_BINS, timeseries
from servesim.request import COMPLETED
from tests.metrics.records import Job, poisson_jobs, record_of, rows, with_timeouts


@pytest.fixture(scope="module")
def record() -> RunRecord:
    return record_of(poisson_jobs(500, 20, 200, 100), EngineSettings(num_gpu_blocks=300), replicas=2)


@pytest.mark.parametrize("interval_s", [None, 0.013, 1.0, 1e6])
def test_bins_conserve_counts_and_integrals(record: RunRecord, interval_s: float | None) -> None:
    table = timeseries(record, interval_s)
    assert set(table) == {"pool", *COLUMNS}
    width = np.diff(np.append(table["time_s"], record.end_s))
    requests = rows(record.requests)
    assert table["arrivals"].sum() == len(record.requests)
    assert table["completions"].sum() == (requests["outcome"] == COMPLETED).sum()
    waited = requests["first_scheduled_s"] - requests["arrival_s"]
    ran = requests["finish_s"] - requests["first_scheduled_s"]
    assert table["waiting"] @ width == pytest.approx(waited.sum(), rel=1e-9)
    assert table["running"] @ width == pytest.approx(ran.sum(), rel=1e-9)
    assert table["output_tokens_per_s"] @ width == pytest.approx(requests["generated_tokens"].sum(), rel=1e-9)
    load = PoolLoad(record.pools[0])
    assert table["kv_usage"] @ width * 2 == pytest.approx(load.block_share_s, rel=1e-9)
    assert table["utilisation"] @ width * 2 == pytest.approx(load.busy_s, rel=1e-9)
    prefill = sum((replica.runs.column("prefill_tokens")[0]).sum() for replica in record.pools[0].replicas)
    assert table["prefill_tokens_per_s"] @ width == pytest.approx(prefill, rel=1e-9)


def test_default_interval_is_round_and_gives_at_most_a_thousand_bins(record: RunRecord) -> None:
    times = timeseries(record)["time_s"]
    assert MAX_BINS / 3 < len(times) <= MAX_BINS
    assert f"{times[1]:.6e}"[:1] in "125"
    assert float(f"{times[1]:.0e}") == pytest.approx(times[1])


def test_levels_against_looking_at_every_instant() -> None:
    record = record_of([Job(0.0, 30, 4), Job(0.0, 30, 4), Job(0.011, 30, 3)], EngineSettings(max_num_seqs=2))
    table = timeseries(record, interval_s=record.end_s / 7)
    requests = rows(record.requests)
    instants = (np.arange(70_000) + 0.5) * record.end_s / 70_000
    waiting = sum(
        (instants >= a) & (instants < s)
        for a, s in zip(requests["arrival_s"], requests["first_scheduled_s"], strict=True)
    )
    np.testing.assert_allclose(table["waiting"], waiting.reshape(7, -1).mean(axis=1), atol=1e-3)
    runs = rows(record.pools[0].replicas[0].runs)
    end = runs["start_s"] + runs["iterations"] * (runs["first_s"] + runs["bend_s"] * (runs["iterations"] - 1))
    seqs = sum(
        ((instants >= a) & (instants < b)) * n
        for a, b, n in zip(runs["start_s"], end, runs["decode_seqs"] + runs["prefill_seqs"], strict=True)
    )
    np.testing.assert_allclose(table["batch_seqs"], seqs.reshape(7, -1).mean(axis=1), atol=1e-3)


def test_pools_are_kept_apart_and_timed_out_requests_leave_the_queue() -> None:
    classes = (ClassRecord("chat", "small"), ClassRecord("batch", "large"))
    jobs = with_timeouts([*poisson_jobs(200, 30, 100, 60), *[Job(1.0, 50, 20, 1)] * 5], 2, 0.05)
    table = timeseries(record_of(jobs, EngineSettings(max_num_seqs=4), classes=classes), 0.5)
    arrivals = [table["arrivals"][table["pool"] == name].sum() for name in ("small", "large")]
    assert arrivals == [200, 5]
    assert (table["waiting"] >= -1e-9).all()
    assert (table["running"] >= -1e-9).all()
    assert table["waiting"].max() > 1


@pytest.mark.parametrize("interval_s", [0.0, -1.0, float("nan"), 1e-9])
def test_bad_intervals_are_refused(record: RunRecord, interval_s: float) -> None:
    with pytest.raises(InputError, match="interval_s"):
        timeseries(record, interval_s)
