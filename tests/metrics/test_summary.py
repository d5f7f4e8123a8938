"""The summary against plain numpy on the record's columns, and its shape."""

from __future__ import annotations

import json

import numpy as np
import pytest
from rich.console import Console

from servesim.engine.settings import EngineSettings
from servesim.metrics.record import ClassRecord, RunRecord, Slo
from servesim.metrics.split import PARTS
from servesim.metrics.summary import LATENCIES, summarise
from servesim.metrics.tables import iterations_frame, requests_frame
from servesim.report.table import print_summary
from servesim.service_time.base import Deployment, Validity
from tests.metrics.records import AFFINE, Job, poisson_jobs, record_of, with_timeouts

CLASSES = (
    ClassRecord("chat", "main", Slo(ttft_s=0.05, tpot_s=0.006, attainment=0.99)),
    ClassRecord("batch", "main"),
    ClassRecord("code", "main", Slo(e2e_s=5.0, attainment=0.5)),
)
STATISTICS = ["mean", "p50", "p90", "p95", "p99"]
CLASS_KEYS = [
    "offered",
    "completed",
    "rejected",
    "timed_out",
    "abandoned",
    "cancelled",
    "failed",
    "attempts",
    "retries",
    "retry_amplification",
    "request_throughput_rps",
    "output_throughput_tps",
    "goodput_rps",
    "slo_attainment",
    "slo_met",
    "partial_output_tokens",
    "wasted_output_tokens",
    "itl_met",
    *LATENCIES,
    "split",
]


@pytest.fixture(scope="module")
def record() -> RunRecord:
    jobs = with_timeouts(poisson_jobs(900, 25, 200, 80, classes=3), 10, 0.3)
    made = record_of([*jobs, Job(3.0, 5000, 5, 1)], EngineSettings(num_gpu_blocks=300), classes=CLASSES, replicas=2)
    made.pools[0].usd_per_gpu_hour, made.pools[0].gpus_per_replica = 2.5, 4
    return made


def test_shape_is_what_docs_say_and_it_is_json(record: RunRecord) -> None:
    summary = summarise(record)
    keys = ["schema_version", "scenario", "seed", "classes", "pools", "measurement", "warnings", "provenance"]
    assert list(summary) == keys
    assert list(summary["classes"]) == ["all", "chat", "batch", "code"]
    for one in summary["classes"].values():
        assert list(one) == CLASS_KEYS
        assert all(list(one[name]) == STATISTICS for name in LATENCIES)
        tail = one["split"]["p99_tail"]
        for parts in (one["split"]["ttft_s"], one["split"]["e2e_s"], tail["ttft_s"], tail["e2e_s"]):
            assert tuple(parts) == PARTS
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


@pytest.mark.parametrize("name", ["all", "chat", "batch", "code"])
def test_numbers_equal_those_of_the_request_table(record: RunRecord, name: str) -> None:
    one = summarise(record)["classes"][name]
    frame = requests_frame(record)
    if name != "all":
        frame = frame[frame["class"] == name]
    done = frame[frame["outcome"] == "completed"]
    assert one["offered"] == len(frame)
    assert one["completed"] == len(done)
    assert one["timed_out"] == (frame["outcome"] == "timed_out").sum() > 0
    assert one["rejected"] == (1 if name in ("all", "batch") else 0)
    assert one["request_throughput_rps"] == pytest.approx(len(done) / record.end_s)
    assert one["output_throughput_tps"] == pytest.approx(done["output_tokens"].sum() / record.end_s)
    for latency in ("ttft_s", "tpot_s", "e2e_s", "queue_s"):
        values = done[latency].dropna()
        assert one[latency]["mean"] == pytest.approx(values.mean(), rel=1e-12)
        for percent in (50, 90, 95, 99):
            assert one[latency][f"p{percent}"] == pytest.approx(np.percentile(values, percent), rel=1e-12)
    for latency, prefix in (("ttft_s", "ttft_"), ("e2e_s", "")):
        slow = done[done[latency] >= one[latency]["p99"]]
        assert len(slow) > 0
        for part in PARTS:
            shared = ("network_s", "retry_s", "admission_s", "queue_s", "formation_s")
            column = part if part in shared else prefix + part
            assert one["split"][latency][part] == pytest.approx(done[column].mean(), rel=1e-9, abs=1e-15)
            assert one["split"]["p99_tail"][latency][part] == pytest.approx(slow[column].mean(), rel=1e-9, abs=1e-15)


