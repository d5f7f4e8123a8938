"""Sweeps: the same bytes however they were made, nothing silently missing, one sweep at a time in a folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pytest

from servesim import load, registry, simulate, sweep
from servesim.errors import InputError, ServesimError
from servesim.experiment import sweep_point
from servesim.experiment.executors import executor
from servesim.experiment.replicate import replicate
from servesim.experiment.sensitivity import plan_sensitivity, sensitivity
from servesim.experiment.sweep import plan_sweep, run_plan, write_outputs
from servesim.experiment.sweep_folder import SweepFolder
from servesim.experiment.sweep_key import point_key
from servesim.experiment.sweep_pilot import estimate
from servesim.experiment.sweep_point import Task, run_task
from servesim.experiment.sweep_table import frontier
from servesim.policies.routing.power_of_d import PowerOfD
from servesim.policies.routing.random import Random
from servesim.policies.routing.round_robin import RoundRobin
from servesim.registry import kinds, register
from servesim.scenario.load import parse
from servesim.scenario.load_sweep import Base, asked_of_values
from servesim.scenario.schema import Scenario
from tests.data import ROOT

SMALL = """\
name: small
workload:
  num_requests: 300
  classes:
    chat:
      arrivals: {kind: poisson, request_rate_rps: 5.0}
      prompt_tokens: 64
      output_tokens: {kind: uniform, min_tokens: 8, max_tokens: 24}
      slo: {ttft_s: 1.0, attainment: 0.9}
pools:
  main: {replicas: 2, usd_per_gpu_hour: 2.0, service_time: {kind: affine, base_s: 0.01}}
"""
SHORT = SMALL.replace("{kind: uniform, min_tokens: 8, max_tokens: 24}", "16").replace(
    "replicas: 2,", "replicas: 2, router: power_of_d,"
)
RATE = "workload.classes.chat.arrivals.request_rate_rps"
VARY = {RATE: [2, 8], "pools.main.replicas": [1, 2]}


def mean(cls: type[Any]) -> type[Any]:
    """Make a router of a class without offering it to anybody else: other tests go over all that are registered."""
    before = dict(kinds("router"))
    register("router")(cls)
    registry._FAMILIES["router"] = before
    return cls


@mean
class KillsItsProcess(RoundRobin):
    """A policy that takes its worker with it, until the file `once` is there (or for ever, if that is not given)."""

    kind: Literal["kills_its_process"] = "kills_its_process"
    once: str = ""

    def live(self) -> Any:
        """Die, or be round robin."""
        if not (self.once and Path(self.once).exists()):
            if self.once:
                Path(self.once).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().live()


@mean
class Fails(RoundRobin):
    """A policy with a fault in it."""

    kind: Literal["fails"] = "fails"

    def live(self) -> Any:
        """Fail."""
        raise ZeroDivisionError("a fault of the policy's own")


@pytest.fixture
def small() -> Scenario:
    return parse(SMALL)


@pytest.fixture
def mean_routers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Offer the routers above while a test runs."""
    mine = {"fails": Fails, "kills_its_process": KillsItsProcess}
    with monkeypatch.context() as patch:
        patch.setitem(registry._FAMILIES, "router", kinds("router") | mine)
        registry._REGISTERED.append("the test begins")
        yield
    registry._REGISTERED.append("the test is over")


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_points_are_replications_under_the_same_seeds(small: Scenario) -> None:
    table = sweep(small, VARY, replications=3)
    assert table[RATE].tolist() == [2, 2, 8, 8]
    assert table["pools.main.replicas"].tolist() == [1, 2, 1, 2]
    (scenario,) = [
        point.scenario for point in Base(small).points(asked_of_values({RATE: [8], "pools.main.replicas": [1]}))
    ]
    alone = replicate(scenario, 3).summary
    assert table["e2e_s.p99"][2] == alone["classes"]["all"]["e2e_s"]["p99"]
    assert table["e2e_s.mean.low"][2] == alone["intervals"]["classes"]["all"]["e2e_s"]["mean"]["low"]
    assert (table["status"] == "ok").all()


