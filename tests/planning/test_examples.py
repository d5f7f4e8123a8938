"""The plans that docs/plan.md shows can be run as they are, and still say what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from servesim.experiment.planning.inventory import InventoryPlanner
from servesim.experiment.planning.over_time import over_time
from servesim.experiment.planning.plan import Planner
from servesim.report.grids import Grid
from servesim.report.inventory import models_grid
from servesim.report.over_time import totals_grid
from servesim.report.plan import cost_grid, settings_words
from servesim.scenario.load_inventory import is_inventory, load_inventory
from servesim.scenario.load_plan import load_plan
from tests.data import ROOT

PLANS = ROOT / "scenarios" / "plans"
PAGE = (ROOT / "docs" / "plan.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sorted(PLANS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_example_loads_and_the_page_names_its_command(path: Path) -> None:
    if is_inventory(path):
        load_inventory(path)
    else:
        load_plan(path, needs_space="space:" in path.read_text(encoding="utf-8"))
    assert f"servesim plan scenarios/plans/{path.name}" in PAGE


PAGES_ROWS = [" ".join(line.split()) for line in PAGE.splitlines()]


def assert_shown(grid: Grid, cells: int) -> None:
    """Fail unless the page has each row of a table as far as its first cells, which say what was decided."""
    for row in grid.rows:
        begin = " ".join(" ".join(row[:cells]).split()) + " "
        assert any(line.startswith(begin) for line in PAGES_ROWS), begin


@pytest.mark.slow
def test_the_page_shows_what_the_plan_decides() -> None:
    found = Planner(load_plan(PLANS / "chat.yaml")).run()
    assert_shown(cost_grid(found["ranked"], found["naive"]), cells=3)
    for one in found["pruned"]:
        assert any(line.startswith(f"- {settings_words(one['settings'])}: [{one['rule']}]") for line in PAGES_ROWS)


@pytest.mark.slow
def test_the_page_shows_what_the_plan_over_time_decides() -> None:
    found = over_time(load_plan(PLANS / "day.yaml", needs_space=False))
    assert_shown(totals_grid(found), cells=2)


@pytest.mark.slow
def test_the_page_shows_how_the_inventory_is_divided() -> None:
    found = InventoryPlanner(load_inventory(PLANS / "fleet.yaml"), None, 1, None).run()
    assert_shown(models_grid(found), cells=5)
