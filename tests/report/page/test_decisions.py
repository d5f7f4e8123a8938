"""Pages about sweeps, comparisons, checks and plans: what they answer, and that nothing leaves its place."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from servesim.errors import InputError
from servesim.report.page import page
from servesim.report.page.forest import Entry, forest
from servesim.report.page.read_sweep import SweepFiles, read_sensitivity, read_sweep
from servesim.report.page.sweep_answer import sweep_screen
from servesim.report.page.sweep_charts import curve_groups, frontier_chart
from servesim.report.page.sweep_verdicts import point_verdict, reach, shortfall
from servesim.report.sweep_series import Line, lines, load_axis
from servesim.report.sweep_warnings import warnings
from tests.report.page.conftest import DECISIONS, RATE
from tests.report.page.test_page import FETCHING, HOSTILE, chart_data, tags


@pytest.mark.parametrize("name", DECISIONS)
def test_the_same_result_gives_the_same_page_and_fetches_nothing(decisions: Path, name: str) -> None:
    text = page(decisions / name)
    assert text == page(decisions / name)
    assert len(text.encode()) < 1_000_000
    for tag, attributes in tags(text):
        assert tag not in ("iframe", "object", "embed", "base", "form", "img")
        for attribute, value in attributes.items():
            assert not attribute.startswith("on")
            if attribute in FETCHING:
                assert value is not None
                assert value.startswith(("#", "data:"))


@pytest.mark.parametrize("name", DECISIONS)
def test_names_cannot_leave_their_place(decisions: Path, copied: Callable[[str], Path], name: str) -> None:
    plain = page(decisions / name)
    directory = hostile_decision(copied(name))
    text = page(directory)
    assert len([1 for tag, _ in tags(text) if tag == "script"]) == len([1 for tag, _ in tags(plain) if tag == "script"])
    assert not [tag for tag, _ in tags(text) if tag == "img"]
    assert "&lt;/script&gt;" in text
    assert "</script><script>window.hit" not in text


@pytest.mark.parametrize("name", DECISIONS)
def test_a_result_that_was_changed_by_hand_has_a_page_or_is_named(copied: Callable[[str], Path], name: str) -> None:
    directory = copied(name)
    (path,) = directory.glob("*.json")
    text, chance = path.read_text(), random.Random(name)
    refused: list[str] = []
    for place in chance.sample(places(json.loads(text)), 12):
        for damage in (None, "x", {}):
            found = json.loads(text)
            at(found, place[:-1])[place[-1]] = damage
            path.write_text(json.dumps(found))
            try:
                page(directory)
            except InputError as error:
                refused.append(str(error))
    assert refused
    assert all(message.startswith(str(path)) for message in refused)


def places(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to every value inside."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [way for key, one in inner for way in ((*here, key), *places(one, (*here, key)))]


def at(value: Any, way: tuple[Any, ...]) -> Any:
    for key in way:
        value = value[key]
    return value


def hostile_decision(directory: Path) -> Path:
    """Give scenario, variants, rules, reasons and warnings of a result names that try to leave their places."""
    for path in directory.glob("*.json"):
        found = json.loads(path.read_text())
        for key in ("scenario", "plan", "a", "b", "against"):
            if isinstance(found.get(key), str):
                found[key] = HOSTILE
        if path.name == "check.json":
            found["scenarios"] = {HOSTILE: next(iter(found["scenarios"].values()))}
            found["scenarios"][HOSTILE]["moved"] = [HOSTILE]
        for row in found.get("points", ()):
            row["variant"], row["warnings"] = HOSTILE, [HOSTILE]
        for row in found.get("pruned", ()):
            row["reason"] = HOSTILE
        for row in found.get("ranked", ()):
            row["settings"], row["bottleneck"] = {HOSTILE: HOSTILE}, HOSTILE
        for row in found.get("skipped", ()):
            row["reason"] = HOSTILE
        path.write_text(json.dumps(found))
    for path in directory.glob("*.yaml"):
        scenario = f"description: {json.dumps(HOSTILE)}\n" + path.read_text()
        path.write_text(scenario)
    return directory


def test_how_much_load_is_the_last_before_the_first_that_misses(decisions: Path) -> None:
    files = read_sweep(decisions / "line")
    screen = sweep_screen(files)
    verdicts = [point_verdict(row, files.scenario) for row in files.found["points"]]
    assert verdicts[0] == "met"
    assert verdicts[-1] == "overloaded"
    (line,) = lines(files.found, RATE)
    found = reach(line, files.scenario)
    assert found.last == sum(verdict in ("met", "met here") for verdict in verdicts) - 1
    assert screen.tone == "good"
    assert screen.headline == f"Up to {found.load:g} requests/s"
    assert "60" not in screen.headline


def test_a_point_of_which_some_replications_are_overloaded_is_too_close_to_call() -> None:
    scenario = {"workload": {"classes": {"chat": {"slo": {"ttft_s": 1.0, "attainment": 0.95}}}}}
    cell = {"value": 1.0, "reason": "overloaded in 1 of 3 replications: no steady state"}
    rows = [
        {"index": 0, "overloaded": False, "settings": {}, "metrics": {"slo_attainment": {"value": 1.0, "reason": "-"}}},
        {"index": 1, "overloaded": False, "settings": {}, "metrics": {"slo_attainment": cell}},
        {"index": 2, "overloaded": True, "settings": {}, "metrics": {"slo_attainment": cell}},
    ]
    assert [point_verdict(row, scenario) for row in rows] == ["met here", "unclear", "overloaded"]
    assert [shortfall(row, scenario) for row in rows] == ["", "some replications are overloaded", ""]


def test_what_misses_is_named_with_its_class_and_figure() -> None:
    slos = {"chat": {"slo": {"attainment": 0.9}}, "batch": {"slo": {"itl_s": 0.05}}}
    metrics = {
        "chat.slo_attainment": {"value": 0.64, "low": 0.6, "high": 0.7},
        "batch.itl_s.p99": {"value": 0.021, "reason": "-"},
    }
    row = {"index": 0, "overloaded": False, "settings": {}, "metrics": metrics}
    scenario = {"workload": {"classes": slos}}
    assert shortfall(row, scenario) == "chat 64.0 %, 90.0 % asked"
    metrics["batch.itl_s.p99"]["value"] = 0.08
    assert shortfall(row, scenario) == "chat 64.0 %, 90.0 % asked; batch.itl_s.p99 80 ms, 50 ms asked"
    found = reach(Line("", [2.0], [row]), scenario)
    assert (found.last, found.verdict, found.short) == (None, "missed", shortfall(row, scenario))


def test_with_the_slo_moved_the_answer_moves(decisions: Path) -> None:
    files = read_sweep(decisions / "line")
    strict = copy.deepcopy(files.scenario)
    strict["workload"]["classes"]["chat"]["slo"]["itl_s"] = 1e-6
    screen = sweep_screen(SweepFiles(files.found, strict, files.scenario_text, files.first))
    assert screen.headline == "Not even the smallest load tried meets its SLO"
    assert screen.tone == "bad"
    del strict["workload"]["classes"]["chat"]["slo"]
    free = sweep_screen(SweepFiles(files.found, strict, files.scenario_text, files.first))
    assert free.question == "How much load does it take?"


def test_the_best_of_several_lines_is_named(decisions: Path) -> None:
    files = read_sweep(decisions / "grid")
    screen = sweep_screen(files)
    assert screen.headline.endswith("with replicas 2")
    assert len(screen.points) == 2


def test_without_a_load_the_cheapest_that_meets_the_slo_wins(decisions: Path) -> None:
    screen = sweep_screen(read_sweep(decisions / "points"))
    assert "cheapest" in screen.question
    assert screen.headline.startswith("scheduler ")


def test_failed_points_are_told(decisions: Path) -> None:
    files = read_sweep(decisions / "points")
    found = copy.deepcopy(files.found)
    failed = {"status": "failed", "error": {"type": "ZeroDivisionError", "message": "a fault"}, "overloaded": None}
    found["points"][1] |= {**failed, "metrics": {}}
    screen = sweep_screen(SweepFiles(found, files.scenario, files.scenario_text, files.first))
    assert "1 of 2 points failed: a fault" in screen.points
    for row in found["points"]:
        row |= {**failed, "metrics": {}}
    assert sweep_screen(SweepFiles(found, files.scenario, "", None)).headline == "Every point failed"


def test_curves_are_the_sweeps_numbers_with_their_intervals(decisions: Path) -> None:
    files = read_sweep(decisions / "line")
    axis = load_axis(files.found)
    assert axis == RATE
    ((_, charts),) = curve_groups(lines(files.found, axis), axis, files.scenario)
    (ttft,) = [chart for chart in charts if chart.key == "curve-ttft_s"]
    p50 = next(one for one in ttft.series if one.label == "p50")
    for place, row in enumerate(files.found["points"]):
        cell = row["metrics"]["ttft_s.p50"]
        assert p50.values[place] == cell["value"]
        assert (p50.low is not None and p50.low[place] == cell["low"]) if "low" in cell else True
        assert p50.crossed is not None
        assert p50.crossed[place] == row["overloaded"]
    assert ttft.marks[0].at == 0.05
    assert ttft.shade is not None
    assert 30 <= ttft.shade.start <= ttft.shade.end == 60


def test_several_lines_have_a_group_of_charts_for_each_percentile(decisions: Path) -> None:
    files = read_sweep(decisions / "grid")
    groups = curve_groups(lines(files.found, RATE), RATE, files.scenario)
    assert [name for name, _ in groups] == ["p50", "p95", "p99"]
    assert {one.label for one in groups[2][1][0].series} == {"replicas 1", "replicas 2"}
    keys = [chart.key for _, charts in groups for chart in charts]
    assert len(set(keys)) == len(keys) == 12


def test_the_frontier_rises_and_names_its_points(decisions: Path) -> None:
    found = read_sweep(decisions / "grid").found
    chart = frontier_chart(found)
    assert chart is not None
    assert (np.diff(chart.x) >= 0).all()
    best = next(one for one in chart.series if one.label == "on the frontier").values
    known = best[np.isfinite(best)]
    assert len(known) == len(found["frontier"])
    assert (np.diff(known) <= 0).all()
    assert len(chart.notes) == len(chart.x)
    assert "replicas" in chart.notes[0]
    data = chart_data(page(decisions / "grid"))
    assert data["frontier"]["notes"] == list(chart.notes)  # type: ignore[comparison-overlap]


def test_warnings_are_said_once() -> None:
    points: list[dict[str, Any]] = [
        {"overloaded": False, "warnings": ["outside the range"]},
        {"overloaded": True, "warnings": ["pool a is overloaded: offered 3", "outside the range"]},
        {"overloaded": True, "warnings": ["pool a is overloaded: offered 5", "odd"]},
    ]
    told = warnings(points)
    assert told[0].startswith("2 of 3 points are overloaded")
    assert told[1:] == ["outside the range (2 of 3 points)", "odd (1 of 3 points)"]


def test_a_sensitivity_names_what_lowers_p99(decisions: Path) -> None:
    found = read_sensitivity(decisions / "sensitivity").found
    first = min(found["changes"], key=lambda row: row["effects"].get("p99_e2e_s", {}).get("rank", 99))
    text = page(decisions / "sensitivity")
    assert f"{first['set'].rpartition('.')[2]} moves p99 most" in text
    assert text.count('class="forest"') == 3


def test_a_comparison_tells_what_differs_and_why(decisions: Path) -> None:
    text = page(decisions / "comparison")
    assert "B is worse" in text
    assert "pools.main.service_time.base_s: 0.01 \u2192 0.011" in text
    assert "own compute" in text


def test_a_check_says_what_became_worse(decisions: Path) -> None:
    text = page(decisions / "check")
    assert "Failed: something became worse" in text
    assert "REGRESSION" in text
    assert "the scenario" in text


def test_a_plan_names_the_cheapest(decisions: Path) -> None:
    found = json.loads((decisions / "plan" / "plan.json").read_text())
    text = page(decisions / "plan")
    settings = found["ranked"][0]["settings"]
    assert f"max_num_seqs {settings['max_num_seqs']}: {found['ranked'][0]['replicas']} replica" in text


def test_every_answer_of_a_plan_has_its_page(decisions: Path) -> None:
    load, over_time, inventory = (page(decisions / name) for name in ("load", "over_time", "inventory"))
    assert "meets its SLO up to" in load.split('class="verdict"')[1].split("</p>")[0]
    assert "How many replicas are needed when?" in over_time or "How many GPUs are needed when?" in over_time
    data = chart_data(over_time)
    windows = json.loads((decisions / "over_time" / "plan.json").read_text())["windows"]
    assert len(data["gpus"]["data"][0]) == 2 * len(windows)
    assert data["gpus"]["data"][1][::2] == [one["gpus"] for one in windows]
    assert "ENOUGH" in inventory
    assert "vllm serve" in inventory


def test_forests_hold_all_their_intervals_and_zero() -> None:
    entries = [
        Entry("a", 0.5, 0.4, 0.6, "", ""),
        Entry("b", -0.1, None, None, "", ""),
        Entry("c", None, None, None, "", ""),
    ]
    found = forest("t", "", entries, str, within=0.05)
    a, b, c = found.rows
    assert 0 < found.zero < 100
    assert b.place is not None
    assert a.place is not None
    assert b.place < found.zero < a.place
    assert a.range is not None
    assert a.range[0] < a.place < a.range[0] + a.range[1] <= 100
    assert b.range is None
    assert c.place is None
    assert any(label == "0.0" for _, label in found.ticks)
    beyond = forest("t", "", [Entry("a", 50.0, 40.0, 60.0, "", ""), Entry("b", 0.1, 0.0, 0.2, "", "")], str, limit=1.0)
    assert beyond.rows[0].place is not None
    assert beyond.rows[0].place > 95
    assert beyond.rows[1].place is not None
    assert beyond.rows[1].place < 15


@pytest.mark.parametrize(
    ("name", "file", "text", "message"),
    [
        ("line", "sweep.json", "{}", "schema_version is None, this servesim reads 1"),
        ("line", "sweep.json", '{"schema_version": 1}', "lacks 'scenario'"),
        ("line", "scenario.yaml", "[", "scenario.yaml: is not YAML"),
        ("comparison", "a.yaml", "words", "a.yaml: is not a scenario"),
        ("check", "check.json", '{"schema_version": 1, "verdict": 1, "exit_code": 0, "against": null, "level": 1, '
         '"scenarios": {"x": {}}}', "check.json: is not the result of a check"),
        ("plan", "plan.json", "no", "plan.json:1:1: is not JSON"),
        ("plan", "plan.json", '{"schema_version": 1}', "plan.json: is not the answer of a plan"),
    ],
)  # fmt: skip
def test_a_broken_result_is_named(copied: Callable[[str], Path], name: str, file: str, text: str, message: str) -> None:
    directory = copied(name)
    (directory / file).write_text(text)
    with pytest.raises(InputError) as refused:
        page(directory)
    assert message in str(refused.value)