def test_one_run_has_the_intervals_of_one_run(small: Scenario) -> None:
    scenario = small.model_copy(update={"workload": small.workload.model_copy(update={"num_requests": 20_000})})
    table = sweep(scenario, {"seed": [3]})
    summary = simulate(scenario, 3).summary
    assert table["e2e_s.mean.high"][0] == summary["intervals"]["classes"]["all"]["e2e_s"]["mean"]["high"]


def test_workers_and_resuming_change_no_byte(small: Scenario, tmp_path: Path) -> None:
    whole, two, torn = (tmp_path / name for name in ("whole", "two", "torn"))
    sweep(small, VARY, replications=2, directory=whole)
    sweep(small, VARY, replications=2, directory=two, workers=2)
    sweep(small, {RATE: [8], "pools.main.replicas": [2]}, replications=2, directory=torn)
    (torn / "points" / "half.json.part").write_text("{")
    cut = next((whole / "points").glob("*.json")).name
    (torn / "points" / cut).write_text('{"key": "cut off')
    told: list[tuple[int, int]] = []
    table = sweep(small, VARY, replications=2, directory=torn, resume=True, progress=lambda *d: told.append(d))
    assert files(whole) == files(two) == files(torn)
    assert told[0][0] in (0, 1)
    pd.testing.assert_frame_equal(pd.read_parquet(whole / "points.parquet"), table, check_dtype=False)
    document = json.loads((whole / "sweep.json").read_text())
    assert [point["index"] for point in document["points"]] == [0, 1, 2, 3]


