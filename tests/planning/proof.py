"""Plans against known answers, under many seeds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from servesim.experiment.planning.candidates import candidates
from servesim.experiment.planning.observe import Laboratory
from servesim.experiment.planning.plan import Planner, how_much_load
from servesim.experiment.planning.search import Search
from servesim.scenario.load_plan import load_plan
from tests.planning.known import MM1, SLO_QPS, Problem


@dataclass(frozen=True)
class Attempt:
    """What a plan said under one seed, and by how many simulations."""

    problem: Problem
    seed: int
    found: Search
    simulations: int

    @property
    def right(self) -> bool:
        """True if the answer is the known one and the ties are those known."""
        if not self.found.found:
            return False
        best = self.found.found[0]
        same = best.candidate.settings == self.problem.answer[0] and best.size == self.problem.answer[1]
        return same and tuple(best.ties) == self.problem.ties


def attempt(problem: Problem, seed: int, folder: Path) -> Attempt:
    """Plan under one seed."""
    planner = Planner(problem.loaded(folder), seed=seed)
    found = planner.search()
    return Attempt(problem, seed, found, planner.laboratory.simulations)


@dataclass(frozen=True)
class Cell:
    """One configuration of one size: the share of good requests over the allowed share of bad ones, and simulations."""

    settings: dict[str, Any]
    size: int
    bad_over_allowed: float
    cost: float
    simulations: int


@dataclass(frozen=True)
class Rate:
    """The largest load found of M/M/1 against the known one."""

    relative_error: float
    covered: bool
    simulations: int


def largest_rate(seed: int, folder: Path, requests: int = 40_000, replications: int = 12) -> Rate:
    """Find the largest rate of known answer `slo-qps` under one seed."""
    file = folder / "slo-qps.yaml"
    file.write_text(MM1.format(requests=requests), encoding="utf-8")
    found = how_much_load(load_plan(file, needs_space=False), seed=seed, replications=replications)
    low, factor, high = (found["load"][key] * found["offered_rps"] / SLO_QPS for key in ("low", "factor", "high"))
    return Rate(factor - 1, low < 1 < high, found["simulations"])


def full_grid(problem: Problem, seed: int, folder: Path) -> list[Cell]:
    """Decide every cell of the space by the plan's own rule, without bounds or bisection."""
    loaded = problem.loaded(folder)
    planner = Planner(loaded, seed=seed)
    possible, _ = candidates(loaded)
    assert loaded.spec.space is not None
    sizes = loaded.spec.space.sizes
    rule = planner.rule(len(possible))
    cells = []
    for candidate in possible:
        for size in range(sizes.least, sizes.most + 1):
            laboratory = Laboratory(seed)
            _, found = rule.decide_by_long_runs(laboratory.trial(candidate.of_size(size)), planner.targets)
            worst = found.worst
            allowed = 1 - (worst.target.attainment or 0.0)
            bad = (1 - worst.value) / allowed
            cells.append(Cell(candidate.settings, size, bad, size * candidate.unit_cost, laboratory.simulations))
    return cells
