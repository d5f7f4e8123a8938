"""A run that begins empty and ends soon flatters any size: where it says "meets", a longer one has to say it too."""

import json
import math
from pathlib import Path

import pytest
from click.testing import CliRunner

from servesim.cli import main
from servesim.experiment.planning import decide
from servesim.experiment.planning.plan import Planner
from servesim.experiment.planning.search import Found
from servesim.scenario.load_plan import LoadedPlan, load_plan

RATE_RPS, ALLOWED_S, ATTAINMENT = 0.9, 9.0, 0.9
"""M/M/1 with services of 1 s: exp(-(1 - 0.9) 9) = 41 % take longer than 9 s, not 10 %; with two servers hardly any."""
LENGTHS = "".join(f"\n        {name}: 1" for name in ("prompt_tokens", "output_tokens"))
PLAN = """
name: short
scenario:
  name: short
  workload:
    classes:
      calls:
        arrivals: {arrivals}
        slo: {{e2e_s: {allowed_s}, attainment: {attainment}}}
  pools: {{main: {{engine: {{kind: station}}, service_time: {{kind: exponential, mean_s: 1}}}}}}
space: {{servers: {{least: 1, most: 3}}}}
replications: {{first: 8, most: 256}}
rank: 1
"""


def plan(folder: Path, arrivals: str) -> LoadedPlan:
    """Return a plan of that queue with some arrivals."""
    file = folder / "short.yaml"
    file.write_text(PLAN.format(arrivals=arrivals, allowed_s=ALLOWED_S, attainment=ATTAINMENT), encoding="utf-8")
    return load_plan(file)


def best(loaded: LoadedPlan) -> Found:
    return Planner(loaded, seed=3).search().found[0]


def poisson(duration_s: float) -> str:
    return f"{{kind: poisson, request_rate_rps: {RATE_RPS}}}{LENGTHS}\n        duration_s: {duration_s}"


def test_the_queue_of_these_tests_misses_with_one_server_for_long() -> None:
    assert math.exp(-(1 - RATE_RPS) * ALLOWED_S) > 3 * (1 - ATTAINMENT)


def test_a_size_that_seems_enough_only_because_the_run_is_short_is_not_the_answer(tmp_path: Path) -> None:
    found = best(plan(tmp_path, poisson(12)))
    assert found.size == 2
    assert not found.ties
    lasted_s = min(one.arrivals_s for one in found.trial.observations)
    assert lasted_s > 0.9 * 10 * ALLOWED_S
    assert not found.judgement.short


def test_without_longer_runs_that_size_is_the_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wrong rule, which must give the wrong answer: else the test above would show nothing."""
    monkeypatch.setattr(decide, "too_short", lambda *_: False)
    assert best(plan(tmp_path, poisson(12))).size == 1


def test_runs_that_last_long_enough_stay_as_they_are(tmp_path: Path) -> None:
    loaded = plan(tmp_path, poisson(150))
    found = best(loaded)
    assert found.trial.scenario.workload == loaded.scenario.workload


def test_a_short_recording_cannot_be_made_longer_and_gets_a_warning(tmp_path: Path) -> None:
    rows = [f"2024-05-10 00:00:{number / RATE_RPS:09.6f},1,1" for number in range(45)]
    (tmp_path / "trace.csv").write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]) + "\n")
    plan(tmp_path, "{kind: azure_trace, path: trace.csv}")
    command = ["plan", str(tmp_path / "short.yaml"), "--quiet", "-o", str(tmp_path / "out")]
    found = CliRunner().invoke(main, command)
    assert found.exit_code == 0, found.output
    said = "WARNING: the runs of as it is end before a backlog would be felt and cannot be made longer"
    assert said in " ".join(found.stdout.split())
    assert json.loads((tmp_path / "out" / "plan.json").read_text())["ranked"][0]["short"] is True