def test_goodput_counts_those_that_meet_everything_out_of_those_offered(record: RunRecord) -> None:
    classes = summarise(record)["classes"]
    frame = requests_frame(record)
    done = frame[frame["outcome"] == "completed"]
    chat, code = done[done["class"] == "chat"], done[done["class"] == "code"]
    good_chat = ((chat["ttft_s"] <= 0.05) & ~(chat["tpot_s"] > 0.006)).sum()
    good_code = (code["e2e_s"] <= 5.0).sum()
    assert 0 < good_chat < len(chat)
    assert classes["chat"]["slo_attainment"] == good_chat / (frame["class"] == "chat").sum()
    assert classes["chat"]["goodput_rps"] == pytest.approx(good_chat / record.end_s)
    offered = frame["class"].isin(["chat", "code"]).sum()
    assert classes["all"]["slo_attainment"] == (good_chat + good_code) / offered
    assert classes["batch"]["slo_attainment"] is classes["batch"]["slo_met"] is classes["batch"]["goodput_rps"] is None
    assert (classes["chat"]["slo_met"], classes["code"]["slo_met"], classes["all"]["slo_met"]) == (False, True, False)


def test_pool_numbers_equal_those_of_the_iterations(record: RunRecord) -> None:
    pool = summarise(record)["pools"]["main"]
    iterations, frame = iterations_frame(record), requests_frame(record)
    assert pool["replicas"] == 2
    assert pool["gpus"] == 8
    assert pool["utilisation"] == pytest.approx(iterations["duration_s"].sum() / (2 * record.end_s))
    seqs = iterations["decode_seqs"] + iterations["prefill_seqs"]
    assert pool["mean_batch_size"] == pytest.approx(seqs.mean())
    assert pool["preemptions"] == frame["preemptions"].sum()
    assert pool["output_tokens"] == frame["generated_tokens"].sum()
    started = frame["ttft_s"].notna()
    assert frame["prompt_tokens"][started].sum() <= pool["prompt_tokens"] <= frame["prompt_tokens"].sum()
    assert 0 < pool["kv_usage"]["mean"] < pool["kv_usage"]["max"] <= 1
    assert pool["cost_usd_per_hour"] == 20.0
    dollars = 20.0 * record.end_s / 3600
    assert pool["cost_usd_per_million_output_tokens"] == pytest.approx(dollars / pool["output_tokens"] * 1e6)


def test_one_class_is_the_same_as_all_and_a_run_of_nothing_is_all_null() -> None:
    single = summarise(record_of(poisson_jobs(50, 20, 50, 20)))["classes"]
    assert single["all"] == single["chat"]
    nothing = summarise(record_of([]))
    assert nothing["classes"]["all"]["offered"] == 0
    assert nothing["classes"]["all"]["ttft_s"] == dict.fromkeys(STATISTICS)
    assert nothing["pools"]["main"]["utilisation"] is None
    json.dumps(nothing, allow_nan=False)


def test_extrapolation_and_overload_are_said_plainly() -> None:
    times = AFFINE.build(Deployment())
    times.validity = Validity(max_decode_seqs=4)
    record = record_of(poisson_jobs(1500, 60, 100, 100), EngineSettings(max_num_seqs=8), times)
    warnings = summarise(record)["warnings"]
    busy = iterations_frame(record)
    share = busy["duration_s"][busy["decode_seqs"] > 4].sum() / busy["duration_s"].sum()
    assert any(f"{100 * share:.3g} % of busy time" in text and "(checked to 4)" in text for text in warnings)
    assert any("is overloaded" in text for text in warnings)
    assert summarise(record_of(poisson_jobs(50, 2, 50, 20)))["warnings"] == []


@pytest.mark.parametrize("width", [80, 120])
def test_table_is_readable_without_colour_at_any_width(record: RunRecord, width: int) -> None:
    summary = summarise(record)
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        print_summary({**summary, "warnings": ["pool main [x]: beware"]}, console)
    text = capture.get()
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for expected in ("chat", "batch", "code", "MISSED", "WARNING pool main [x]: beware", "interference", "TTFT", "ITL"):
        assert expected in text
    assert f"{summary['classes']['all']['offered']:,}" in text


def test_table_of_a_run_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(summarise(record_of([])), Console(width=80))
    assert "chat" in capsys.readouterr().out
