"""What each window needs is known where requests come evenly and take equally long."""

import json
import math
from pathlib import Path

import pytest
from click.testing import CliRunner

from servesim.cli import main
from servesim.errors import InputError
from servesim.experiment.planning.over_time import over_runs, over_time
from servesim.report.over_time import words
from servesim.scenario.load_plan import LoadedPlan, load_plan

RUNNER = CliRunner()
STEPS = ((0.0, 3.0), (60.0, 9.0), (120.0, 6.0))
"""Requests/s from each time on; each takes 0.3 s, and none may wait: 0.9, 2.7 and 1.8 servers are busy."""


def steps(folder: Path, scenario: str = "", ends_s: float = 180.0) -> Path:
    """Write a trace of evenly spaced requests and a scenario that replays it; return the scenario."""
    times: list[float] = []
    for index, (start_s, rate) in enumerate(STEPS):
        end_s = STEPS[index + 1][0] if index + 1 < len(STEPS) else ends_s
        times += [start_s + number / rate for number in range(round((end_s - start_s) * rate))]
    rows = [f"2024-05-10 {int(t // 3600):02d}:{int(t % 3600 // 60):02d}:{t % 60:09.6f},1,1" for t in times]
    (folder / "trace.csv").write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]) + "\n")
    file = folder / "steps.yaml"
    file.write_text(scenario or SCENARIO)
    return file


SCENARIO = """
name: steps
workload:
  classes:
    a: {arrivals: {kind: azure_trace, path: trace.csv}, slo: {queue_s: 0.001, attainment: 0.95}}
pools:
  main: {engine: {kind: station}, service_time: {kind: constant, mean_s: 0.3}}
"""


def test_each_window_needs_what_its_load_keeps_busy(tmp_path: Path) -> None:
    found = over_time(load_plan(steps(tmp_path), needs_space=False), window_s=30.0)
    assert [one["replicas"] for one in found["windows"]] == [1, 1, 3, 3, 2, 2]
    assert [one["rate_rps"] for one in found["windows"]] == pytest.approx([3, 3, 9, 9, 6, 6], rel=0.01)
    assert found["static"]["replicas"] == 3
    assert found["perfect"]["replicas"] == 2
    assert found["saving_at_most"] == pytest.approx(1 / 3)
    assert found["static"]["gpu_hours"] == pytest.approx(3 * 180 / 3600)
    assert found["perfect"]["gpu_hours"] == pytest.approx(2 * 180 / 3600)
    assert found["replications"] == 1


def test_a_window_of_mixed_load_needs_what_its_worst_part_does(tmp_path: Path) -> None:
    found = over_time(load_plan(steps(tmp_path), needs_space=False), window_s=90.0)
    assert [one["replicas"] for one in found["windows"]] == [3, 3]


def test_the_run_as_a_whole_may_do_with_fewer(tmp_path: Path) -> None:
    """With 2 the second minute's requests wait, and those of the 210 s it takes to work off what is left; no others."""
    scenario = SCENARIO.replace("attainment: 0.95", "attainment: 0.45")
    found = over_time(load_plan(steps(tmp_path, scenario, 600.0), needs_space=False), window_s=60.0)
    assert [one["replicas"] for one in found["windows"]] == [1, 3, *[2] * 8]
    assert found["static"]["replicas"] == 3
    assert found["whole_run"]["replicas"] == 2


def test_windows_without_requests_need_nothing(tmp_path: Path) -> None:
    scenario = SCENARIO.replace("path: trace.csv", "path: trace.csv, end_s: 20")
    file = steps(tmp_path, scenario)
    lines = (tmp_path / "trace.csv").read_text().splitlines()
    (tmp_path / "trace.csv").write_text("\n".join([*lines[:10], *lines[50:]]) + "\n")
    found = over_time(load_plan(file, needs_space=False), window_s=5.0)
    assert [one["replicas"] for one in found["windows"]] == [1, 0, 0, 1]


def test_what_no_size_can_do_is_left_out_and_said(tmp_path: Path) -> None:
    scenario = SCENARIO.replace("queue_s: 0.001", "e2e_s: 0.2")
    found = RUNNER.invoke(main, ["plan", str(steps(tmp_path, scenario)), "--over-time", "--window", "60", "--quiet"])
    assert found.exit_code == 3, found.output
    assert "In 3 of 3 windows no number of replicas meets the SLO" in found.stdout.replace("\n  ", " ")


def test_an_answer_has_a_table_files_and_a_picture(tmp_path: Path) -> None:
    command = ["plan", str(steps(tmp_path)), "--over-time", "--window", "30", "--quiet", "-o", str(tmp_path / "out")]
    found = RUNNER.invoke(main, command)
    assert found.exit_code == 0, found.output
    assert "No autoscaler can save more than 33 %" in found.stdout
    assert {entry.name for entry in (tmp_path / "out").iterdir()} == {"plan.json", "plan.md", "plan.png"}
    answer = json.loads((tmp_path / "out" / "plan.json").read_text())
    assert answer["unit"] == "replicas"
    again = RUNNER.invoke(main, [*command, "--workers", "2", "--format", "json"])
    assert json.loads(again.stdout) == answer


