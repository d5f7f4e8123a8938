"""Plans whose best is known are found; what lies on the target is a tie; the load a queue takes is Erlang's."""

from pathlib import Path

import pytest

from servesim.experiment.planning.bounds import bound, samples
from servesim.experiment.planning.candidates import candidates
from servesim.experiment.planning.observe import Laboratory, targets_of
from servesim.experiment.planning.plan import Planner, how_much_load
from servesim.scenario.load_plan import load_plan
from tests.planning.known import MM1, SLO_QPS, fewest, late, off_target, small_space, staffing
from tests.planning.proof import attempt


def test_erlangs_formula_gives_the_known_staffing() -> None:
    assert fewest(50.0, 0.95) == 60
    assert late(1, 0.5, 0.0) == pytest.approx(0.5)


def test_the_fewest_servers_are_found(tmp_path: Path) -> None:
    assert attempt(staffing("staff-small", 10.0, 0.9, 2_000, 40), 2, tmp_path).right


def test_a_size_on_the_target_is_a_tie(tmp_path: Path) -> None:
    problem = staffing("staff-tie", 10.0, 1 - late(14, 10.0), 2_000, 20, ties=(14,))
    assert attempt(problem, 3, tmp_path).right


def test_the_cheapest_of_a_small_space_is_found(tmp_path: Path) -> None:
    found = attempt(small_space(), 4, tmp_path)
    assert found.right
    rules = {one.rule for one in found.found.pruned}
    assert {"illegal", "slo"} <= rules


def test_how_much_load_a_queue_takes(tmp_path: Path) -> None:
    file = tmp_path / "mm1.yaml"
    file.write_text(MM1.format(requests=5_000), encoding="utf-8")
    found = how_much_load(load_plan(file, needs_space=False), seed=11, replications=6)
    low, high = found["load"]["low"] * found["offered_rps"], found["load"]["high"] * found["offered_rps"]
    assert low < SLO_QPS < high
    assert found["load"]["factor"] * found["offered_rps"] == pytest.approx(SLO_QPS, rel=0.08)


@pytest.mark.slow
@pytest.mark.nightly
def test_how_much_load_a_queue_takes_within_two_percent(tmp_path: Path) -> None:
    file = tmp_path / "mm1.yaml"
    file.write_text(MM1.format(requests=40_000), encoding="utf-8")
    found = how_much_load(load_plan(file, needs_space=False), seed=12, replications=12)
    assert found["load"]["factor"] * found["offered_rps"] == pytest.approx(SLO_QPS, rel=0.02)


@pytest.mark.slow
@pytest.mark.nightly
def test_sixty_servers_are_found(tmp_path: Path) -> None:
    assert attempt(staffing("staff-c", 50.0, 0.95, 40_000, 80, replications=256), 5, tmp_path).right


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1002, 1003])
def test_a_size_on_the_target_is_a_tie_under_the_seed_that_once_said_otherwise(seed: int, tmp_path: Path) -> None:
    problem = staffing("staff-tie", 10.0, 1 - late(14, 10.0), 5_000, 40, ties=(14,), confidence=0.99)
    assert attempt(problem, seed, tmp_path).right


@pytest.mark.slow
@pytest.mark.parametrize(("used", "answer"), [(1.05, 3), (0.95, 2)])
def test_five_percent_off_the_target_is_told_apart(used: float, answer: int, tmp_path: Path) -> None:
    found = attempt(off_target("off", 2, used), 1000, tmp_path)
    assert found.right
    assert found.found.found[0].size == answer


@pytest.mark.parametrize("load", [0.3, 2.0, 7.5, 30.0])
def test_the_stability_bound_never_removes_the_answer(load: float, tmp_path: Path) -> None:
    loaded = staffing("bound", load, 0.9, 5_000, 90).loaded(tmp_path)
    (candidate,), _ = candidates(loaded)
    least = bound(candidate, samples(loaded.scenario, "main"), targets_of(loaded.scenario, 0.99)).fewest
    assert least <= fewest(load, 0.9)
    assert least >= 0.6 * load


def test_what_a_bound_removes_does_miss(tmp_path: Path) -> None:
    loaded = small_space(300).loaded(tmp_path)
    slow = loaded.scenario.workload.classes["chat"].model_copy(
        update={"slo": loaded.scenario.workload.classes["chat"].slo.model_copy(update={"tpot_s": 0.004})}
    )
    classes = {"chat": slow}
    scenario = loaded.scenario.model_copy(
        update={"workload": loaded.scenario.workload.model_copy(update={"classes": classes})}
    )
    planner = Planner(type(loaded)(loaded.spec, scenario, loaded.pool), seed=1)
    found = planner.search()
    alone = [one for one in found.pruned if one.rule in ("alone", "roofline")]
    assert alone
    assert planner.laboratory.simulations == 0 or len(alone) < len(found.pruned)
    possible, _ = candidates(type(loaded)(loaded.spec, scenario, loaded.pool))
    for candidate in possible:
        if candidate.settings in [one.settings for one in alone]:
            trial = Laboratory(9).trial(candidate.of_size(8))
            assert planner.rule(1).decide(trial, planner.targets).verdict == "misses"
