"""One run through the public interface: both engines agree, the same seed gives the same bytes, nothing is lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import servesim
from servesim.errors import InputError, LimitReached, ServesimError
from servesim.registry import kinds
from tests.data import ROOT, shared_data

TIMES = {"kind": "affine", "base_s": 0.008, "per_token_s": 6e-5, "per_context_token_s": 1e-7}


def scenario(**changes: Any) -> servesim.Scenario:
    """Return two classes on two pools, small enough to run in a blink; `changes` go to the engine of `main`."""
    return servesim.Scenario.model_validate(
        {
            "name": "two-by-two",
            "workload": {
                "num_requests": 300,
                "classes": {
                    "chat": {
                        "arrivals": {"kind": "gamma", "request_rate_rps": 20.0, "burstiness": 0.5},
                        "prompt_tokens": {"kind": "lognormal", "median_tokens": 200, "sigma": 0.8},
                        "output_tokens": {"kind": "geometric", "mean_tokens": 60.0},
                        "slo": {"ttft_s": 0.5, "tpot_s": 0.05, "attainment": 0.9},
                        "timeout_s": 20.0,
                        "pool": "main",
                    },
                    "batch": {
                        "arrivals": {"kind": "closed_loop", "max_concurrency": 12, "think_time_s": 0.1},
                        "prompt_tokens": 900,
                        "output_tokens": {"kind": "uniform", "min_tokens": 1, "max_tokens": 80},
                        "priority": 5,
                        "pool": "side",
                    },
                },
            },
            "pools": {
                "main": {
                    "replicas": 2,
                    "router": "least_outstanding",
                    "engine": {
                        "max_num_seqs": 16,
                        "max_num_batched_tokens": 512,
                        "max_model_len": 4096,
                        "num_gpu_blocks": 300,
                        "host_time_s": 0.001,
                        **changes,
                    },
                    "service_time": TIMES,
                },
                "side": {"engine": {"max_num_seqs": 8, "scheduler": "priority"}, "service_time": TIMES},
            },
        }
    )


@pytest.mark.parametrize("ahead", [True, False])
def test_both_engines_give_the_same_summary(ahead: bool) -> None:
    case = scenario(async_scheduling=ahead)
    spans, steps = servesim.simulate(case, 3), servesim.simulate(case, 3, reference=True)
    assert spans.requests["preemptions"].max() > 0
    pd.testing.assert_frame_equal(spans.requests, steps.requests, rtol=1e-9)
    flat = [pd.json_normalize(r.summary["classes"]).iloc[0] for r in (spans, steps)]
    pd.testing.assert_series_equal(*flat, rtol=1e-9)


def test_the_same_seed_gives_the_same_bytes_in_any_process(tmp_path: Path) -> None:
    file = ROOT / "scenarios" / "chat-llama31-8b-a100.yaml"
    short = "workload.duration_s=60"
    servesim.simulate(servesim.load(file, [short]), 7).write(tmp_path / "here")
    code = "import servesim, sys; servesim.simulate(servesim.load(sys.argv[1], [sys.argv[2]]), 7).write(sys.argv[3])"
    command = [sys.executable, "-c", code, str(file), short, str(tmp_path / "there")]
    subprocess.run(command, check=True, env={"PYTHONHASHSEED": "123", "PATH": ""}, cwd=ROOT)
    names = ["requests.parquet", "scenario.resolved.yaml", "summary.json", "timeseries.parquet"]
    assert sorted(p.name for p in (tmp_path / "here").iterdir()) == names
    for name in names:
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes(), name


def test_another_seed_gives_another_run() -> None:
    case = scenario()
    assert not servesim.simulate(case, 1).requests.equals(servesim.simulate(case, 2).requests)


def test_the_resolved_scenario_runs_the_same(tmp_path: Path) -> None:
    first = servesim.simulate(servesim.load(ROOT / "scenarios/chat-llama31-8b-a100.yaml", ["workload.duration_s=30"]))
    first.write(tmp_path / "out")
    again = servesim.simulate(servesim.load(tmp_path / "out" / "scenario.resolved.yaml"))
    pd.testing.assert_frame_equal(first.requests, again.requests)
    engine = again.scenario.pools["a100"].engine
    assert (engine.max_num_seqs, engine.max_num_batched_tokens) == (256, 2048)  # what vLLM takes on an A100
    assert isinstance(engine.num_gpu_blocks, int)


def test_two_systems_under_one_seed_see_the_same_requests() -> None:
    small, large = servesim.simulate(scenario(), 5), servesim.simulate(scenario(max_num_seqs=4), 5)
    columns = ["request_id", "arrival_s", "prompt_tokens", "output_tokens"]
    open_loop = [r.requests[r.requests["class"] == "chat"][columns[1:]].reset_index(drop=True) for r in (small, large)]
    pd.testing.assert_frame_equal(*open_loop)


def test_token_times_end_with_the_last_token_and_pool_to_the_itl() -> None:
    result = servesim.simulate(scenario(), 2)
    done = result.requests[(result.requests["class"] == "batch") & (result.requests["outcome"] == "completed")]
    gaps = []
    for row in done.itertuples():
        times = result.token_times(row.request_id)
        assert len(times) == row.output_tokens
        assert times[0] == pytest.approx(row.arrival_s + row.ttft_s, abs=1e-9)
        assert times[-1] == pytest.approx(row.arrival_s + row.e2e_s, abs=1e-9)
        gaps += np.diff(times).tolist()
    itl = result.summary["classes"]["batch"]["itl_s"]
    assert itl["p99"] == pytest.approx(np.percentile(gaps, 99), rel=1e-9)
    assert itl["mean"] == pytest.approx(np.mean(gaps), rel=1e-9)


def test_iterations_follow_each_other_without_a_gap_while_requests_are_inside() -> None:
    result = servesim.simulate(scenario(), 2)
    replica = result.iterations[result.iterations["replica"] == 0]
    gap = replica["start_s"].to_numpy()[1:] - (replica["start_s"] + replica["duration_s"]).to_numpy()[:-1]
    assert (gap >= -1e-9).all()
    mine = result.requests[result.requests["replica"] == 0]
    for pause, resumed in zip(gap[gap > 1e-9], replica["start_s"].to_numpy()[1:][gap > 1e-9], strict=True):
        inside = (mine["arrival_s"] < resumed - 1e-9) & (mine["finish_s"] > resumed - pause + 1e-9)
        assert not inside.any()


def test_requests_that_can_never_fit_are_rejected_with_the_reason() -> None:
    result = servesim.simulate(scenario(max_model_len=300), 2)
    chat = result.summary["classes"]["chat"]
    assert chat["rejected"] > 0
    assert chat["offered"] == chat["completed"] + chat["rejected"] + chat["timed_out"]
    assert any("exceeds max_model_len" in w for w in result.summary["warnings"])


def test_timeouts_count_against_goodput() -> None:
    case = scenario(max_num_seqs=1, max_num_batched_tokens=64)
    result = servesim.simulate(case, 2)
    chat = result.summary["classes"]["chat"]
    assert chat["timed_out"] > 0
    assert chat["slo_attainment"] <= chat["completed"] / chat["offered"]
    assert result.overloaded


@pytest.mark.parametrize(
    "cap", [{"max_time_s": 1.0}, {"max_events": 500}, {"max_memory_bytes": 1000}, {"max_events_per_instant": 20}]
)
def test_caps_stop_a_run(cap: dict[str, float]) -> None:
    case = scenario()
    if "max_events_per_instant" in cap:
        burst = case.workload.classes["chat"].model_copy(update={"arrivals": kinds("arrivals")["all_at_once"]()})
        classes = {**case.workload.classes, "chat": burst}
        case = case.model_copy(update={"workload": case.workload.model_copy(update={"classes": classes})})
    limits = case.limits.model_copy(update={"max_time_s": 1e8, **cap})
    with pytest.raises(LimitReached, match=next(iter(cap))):
        servesim.simulate(case.model_copy(update={"limits": limits}))


def test_a_closed_loop_that_only_gets_refusals_is_stopped() -> None:
    case = scenario()
    loop = case.workload.classes["batch"].model_copy(update={"num_requests": None, "duration_s": 5.0})
    eager = loop.model_copy(update={"arrivals": loop.arrivals.model_copy(update={"think_time_s": 0.0})})
    side = case.pools["side"]
    side = side.model_copy(update={"engine": side.engine.model_copy(update={"max_model_len": 100})})
    workload = case.workload.model_copy(update={"classes": {"batch": eager}})
    with pytest.raises(LimitReached, match="all rejected: exceeds max_model_len"):
        servesim.simulate(case.model_copy(update={"workload": workload, "pools": {"side": side}}))


@pytest.mark.parametrize("seed", [-1, 1.5, "x", True])
def test_a_seed_is_a_whole_number(seed: Any) -> None:
    with pytest.raises(InputError, match="a seed is"):
        servesim.simulate(scenario(), seed)


def test_a_run_without_requests_leaves_whole_tables(tmp_path: Path) -> None:
    file = ROOT / "scenarios" / "chat-llama31-8b-a100.yaml"
    result = servesim.simulate(servesim.load(file, ["workload.duration_s=1e-6"]))
    result.write(tmp_path / "out")
    assert len(pd.read_parquet(tmp_path / "out" / "requests.parquet")) == 0
    assert "ttft_s" in result.requests.columns
    assert "duration_s" in result.iterations.columns


def test_work_after_the_last_client_gave_up_belongs_to_the_run() -> None:
    case = scenario(max_num_seqs=1, max_num_batched_tokens=64)
    chat = case.workload.classes["chat"].model_copy(update={"timeout_s": 0.05})
    workload = case.workload.model_copy(update={"classes": {"chat": chat}})
    pools = {"main": case.pools["main"]}
    pool = servesim.simulate(case.model_copy(update={"workload": workload, "pools": pools}), 2).summary["pools"]["main"]
    assert pool["utilisation"] <= 1.0
    assert pool["kv_usage"]["mean"] <= pool["kv_usage"]["max"]


def test_a_client_far_away_gives_up_earlier_at_the_server() -> None:
    near = scenario()
    far = near.model_copy(
        update={"client": near.client.model_copy(update={"clock": "client", "response_network_s": 19.9})}
    )
    counts = [servesim.simulate(case, 1).summary["classes"]["chat"]["timed_out"] for case in (near, far)]
    assert counts[1] > counts[0]


@pytest.mark.parametrize("seed", range(12))
def test_both_engines_agree_on_who_is_next_when_several_end_at_once(seed: int) -> None:
    """Closed loops of two classes, equal requests, ties everywhere: the order of ends decides what is sent next."""
    draw = np.random.default_rng(seed)

    def loop(priority: int) -> dict[str, Any]:
        return {
            "arrivals": {"kind": "closed_loop", "max_concurrency": int(draw.integers(1, 6))},
            "prompt_tokens": int(draw.integers(1, 20)),
            "output_tokens": {"kind": "uniform", "min_tokens": 1, "max_tokens": int(draw.integers(1, 5))},
            "priority": priority,
            "num_requests": 60,
        }

    case = servesim.Scenario.model_validate(
        {
            "name": "ties",
            "workload": {"classes": {"low": loop(1), "high": loop(0)}},
            "pools": {
                "p": {
                    "replicas": int(draw.integers(1, 4)),
                    "router": str(draw.choice(["round_robin", "least_outstanding"])),
                    "engine": {
                        "max_num_seqs": int(draw.integers(1, 5)),
                        "max_num_batched_tokens": 32,
                        "async_scheduling": bool(draw.integers(2)),
                        "block_size": 4,
                        "num_gpu_blocks": 14,
                        "scheduler": str(draw.choice(["fcfs", "priority", "shortest_prompt"])),
                    },
                    "service_time": {"kind": "affine", "base_s": 0.0078125},
                }
            },
        }
    )
    spans, steps = servesim.simulate(case, seed), servesim.simulate(case, seed, reference=True)
    pd.testing.assert_frame_equal(spans.requests, steps.requests, rtol=1e-9)


def test_iterations_that_take_no_time_are_no_obstacle() -> None:
    case = scenario()
    pools = {
        name: pool.model_copy(update={"service_time": type(pool.service_time)()}) for name, pool in case.pools.items()
    }
    result = servesim.simulate(case.model_copy(update={"pools": pools}))
    assert result.summary["classes"]["all"]["completed"] > 0


def test_a_model_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="does not fit"):
        servesim.simulate(
            servesim.load(
                ROOT / "scenarios/chat-llama31-8b-a100.yaml",
                ["pools.a100.gpu=t4", "pools.a100.service_time={kind: roofline}"],
            )
        )


def test_the_recorded_azure_hour_is_replayed() -> None:
    trace = shared_data("traces", "azure2023", "AzureLLMInferenceTrace_conv.csv")
    file = ROOT / "scenarios" / "replay-azure-conv.yaml"
    path = f"workload.classes.conversation.arrivals.path={trace}"
    result = servesim.simulate(servesim.load(file, [path]))
    summary = result.summary["classes"]["conversation"]
    assert summary["offered"] == summary["completed"] == 19_366
    assert 0.05 < summary["ttft_s"]["p50"] < 0.5
    json.dumps(result.summary, allow_nan=False)


@pytest.mark.parametrize(("target_s", "met"), [(0.001, False), (10.0, True)])
def test_a_target_for_the_pooled_itl_is_judged_apart_from_goodput(target_s: float, met: bool) -> None:
    case = scenario()
    chat = case.workload.classes["chat"]
    slo = chat.slo.model_copy(update={"itl_s": target_s})
    classes = {**case.workload.classes, "chat": chat.model_copy(update={"slo": slo})}
    workload = case.workload.model_copy(update={"classes": classes})
    with_target = servesim.simulate(case.model_copy(update={"workload": workload})).summary["classes"]
    without = servesim.simulate(case).summary["classes"]
    assert with_target["chat"]["itl_met"] is met
    assert with_target["all"]["itl_met"] is met
    assert without["chat"]["itl_met"] is None
    assert with_target["chat"]["goodput_rps"] == without["chat"]["goodput_rps"]


def test_writing_never_replaces_a_directory_that_is_no_result(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.txt").write_text("years of work")
    result = servesim.simulate(scenario())
    with pytest.raises(ServesimError, match="not a result"):
        result.write(tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter1.txt").read_text() == "years of work"
    result.write(tmp_path / "out")
    result.write(tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
