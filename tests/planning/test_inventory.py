"""Inventories divided by simulation: the best by the measured capacities, honest about losses, growth and errors."""

import json
import math
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner

from servesim.cli import main
from servesim.experiment.planning.candidates import Candidate
from servesim.experiment.planning.capacity import Capacity, Curve
from servesim.experiment.planning.division import Choice
from servesim.experiment.planning.inventory import InventoryPlanner
from servesim.experiment.planning.observe import Laboratory
from servesim.scenario.document import parse_document, plain
from servesim.scenario.json_schema import inventory_schema
from servesim.scenario.load_inventory import load_inventory
from tests.planning.fleet import fleet
from tests.planning.test_division import divisions, ranked

RUNNER = CliRunner()


@pytest.mark.parametrize("survive", ["nothing", "node"])
def test_by_the_measured_capacities_no_division_is_better(survive: str, tmp_path: Path) -> None:
    planner = InventoryPlanner(load_inventory(fleet(tmp_path, survive=survive)), seed=3)
    ways, _ = planner.ways()
    found = planner.divide(ways)
    assert found is not None
    choices = [Choice(way.model, "h100_sxm", way.candidate.gpus, way.candidate.unit_cost, way.curve) for way in ways]
    every = [
        ranked(breach, planner.allowed, cost)
        for breach, cost in divisions(planner.nodes, choices, list(planner.allowed), planner._spec.survive)
    ]
    levels, cost = ranked(found.breach(choices), planner.allowed, found.packing.cost)
    best = min(every)
    assert levels == pytest.approx(best[0])
    assert cost == pytest.approx(best[1])


def test_an_answer_has_a_table_files_and_a_picture(tmp_path: Path) -> None:
    file = fleet(tmp_path)
    found = RUNNER.invoke(main, ["plan", str(file), "-o", str(tmp_path / "out"), "--quiet"])
    assert found.exit_code == 0, found.output
    assert "ENOUGH" in found.stdout
    names = {entry.name for entry in (tmp_path / "out").iterdir()}
    assert names == {"plan.json", "plan.md", "plan.png", "values-first.yaml", "values-second.yaml"}
    answer = json.loads((tmp_path / "out" / "plan.json").read_text())
    used = sum(model["gpus"] for model in answer["models"].values())
    assert used + answer["free"]["h100_sxm"] == 6
    for model in answer["models"].values():
        assert model["breach"] <= model["max_breach"]
        assert model["takes"]["low"] <= model["takes"]["factor"] <= model["takes"]["high"]
        assert model["doubt"]["of"] in ("calibration", "validated deployments")
    worst = max(model["breach"] for model in answer["models"].values())
    assert worst - 1e-12 <= answer["breach"] <= sum(model["breach"] for model in answer["models"].values()) + 1e-12
    again = RUNNER.invoke(main, ["plan", str(file), "-o", str(tmp_path / "out"), "--quiet", "--format", "markdown"])
    assert again.stdout == (tmp_path / "out" / "plan.md").read_text()
    assert json.loads((tmp_path / "out" / "plan.json").read_text()) == answer


def test_too_few_gpus_are_exit_3_and_the_worst_model_is_as_well_off_as_can_be(tmp_path: Path) -> None:
    file = fleet(tmp_path, inventory={"h100_sxm": 2, "per_node": 2}, growth={"from": 3.0, "to": 4.0})
    found = RUNNER.invoke(main, ["plan", str(file), "--quiet", "--format", "json"])
    assert found.exit_code == 3, found.output
    answer = json.loads(found.stdout)
    assert answer["verdict"] == "not enough"
    assert [model["replicas"] for model in answer["models"].values()] == [1, 1]


def test_no_room_for_a_spare_is_exit_3_without_a_division(tmp_path: Path) -> None:
    file = fleet(tmp_path, inventory={"h100_sxm": 3, "per_node": 3}, survive="node")
    found = RUNNER.invoke(main, ["plan", str(file), "--quiet"])
    assert found.exit_code == 3, found.output
    assert "NO ROOM" in found.stdout


def test_the_schema_takes_what_the_loader_takes(tmp_path: Path) -> None:
    validator = jsonschema.Draft202012Validator(inventory_schema())
    for growth in (1.3, {"from": 1.0, "to": 2.0}, {"p10": 1.0, "p90": 2.0}):
        document = plain(parse_document(fleet(tmp_path, growth=growth).read_text(), "x").root)
        assert not list(validator.iter_errors(document))
    document["inventory"] = {"h100_sxm": "many"}
    assert list(validator.iter_errors(document))
    assert RUNNER.invoke(main, ["schema", "--inventory"]).exit_code == 0
    assert RUNNER.invoke(main, ["schema", "--inventory", "--plan"]).exit_code == 2


class Known(Curve):
    """A curve whose capacities are a formula instead of simulations."""

    def _measured(self, size: int) -> Capacity:
        return Capacity(size**1.1 / 4)


def known(demand: list[float]) -> Known:
    candidate: Candidate = None  # type: ignore[assignment]  # the formula asks for none
    return Known(Laboratory(0), candidate, (), np.array(demand), 2)


def test_only_the_sizes_that_matter_are_measured() -> None:
    curve = known([1.0, 1.5, 2.0])
    curve.explore(500)
    assert sorted(curve.measured) == [1, 2, 4, 8]
    least = curve.least(0.0, 500)
    assert least == math.ceil(8.0 ** (1 / 1.1)) == 7
    assert curve.breach(0) == 1.0
    assert curve.breach(4) == pytest.approx(2 / 3)
    small = known([1.0])
    small.explore(8)
    assert sorted(small.measured) == [1, 2, 3, 4]


def test_what_is_not_surely_enough_is_a_chance_between() -> None:
    """Demand of 1 against a capacity of 1 known to 10 %: even odds; of 1.1 a standard error less."""
    assert float(Capacity(1.0, 0.1).breached(np.array([1.0]))[0]) == pytest.approx(0.5)
    assert float(Capacity(1.105170918, 0.1).breached(np.array([1.0]))[0]) == pytest.approx(0.158655, abs=1e-5)
    assert Capacity(1.0).breached(np.array([0.99, 1.0, 1.01])).tolist() == [0.0, 0.0, 1.0]
    assert Capacity(0.0).breached(np.array([0.1])).tolist() == [1.0]