def day(folder: Path) -> LoadedPlan:
    """Return the same queue with random arrivals, whose rate rises and falls."""
    file = folder / "day.yaml"
    file.write_text(
        SCENARIO.replace("{kind: azure_trace, path: trace.csv}",
                         "{kind: nhpp, rate: {kind: sinusoid, mean_rps: 10, amplitude: 0.9, period_s: 240}}, "
                         "prompt_tokens: 1, output_tokens: 1, duration_s: 240")
        .replace("queue_s: 0.001", "queue_s: 0.3")
    )  # fmt: skip
    return load_plan(file, needs_space=False)


def test_random_arrivals_are_followed_over_several_runs(tmp_path: Path) -> None:
    loaded = day(tmp_path)
    found = over_time(loaded, window_s=40.0)
    sizes = [one["replicas"] for one in found["windows"]]
    assert found["replications"] == 4
    assert (sizes.index(max(sizes)), sizes.index(min(sizes))) == (1, 4)
    assert max(sizes) > 2 * min(sizes) > 0
    assert found == over_time(loaded, window_s=40.0)


def test_random_arrivals_have_intervals_that_hold_what_many_runs_say(tmp_path: Path) -> None:
    loaded = day(tmp_path)
    few, many = over_time(loaded, 1, 40.0), over_time(loaded, 2, 40.0, replications=16)
    for key in ("static", "perfect", "whole_run"):
        assert few[key]["gpu_hours_low"] <= many[key]["gpu_hours"] <= few[key]["gpu_hours_high"]
    assert few["saving_low"] <= many["saving_at_most"] <= few["saving_high"]
    for one, sure in zip(few["windows"], many["windows"], strict=True):
        assert one["replicas_low"] <= sure["replicas"] <= (one["replicas_high"] or math.inf)
    assert sum(one["tie"] for one in many["windows"]) < sum(one["tie"] for one in few["windows"])


def test_a_window_is_a_tie_unless_its_number_and_no_other_will_do_for_sure(tmp_path: Path) -> None:
    for one in over_time(day(tmp_path), window_s=40.0, replications=8)["windows"]:
        assert one["tie"] == (not one["replicas_low"] == one["replicas"] == one["replicas_high"])
    text = RUNNER.invoke(main, ["plan", str(tmp_path / "day.yaml"), "--over-time", "--window", "40", "--quiet"]).stdout
    assert "the number cannot be told for sure" in " ".join(text.split())


def test_of_too_few_requests_it_cannot_be_told_what_suffices(tmp_path: Path) -> None:
    day(tmp_path)
    text = (tmp_path / "day.yaml").read_text().replace("attainment: 0.95", "attainment: 0.9999")
    (tmp_path / "day.yaml").write_text(text)
    found = over_time(load_plan(tmp_path / "day.yaml", needs_space=False), window_s=40.0)
    assert {one["replicas_high"] for one in found["windows"]} == {None}
    assert all(one["tie"] for one in found["windows"])


def test_a_recording_and_a_single_run_have_no_interval_and_say_why(tmp_path: Path) -> None:
    recorded = over_time(load_plan(steps(tmp_path), needs_space=False), window_s=30.0)
    alone = over_time(day(tmp_path), window_s=40.0, replications=1)
    for found, said in ((recorded, "one recording does not say how another day would differ"),
                        (alone, "one run, which does not say how another would differ")):  # fmt: skip
        assert found["perfect"]["gpu_hours_low"] is found["saving_low"] is found["windows"][0]["tie"] is None
        assert said in words(found)[-1]


def test_the_interval_of_a_mean_over_runs_is_students() -> None:
    runs = [3.0, 5.0, 4.0, 8.0]
    left_out = [(sum(runs) - gone) / 3 for gone in runs]
    students = pytest.approx((5 - 3.18245 * math.sqrt(14 / 3 / 4), 5 + 3.18245 * math.sqrt(14 / 3 / 4)), rel=1e-5)
    assert over_runs(5.0, runs, left_out) == students
    assert over_runs(5.0, runs, [5.0] * 4) == students  # of whole numbers none may move when one run is left out
    assert over_runs(5.0, [5.0], [5.0]) == over_runs(5.0, [], []) == (None, None)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("azure_trace, path: trace.csv", "closed_loop, max_concurrency: 3}, num_requests: 9, prompt_tokens: 1, "
          "output_tokens: 1, slo: {e2e_s: 1"), "depend on the system"),
        (("azure_trace, path: trace.csv", "all_at_once}, num_requests: 9, prompt_tokens: 1, output_tokens: 1, "
          "slo: {e2e_s: 1"), "all requests come at one moment"),
    ],
)  # fmt: skip
def test_loads_that_cannot_be_followed_are_refused(change: tuple[str, str], said: str, tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(SCENARIO.replace(*change).replace("}, slo: {queue_s: 0.001, attainment: 0.95}}", "}}"))
    with pytest.raises(InputError, match=said):
        over_time(load_plan(file, needs_space=False))


def test_too_many_windows_and_idle_options_are_refused(tmp_path: Path) -> None:
    file = str(steps(tmp_path))
    for more, said in (
        (["--over-time", "--window", "0.001"], "makes 179,8"),
        (["--window", "5"], "is for --over-time"),
        (["--over-time", "--how-much-load"], "give either"),
        (["--over-time", "--deployment", "x.yaml"], "is for plans"),
    ):
        found = RUNNER.invoke(main, ["plan", file, *more, "--quiet"])
        assert found.exit_code == 2
        assert said in found.output
