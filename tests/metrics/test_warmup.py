"""Which requests are measured: MSER-5 against its known answer, and summaries against the rest of the table."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from servesim import Scenario, simulate
from servesim.engine.settings import EngineSettings
from servesim.metrics.record import ClassRecord, RunRecord, Slo, WarmupRule
from servesim.metrics.summary import summarise
from servesim.metrics.tables import requests_frame, token_times
from servesim.metrics.warmup import LEAST_REQUESTS, measured, mser5
from tests.metrics.records import poisson_jobs, record_of, with_timeouts

CLASSES = (ClassRecord("chat", "main", Slo(ttft_s=0.05, attainment=0.5)), ClassRecord("batch", "main"))


@pytest.fixture(scope="module")
def record() -> RunRecord:
    jobs = with_timeouts(poisson_jobs(400, 25, 200, 40, classes=2), 10, 0.3)
    return record_of(jobs, EngineSettings(num_gpu_blocks=200, max_num_seqs=32), classes=CLASSES, replicas=2)


def test_mser5_of_a_known_case() -> None:
    """Rows mser5 and mser5-mean of the theory book."""
    i = np.arange(1000)
    values = 100 * 0.95**i + ((7919 * i) % 101) / 101
    assert mser5(values) == 135
    assert values[135:].mean() == pytest.approx(0.4966019219211118, abs=1e-14)


@given(st.integers(0, 300), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_mser5_is_the_smallest_of_its_definition(count: int, seed: int) -> None:
    values = np.random.default_rng(seed).exponential(1.0, count)
    found = mser5(values)
    batches = values[: count // 5 * 5].reshape(-1, 5).mean(axis=1)
    if len(batches) < 2:
        assert found == 0
        return
    scores = [
        float(((batches[d:] - batches[d:].mean()) ** 2).sum()) / (len(batches) - d) ** 2
        for d in range(len(batches) // 2 + 1)
    ]
    assert found % 5 == 0
    assert scores[found // 5] == pytest.approx(min(scores), rel=1e-9, abs=1e-18)


@pytest.mark.parametrize("rule", [WarmupRule("requests", 150), WarmupRule("time_s", 7.0), WarmupRule("mser5")])
def test_every_number_is_of_the_requests_after_the_warm_up(record: RunRecord, rule: WarmupRule) -> None:
    whole = replace(record, warmup=rule)
    summary = summarise(whole)
    window, one = summary["measurement"], summary["classes"]["all"]
    frame = requests_frame(whole)
    frame = frame[frame["request_id"] >= window["left_out"]]
    assert one["offered"] == len(frame) == len(record.requests) - window["left_out"]
    assert one["offered"] == sum(one[kind] for kind in ("completed", "rejected", "timed_out", "cancelled", "failed"))
    done = frame[frame["outcome"] == "completed"]
    for latency in ("ttft_s", "tpot_s", "e2e_s", "queue_s"):
        assert one[latency]["mean"] == pytest.approx(done[latency].mean())
        assert one[latency]["p99"] == pytest.approx(np.percentile(done[latency].dropna(), 99))
    gaps = [gap for number in frame["request_id"] for gap in np.diff(token_times(whole, number))]
    inner = measured(whole, window["left_out"], window["start_s"])
    assert len(inner.requests) == len(frame)
    assert one["itl_s"]["p50"] == pytest.approx(np.percentile(gaps, 50), rel=1e-3)
    every = requests_frame(whole)
    ended = every[(every["outcome"] == "completed") & (every["finish_s"] > window["start_s"])]
    assert len(ended) > len(done)  # what was inside when the measurement began is work done in it, too
    assert one["request_throughput_rps"] == pytest.approx(len(ended) / (whole.end_s - window["start_s"]))
    assert sum(one["split"]["e2e_s"].values()) == pytest.approx(one["e2e_s"]["mean"])
    assert summary["pools"] == summarise(record)["pools"]


def test_a_time_is_a_number_of_requests(record: RunRecord) -> None:
    arrival_s = requests_frame(record)["arrival_s"]
    window = summarise(replace(record, warmup=WarmupRule("time_s", 7.0)))["measurement"]
    assert window["left_out"] == (arrival_s < 7.0).sum() > 0
    assert window["start_s"] == arrival_s[arrival_s >= 7.0].min()


def test_nothing_left_to_measure_is_no_error(record: RunRecord) -> None:
    for rule in (WarmupRule("requests", 10_000), WarmupRule("time_s", 1e6)):
        summary = summarise(replace(record, warmup=rule))
        assert summary["classes"]["all"]["offered"] == 0
        assert summary["classes"]["all"]["ttft_s"]["mean"] is None
        assert "no request arrived later" in summary["measurement"]["how"]


def test_auto_leaves_short_runs_whole_and_looks_at_nothing_but_what_was_offered(record: RunRecord) -> None:
    short = summarise(replace(record, warmup=WarmupRule("auto")))["measurement"]
    assert short["left_out"] == 0
    assert f"{LEAST_REQUESTS:,}" in short["how"]
    jobs = poisson_jobs(1500, 60, 100, 100)
    flooded = replace(record_of(jobs, EngineSettings(max_num_seqs=8)), warmup=WarmupRule("auto"))
    summary = summarise(flooded)
    assert any("overloaded" in warning for warning in summary["warnings"])
    assert summary["measurement"]["left_out"] == 75


def test_auto_leaves_out_the_first_twentieth_of_a_long_run() -> None:
    record = replace(record_of(poisson_jobs(1200, 10, 50, 10)), warmup=WarmupRule("auto"))
    summary = summarise(record)
    assert summary["measurement"]["left_out"] == 60
    assert summary["classes"]["all"]["offered"] == 1140


def test_all_attempts_of_a_request_are_left_out_with_its_first() -> None:
    lives = {
        "patience": {"mean_s": 6.0, "until": "scheduled"},
        "retry": {"on": ["abandoned"], "max_attempts": "unlimited", "backoff_s": 5.0, "jitter": "none"},
    }
    one = {"arrivals": {"kind": "poisson", "request_rate_rps": 0.7}, "prompt_tokens": 1, "output_tokens": 1, **lives}
    pool = {"engine": {"kind": "station"}, "service_time": {"kind": "exponential", "mean_s": 1.0}}
    scenario = {"name": "retrying", "workload": {"num_requests": 2000, "classes": {"all-of-them": one}}}
    result = simulate(Scenario.model_validate({**scenario, "pools": {"main": pool}}), 1)
    first = result.summary["measurement"]["left_out"]
    frame = result.requests[first:]  # in order of first attempts
    assert first == 100
    assert (frame["attempts"] > 1).sum() > 50
    counts = result.summary["classes"]["all"]
    assert counts["offered"] == len(frame)
    assert counts["attempts"] == frame["attempts"].sum()
    assert counts["e2e_s"]["mean"] == pytest.approx(frame["e2e_s"].mean(), rel=1e-12)
