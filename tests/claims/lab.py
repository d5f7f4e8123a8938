"""Runs the points of the scenarios in scenarios/claims, each scenario once, all points under the same seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from servesim.experiment.combine import overload_refusal, thin_tail
from servesim.experiment.planning.error_band import error_band
from servesim.experiment.planning.load_factor import Breaking, largest_load, scaled_scenario
from servesim.experiment.planning.observe import Laboratory, Observation, observe, targets_of
from servesim.experiment.planning.plan import Planner
from servesim.experiment.seeds import replication_seeds
from servesim.scenario.load_plan import load_plan
from servesim.scenario.load_sweep import Base, Point
from servesim.scenario.resolve import resolve
from servesim.scenario.schema import Scenario
from tests.data import ROOT

SCENARIOS = ROOT / "scenarios" / "claims"
_PRECISION, _STRIDE = 0.05, 1.25


@dataclass(frozen=True)
class Effort:
    """How many replications a point, and each step of a search for the largest load, has; every n-th plan is made."""

    points: int
    searches: int
    every_plan: int = 1


FULL = Effort(points=12, searches=8)
REDUCED = Effort(points=6, searches=7, every_plan=2)


@dataclass(frozen=True)
class Runs:
    """The replications of one point; `error` is the 90th percentile of its service times' held-back errors."""

    observations: tuple[Observation, ...]
    error: float

    def values(self, metric: str) -> list[float]:
        """Return each replication's value of a metric such as `e2e_s.p99`, `chat.goodput_rps`, of `all` by default."""
        return [_number(one.numbers["classes"], metric) for one in self.observations]

    def refusal(self, metric: str) -> str:
        """Say why a metric has no interval: overloaded, or a percentile with too few requests beyond it."""
        if found := overload_refusal([one.overloaded for one in self.observations]):
            return found
        name, *rest = _path(self.observations[0].numbers["classes"], metric)
        completed = [one.numbers["classes"][name]["completed"] for one in self.observations]
        worth = [max(one.correlation.values()) for one in self.observations]
        return thin_tail(rest[-1], completed, worth)


@dataclass(frozen=True)
class Load:
    """The largest load of one point in requests/s, and the error of its service times."""

    found: Breaking
    rate_rps: float
    replications: int
    error: float


def _path(classes: dict[str, Any], metric: str) -> list[str]:
    path = metric.split(".")
    return path if path[0] in classes else ["all", *path]


def _number(classes: dict[str, Any], metric: str) -> float:
    found: Any = classes
    for step in _path(classes, metric):
        found = found[step]
    return float("nan") if found is None else float(found)


def error_of(scenario: Scenario) -> float:
    """Return the largest relative error of the service times of a scenario's pools; 0 where none was measured."""
    bands = [error_band(pool.plan.origin.facts) for pool in resolve(scenario).pools]
    return max((max(1 - band[1], band[2] - 1) for band in bands if band is not None), default=0.0)


Key = tuple[str, Any]


def _key(point: Point, varied: str | None) -> Key:
    return point.variant, point.settings[varied] if varied else None


@dataclass
class Lab:
    """What was run so far, by scenario."""

    effort: Effort = FULL
    workers: int = 1
    seed: int = 0
    tell: Callable[[str], None] = lambda text: None
    _done: dict[Any, Any] = field(default_factory=dict)

    def points(self, name: str, only: str = "") -> dict[Key, Runs]:
        """Return the runs of a scenario's own sweep, by (variant, the value that `vary` gave).

        Of every point, or of those with `only` in their variants' names.
        """
        scenarios = {key: one.scenario for key, one in self._keyed(name).items() if only in key[0]}
        return self._once(("points", name, only), lambda: self._runs(name, scenarios))

    def loads(self, name: str, factors: Sequence[float]) -> dict[float, Runs]:
        """Return the runs of a scenario with all its rates times each factor."""
        base = Base(SCENARIOS / f"{name}.yaml").scenario
        scenarios = {factor: scaled_scenario(base, factor) for factor in factors}
        return self._once(("loads", name, tuple(factors)), lambda: self._runs(name, scenarios))

    def largest(self, name: str, skip: str = "backlog") -> dict[Key, Load]:
        """Return the largest load within the SLO of every point of a sweep but those with `skip` in their names."""
        keyed = {key: one for key, one in self._keyed(name).items() if skip not in key[0]}
        return self._once(("largest", name), lambda: self._searched(name, keyed))

    def plans(self, name: str, path: str, values: Sequence[float]) -> dict[float, dict[str, Any]]:
        """Return the plan of scenarios/claims/NAME.yaml for each value of the setting `path`."""
        return self._once(("plans", name, path, tuple(values)), lambda: self._planned(name, path, values))

    def _keyed(self, name: str) -> dict[Key, Point]:
        base = Base(SCENARIOS / f"{name}.yaml")
        assert base.own is not None, f"{name}: a claim's scenario says in `sweep` what it compares"
        points = base.points(base.own)
        varied = next(iter(_vary(name)), None)
        return {_key(point, varied): point for point in points}

    def _once(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self._done:
            self._done[key] = make()
        return self._done[key]

    def _runs(self, name: str, scenarios: dict[Any, Scenario]) -> dict[Any, Runs]:
        self.tell(f"{name}: {len(scenarios)} points x {self.effort.points} replications")
        jobs = [(scenario, self.seed, self.effort.points) for scenario in scenarios.values()]
        found = self._each(_replicated, jobs)
        return {key: Runs(tuple(one), error_of(scenarios[key])) for key, one in zip(scenarios, found, strict=True)}

    def _searched(self, name: str, points: dict[Key, Point]) -> dict[Key, Load]:
        self.tell(f"{name}: {len(points)} searches x {self.effort.searches} replications")
        jobs = [(point.scenario, self.seed, self.effort.searches) for point in points.values()]
        return dict(zip(points, self._each(_largest, jobs), strict=True))

    def _planned(self, name: str, path: str, values: Sequence[float]) -> dict[float, dict[str, Any]]:
        self.tell(f"{name}: {len(values)} plans")
        jobs = [(name, f"{path}={value:g}", self.seed) for value in values]
        return dict(zip(values, self._each(_plan, jobs), strict=True))

    def _each(self, work: Callable[..., Any], jobs: list[Any]) -> Iterator[Any]:
        from joblib import Parallel, delayed

        return iter(Parallel(n_jobs=self.workers)(delayed(work)(*job) for job in jobs))


def _vary(name: str) -> dict[str, Any]:
    from servesim.scenario.load import load

    sweep = load(SCENARIOS / f"{name}.yaml").sweep
    assert sweep is not None
    assert len(sweep.vary) <= 1, f"{name}: points are told apart by their variant and one varied setting"
    return sweep.vary


def _replicated(scenario: Scenario, seed: int, number: int) -> list[Observation]:
    return [observe(scenario, one) for one in replication_seeds(seed, number)]


def _largest(scenario: Scenario, seed: int, number: int) -> Load:
    targets = targets_of(scenario, 0.95)
    found = largest_load(Laboratory(seed, 1, None), scenario, targets, number, _PRECISION, stride=_STRIDE)
    rate = sum(one.arrivals.request_rate_rps for one in scenario.workload.classes.values())  # type: ignore[attr-defined]
    return Load(found, rate, number, error_of(scenario))


def _plan(name: str, override: str, seed: int) -> dict[str, Any]:
    return Planner(load_plan(SCENARIOS / f"{name}.yaml", [override]), seed).run()
