"""Tables on disk and in memory hold the record's numbers exactly."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from servesim.engine.settings import EngineSettings
from servesim.errors import InputError
from servesim.metrics import chunks
from servesim.metrics.record import ClassRecord, RunRecord
from servesim.metrics.split import PARTS
from servesim.metrics.tables import (
    iterations_frame,
    requests_frame,
    token_times,
    write_requests_parquet,
    write_timeseries_parquet,
)
from servesim.metrics.timeseries import timeseries
from tests.metrics.records import poisson_jobs, record_of, rows, with_timeouts

CLASSES = (ClassRecord("chat", "small"), ClassRecord("batch", "large"))


@pytest.fixture(scope="module")
def record() -> RunRecord:
    jobs = with_timeouts(poisson_jobs(300, 30, 100, 60, classes=2), 5, 0.2)
    return record_of(jobs, EngineSettings(num_gpu_blocks=100), classes=CLASSES, replicas=2)


def test_request_table(record: RunRecord) -> None:
    frame = requests_frame(record)
    assert frame["request_id"].tolist() == list(range(300))
    assert set(frame["pool"]) == {"small", "large"}
    assert ((frame["class"] == "chat") == (frame["pool"] == "small")).all()
    done = frame["outcome"] == "completed"
    assert 0 < done.sum() < 300
    assert (
        frame.loc[~done, ["e2e_s", "tpot_s", *(part for part in PARTS if part not in ("queue_s", "formation_s"))]]
        .isna()
        .all(axis=None)
    )
    np.testing.assert_allclose(frame.loc[done, list(PARTS)].sum(axis=1), frame.loc[done, "e2e_s"], atol=1e-9)
    ttft_parts = ["network_s", "retry_s", "admission_s", "queue_s", "formation_s"]
    ttft_parts += [f"ttft_{part}" for part in PARTS if part not in ttft_parts]
    np.testing.assert_allclose(frame.loc[done, ttft_parts].sum(axis=1), frame.loc[done, "ttft_s"], atol=1e-9)


def test_parquet_is_exact_and_the_same_bytes_every_time(record: RunRecord, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.parquet", "b.parquet")]
    for path in paths:
        write_requests_parquet(record, path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    stored = pd.read_parquet(paths[0]).sort_values("request_id", ignore_index=True)
    expected = requests_frame(record)
    assert list(stored) == list(expected)
    for name in expected:
        if expected[name].dtype.kind == "f":
            np.testing.assert_array_equal(stored[name], expected[name])
        else:
            assert stored[name].tolist() == expected[name].tolist()


def test_row_groups_follow_the_spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.parquet as pq

    monkeypatch.setattr(chunks, "_LEAST_ROWS", 20)
    record = record_of(poisson_jobs(60, 30, 50, 10))
    table = np.vstack(list(record.requests.chunks())).tolist()
    again = type(record.requests)(record.requests.columns)
    for start in (0, 25, 50):
        for row in table[start : start + 25]:
            again.add(row)
        again.settle(1)
    record.requests = again
    write_requests_parquet(record, tmp_path / "r.parquet")
    assert pq.ParquetFile(tmp_path / "r.parquet").num_row_groups == 3
    assert len(pd.read_parquet(tmp_path / "r.parquet")) == 60


def test_timeseries_parquet(record: RunRecord, tmp_path: Path) -> None:
    write_timeseries_parquet(record, tmp_path / "t.parquet", interval_s=0.5)
    stored, expected = pd.read_parquet(tmp_path / "t.parquet"), timeseries(record, 0.5)
    assert list(stored) == list(expected)
    assert stored["pool"].tolist() == expected["pool"].tolist()
    np.testing.assert_array_equal(stored["kv_usage"], expected["kv_usage"])


def test_iterations_follow_each_other(record: RunRecord) -> None:
    frame = iterations_frame(record)
    assert set(frame["pool"]) == {"small", "large"}
    for number, log in enumerate(replica for pool in record.pools for replica in pool.replicas):
        mine = frame[frame["replica"] == number]
        runs = rows(log.runs)
        assert len(mine) == runs["iterations"].sum()
        end = (mine["start_s"] + mine["duration_s"]).to_numpy()
        assert (mine["start_s"].to_numpy()[1:] >= end[:-1] - 1e-9).all()
        assert (mine["decode_seqs"]).sum() == (runs["decode_seqs"] * runs["iterations"]).sum()


def test_token_times_of_a_request_that_timed_out_stop_there(record: RunRecord) -> None:
    frame = requests_frame(record)
    cut = frame[(frame["outcome"] == "timed_out") & (frame["generated_tokens"] > 3) & frame["ttft_s"].notna()]
    assert len(cut) > 0
    for row in cut.itertuples():
        times = token_times(record, row.request_id)
        assert times == sorted(times)
        assert times[0] == row.arrival_s + row.ttft_s or times[0] == pytest.approx(row.arrival_s + row.ttft_s)
        assert times[-1] <= row.finish_s
        assert row.generated_tokens - 2 <= len(times) <= row.generated_tokens


def test_unknown_request() -> None:
    with pytest.raises(InputError, match="no request 7"):
        token_times(record_of(poisson_jobs(3, 1, 10, 10)), 7)


def test_importing_the_metrics_loads_neither_pandas_nor_pyarrow() -> None:
    code = (
        "import sys, servesim.metrics.tables, servesim.metrics.summary, servesim.metrics.timeseries\n"
        "sys.exit(any(name in sys.modules for name in ('pandas', 'pyarrow')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