def test_what_is_there_is_not_run_again(small: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep(small, VARY, directory=tmp_path / "s")
    monkeypatch.setattr(sweep_point, "replicate", lambda *_: pytest.fail("ran a point again"))
    sweep(small, VARY, directory=tmp_path / "s", resume=True)


def test_the_key_knows_what_matters(small: Scenario, tmp_path: Path) -> None:
    key = point_key(small, 1, 2)
    assert key == point_key(parse(SMALL), 1, 2)
    changed = small.model_copy(update={"description": "other"})
    assert len({key, point_key(small, 1, 3), point_key(small, 2, 2), point_key(changed, 1, 2)}) == 4
    log = tmp_path / "log.csv"
    log.write_text("arrival,prompt_tokens,output_tokens\n0,8,4\n1,8,4\n")
    text = SMALL.replace("{kind: poisson, request_rate_rps: 5.0}", "{kind: log, path: log.csv}")
    text = "\n".join(line for line in text.splitlines() if "prompt_tokens" not in line and "output_tokens" not in line)
    logged = parse(text, folder=tmp_path)
    before = point_key(logged, 0, 1)
    log.write_text("arrival,prompt_tokens,output_tokens\n0,8,4\n2,8,4\n")
    assert point_key(logged, 0, 1) != before


@pytest.mark.usefixtures("mean_routers")
def test_failed_points_are_rows_with_their_error(small: Scenario, tmp_path: Path) -> None:
    routers = ["round_robin", Fails(), "random"]
    vary = {"pools.main.router": routers, "pools.main.gpu": [None]}
    table = sweep(small, vary, directory=tmp_path / "s", workers=1)
    assert table["status"].tolist() == ["ok", "failed", "ok"]
    assert table["error"][1] == "a fault of the policy's own"
    assert table["pools.main.router"].tolist() == ["round_robin", "fails", "random"]
    (failed,) = [row for row in json.loads((tmp_path / "s" / "sweep.json").read_text())["points"] if row["error"]]
    assert failed["error"]["type"] == "ZeroDivisionError"
    tried: list[int] = []
    plan = plan_sweep(Base(small), asked_of_values(vary))

    def counting(tasks: list[Task]) -> Any:
        tried.extend(task.index for task in tasks)
        return map(run_task, tasks)

    run_plan(plan, counting)
    assert tried == [0, 1, 2, 0]  # the failed one is the only one left for the second round


def test_points_that_cannot_be_run_are_told_before_anything_runs(small: Scenario) -> None:
    table = sweep(small, {"pools.main.service_time": ["calibrated", {"kind": "affine", "base_s": 0.02}]})
    assert table["status"].tolist() == ["failed", "ok"]
    with pytest.raises(InputError, match="model"):
        sweep(small, {"pools.main.service_time": ["calibrated"]})


@pytest.mark.usefixtures("mean_routers")
def test_a_worker_that_is_killed_costs_only_time(small: Scenario, tmp_path: Path) -> None:
    once = tmp_path / "died"
    routers = ["round_robin", KillsItsProcess(once=str(once)), Random(), "least_outstanding"]
    table = sweep(small, {"pools.main.router": routers}, workers=2)
    assert once.exists()
    assert (table["status"] == "ok").all()
    again = sweep(small, {"pools.main.router": routers})
    pd.testing.assert_frame_equal(table, again)


@pytest.mark.slow
@pytest.mark.usefixtures("mean_routers")
def test_a_point_that_always_kills_its_worker_has_failed(small: Scenario) -> None:
    table = sweep(small, {"pools.main.router": [KillsItsProcess(), "round_robin"]}, workers=2)
    assert table["status"].tolist() == ["failed", "ok"]
    assert "worker process died" in table["error"][0]


def test_two_sweeps_refuse_each_other_and_a_dead_one_does_not_block(small: Scenario, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom servesim.experiment.sweep_folder import SweepFolder\n"
        f"with SweepFolder({str(tmp_path / 's')!r}):\n    print('locked', flush=True)\n    sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=-1, stdout=-1, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(ServesimError, match=rf"another sweep \(process {holder.pid}\) is at work here"):
            sweep(small, VARY, directory=tmp_path / "s")
        holder.kill()
        holder.wait()
    sweep(small, VARY, directory=tmp_path / "s")


def test_a_folder_is_not_taken_by_surprise(small: Scenario, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"it holds 'notes.txt'"):
        sweep(small, VARY, directory=tmp_path)
    sweep(small, {"seed": [1]}, directory=tmp_path / "s")
    with pytest.raises(InputError, match="--resume goes on"):
        sweep(small, {"seed": [1]}, directory=tmp_path / "s")


def test_killed_between_points_and_outputs_nothing_old_is_left(small: Scenario, tmp_path: Path) -> None:
    base = Base(small)
    with SweepFolder(tmp_path / "s") as folder:
        write_outputs(run_plan(plan_sweep(base, asked_of_values({"seed": [1]})), executor("local", 1), folder), folder)
    with SweepFolder(tmp_path / "s", resume=True) as folder:
        run_plan(plan_sweep(base, asked_of_values({"seed": [1, 2]})), executor("local", 1), folder)
    assert not (tmp_path / "s" / "sweep.json").exists()
    assert len(list((tmp_path / "s" / "points").iterdir())) == 2


def test_the_frontier_is_what_nothing_beats() -> None:
    def row(index: int, per_gpu: float, per_user: float, overloaded: bool = False) -> dict[str, Any]:
        metrics = {"tps_per_gpu": {"value": per_gpu}, "tps_per_user": {"value": per_user}}
        return {"index": index, "overloaded": overloaded, "metrics": metrics}

    rows = [row(0, 10, 1), row(1, 5, 5), row(2, 4, 4), row(3, 1, 9), row(4, 99, 99, overloaded=True), row(5, 5, 5)]
    assert frontier(rows) == [0, 1, 3]


def test_an_estimate_counts_requests(small: Scenario) -> None:
    plan = plan_sweep(Base(small), asked_of_values({"workload.num_requests": [100, 5000]}), 4)
    found = estimate(plan, 2)
    assert found.requests == [100, 5000]
    assert found.wall_s == pytest.approx(found.cpu_s_per_request * 5100 * 4 / 2)
    chat = load(ROOT / "scenarios" / "chat-llama31-8b-a100.yaml")
    plan = plan_sweep(Base(chat), asked_of_values({RATE: [2, 20]}))
    assert estimate(plan, 1).requests == pytest.approx([7200, 72_000], rel=0.05)


def test_sensitivity_ranks_what_moves_p99(small: Scenario) -> None:
    asked = plan_sensitivity(Base(small), 3)
    tried = {(nudge.path, nudge.after) for nudge in asked.nudges}
    assert {(RATE, 10.0), (RATE, 2.5), ("pools.main.replicas", 4), ("pools.main.replicas", 1)} <= tried
    assert not any("num_requests" in path or ".slo." in path for path, _ in tried)
    found = sensitivity(run_plan(asked.plan, executor("local", 1)), asked)
    by_set = {(row["set"], row["to"]): row for row in found["changes"]}
    slower = by_set["pools.main.service_time.base_s", 0.02]["effects"]["p99_e2e_s"]
    assert slower["rank"] == 1
    assert 0 < slower["low"] < slower["value"] < slower["high"]
    price = by_set["pools.main.usd_per_gpu_hour", 4.0]["effects"]
    dearer = price["usd_per_million_output_tokens"]
    assert (dearer["value"], dearer["low"], dearer["high"]) == pytest.approx((1.0, 1.0, 1.0))
    assert price["p99_e2e_s"]["value"] == 0
    sizes = [abs(row["effects"]["p99_e2e_s"]["value"]) for row in found["changes"]]
    assert sizes == sorted(sizes, reverse=True)


def test_sensitivity_moves_what_is_written_in_short(tmp_path: Path) -> None:
    file = tmp_path / "short.yaml"
    file.write_text(SHORT)
    asked = plan_sensitivity(Base(file), 2)
    moved = {(nudge.path.rpartition("classes.")[2], nudge.after): index for index, nudge in enumerate(asked.nudges, 1)}
    longer = asked.plan.points[moved["chat.prompt_tokens", 128]].point.scenario.workload.classes["chat"]
    assert longer.prompt_tokens.tokens == 128
    wider = asked.plan.points[moved["pools.main.router.d", 4]].point.scenario.pools["main"]
    assert wider.router == PowerOfD(d=4)
    assert not [nudge.path for nudge, _ in asked.skipped if "tokens" in nudge.path or "router" in nudge.path]
    found = sensitivity(run_plan(asked.plan, executor("local", 1)), asked)
    longest = next(row for row in found["changes"] if row["set"].endswith("output_tokens") and row["to"] == 32)
    assert longest["effects"]["p99_e2e_s"]["value"] > 0.5


@pytest.mark.parametrize("name", ["loky", "dask:/x", "dask://", "local://x"])
def test_unknown_executors_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="expected local, dask"):
        executor(name, 2)


@pytest.mark.usefixtures("mean_routers")
def test_dask_runs_the_same(small: Scenario, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    here = sweep(small, VARY, replications=2)
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        address = cluster.scheduler_address.removeprefix("tcp://")
        there = sweep(small, VARY, replications=2, executor=f"dask://{address}")
        pd.testing.assert_frame_equal(here, there)
        routers = [KillsItsProcess(once=str(tmp_path / "died")), "round_robin"]
        killed = sweep(small, {"pools.main.router": routers}, executor=f"dask://{address}")
    assert (killed["status"] == "ok").all()
    assert (tmp_path / "died").exists()


@pytest.mark.slow
def test_ray_runs_the_same(small: Scenario) -> None:
    pytest.importorskip("ray")
    pd.testing.assert_frame_equal(sweep(small, VARY), sweep(small, VARY, executor="ray", workers=2))
