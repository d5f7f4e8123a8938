"""The verdict of the first screen: on which side of what is asked the whole interval lies."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from servesim.experiment.replicate import replicate
from servesim.experiment.result import Result
from servesim.experiment.simulate import simulate
from servesim.experiment.why_verify import verify
from servesim.report.page.answer import Answer, answer, judge
from servesim.report.page.read import read_run
from servesim.report.why import best_changes
from servesim.scenario.load import parse
from tests.report.page.conftest import STEADY


@pytest.mark.parametrize(
    ("value", "low", "high", "at_least", "at_most"),
    [
        (0.97, 0.96, 0.98, "met", "missed"),
        (0.97, 0.94, 0.99, "unclear", "unclear"),
        (0.94, 0.93, 0.96, "unclear", "unclear"),
        (0.90, 0.88, 0.92, "missed", "met"),
        (0.95, 0.95, 0.96, "met", "unclear"),
    ],
)
def test_an_interval_has_to_be_on_one_side(value: float, low: float, high: float, at_least: str, at_most: str) -> None:
    interval = {"low": low, "high": high}
    assert judge(value, 0.95, interval, at_least=True) == at_least
    assert judge(value, 0.95, interval, at_least=False) == at_most


def test_without_an_interval_the_verdict_is_about_this_run() -> None:
    assert judge(0.97, 0.95, {"reason": "too short"}, at_least=True) == "met here"
    assert judge(0.93, 0.95, {"reason": "too short"}, at_least=True) == "missed here"


@pytest.fixture(scope="module")
def steady(results: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    files = read_run(results / "steady")
    return files.summary, files.scenario


def asked(found: tuple[dict[str, Any], dict[str, Any]], **slo: float) -> Answer:
    summary, scenario = copy.deepcopy(found)
    scenario["workload"]["classes"]["chat"]["slo"] = slo
    return answer(summary, scenario)


def test_the_headline_follows_the_interval(steady: tuple[dict[str, Any], dict[str, Any]]) -> None:
    interval = steady[0]["intervals"]["classes"]["chat"]["slo_attainment"]
    assert interval["low"] < interval["high"] < 1
    middle = (interval["low"] + interval["high"]) / 2
    assert asked(steady, ttft_s=0.03, attainment=interval["low"] - 0.01).headline == "Yes: it meets its SLO"
    assert asked(steady, ttft_s=0.03, attainment=middle).headline == "Too close to call"
    missed = asked(steady, ttft_s=0.03, attainment=interval["high"] + 0.001)
    assert (missed.verdict, missed.headline) == ("missed", "No: it misses its SLO")
    assert "TTFT at most 30 ms" in missed.objectives[0]
    assert "95 % interval" in missed.objectives[0]


def test_the_worst_objective_decides(steady: tuple[dict[str, Any], dict[str, Any]]) -> None:
    both = asked(steady, ttft_s=0.03, attainment=0.5, itl_s=1e-6)
    assert both.verdict == "missed here"  # one run has no interval of ITL
    assert both.headline == "No, as far as this one run can tell"
    assert len(both.objectives) == 2


@pytest.mark.parametrize("number", [1, 2])
def test_what_an_overloaded_system_met_is_no_yes(number: int) -> None:
    chat = "workload.classes.chat"
    settings = [f"{chat}.arrivals.request_rate_rps=4000", f"{chat}.slo={{ttft_s: 100, attainment: 0.5}}"]
    scenario = parse(STEADY, overrides=[*settings, "pools.main.engine={max_num_seqs: 8}"])
    summary = simulate(scenario).summary if number == 1 else replicate(scenario, number).summary
    assert summary["classes"]["chat"]["slo_met"]
    classes = {"chat": {"slo": {"ttft_s": 100.0, "attainment": 0.5}}}
    found = answer(summary, {"workload": {"classes": classes}})
    assert (found.verdict, found.headline) == ("overloaded", "Overloaded: a longer run would give another answer")


def test_nothing_asked_is_said(steady: tuple[dict[str, Any], dict[str, Any]]) -> None:
    none = asked(steady, ttft_s=0.03)
    assert none.verdict == "not asked"
    assert "of requests met all of their thresholds" in none.objectives[1]


def test_latencies_shown_are_of_the_class_that_decides(results: Path) -> None:
    files = read_run(results / "two_pools")
    tiles = {tile.label: tile.value for tile in answer(files.summary, files.scenario).tiles}
    assert "p99 TTFT, chat" in tiles
    assert tiles["p99 TTFT, chat"].endswith(" ms")
    assert files.summary["classes"]["all"]["ttft_s"]["p99"] > 1


def test_what_would_help_is_what_was_tried(one_pool: Result) -> None:
    untried = answer(one_pool.summary, {"workload": {"classes": {"chat": {}}}})
    assert "--why" in untried.helps[0]
    changes = verify(one_pool.scenario, one_pool)
    summary = {**one_pool.summary, "why": {**one_pool.summary["why"], "changes": changes}}
    tried = answer(summary, {"workload": {"classes": {"chat": {}}}})
    assert tried.helps == best_changes(changes)
    assert len(tried.helps) == 3
