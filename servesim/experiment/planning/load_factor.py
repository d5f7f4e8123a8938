"""How much load can this take: the largest factor on all arrival rates with which the SLO is met."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from servesim.errors import InputError
from servesim.experiment.planning.long_enough import long_enough, still_too_short
from servesim.experiment.planning.observe import Laboratory, Observation, Target, Trial
from servesim.metrics.intervals import CONFIDENCE
from servesim.scenario.schema import Scenario
from servesim.workload.scaled import scaled

_LOWEST, _HIGHEST = 1 / 1024, 256.0
_BAD_HALF = 0.5
# The excess of a load that cannot be served: latencies grow with the run, whatever this one saw.
_OVERLOADED = math.log(2)


@dataclass(frozen=True, slots=True)
class Breaking:
    """The load factor at which the SLO breaks, with its 95 % interval; NaN where it never breaks or never holds.

    `target` is the one that breaks first, None if the system is `overloaded` before any does. `reason` says why there
    is no number or no interval. `short` is set if the run at the last load that holds is too short for a backlog to be
    felt and could not be made longer.
    """

    factor: float
    low: float
    high: float
    target: Target | None = None
    reason: str = ""
    overloaded: bool = False
    short: bool = False


def scaled_scenario(scenario: Scenario, factor: float) -> Scenario:
    """Return the scenario with every arrival rate times `factor`; raises InputError where there is none to scale."""
    classes = {}
    for name, spec in scenario.workload.classes.items():
        try:
            classes[name] = spec.model_copy(update={"arrivals": scaled(spec.arrivals, factor)})
        except (InputError, ValueError) as error:
            raise InputError(f"class {name}: load x {factor:g}: {_first(error)}") from None
    workload = scenario.workload.model_copy(update={"classes": classes})
    return scenario.model_copy(update={"workload": workload})


def _first(error: Exception) -> str:
    return error.problems[0].message if isinstance(error, InputError) else str(error).splitlines()[0]


@dataclass
class Curve:
    """Load factors tried, each with the same replications: common random numbers make the curve smooth."""

    laboratory: Laboratory
    scenario: Scenario
    targets: tuple[Target, ...]
    replications: int
    points: dict[float, list[Observation]] = field(default_factory=dict)
    short: set[float] = field(default_factory=set)

    def holds(self, factor: float) -> bool:
        """Say whether all targets are met; where a short run says so, a longer one has to say it too."""
        if factor not in self.points:
            trial = Trial(self.laboratory, scaled_scenario(self.scenario, factor))
            trial = long_enough(trial, self.replications, self._met)
            self.points[factor] = trial.extend(self.replications)
            if still_too_short(trial.scenario, self.points[factor]):
                self.short.add(factor)
        return self._met(self.points[factor])

    def _met(self, observations: list[Observation]) -> bool:
        which = list(range(self.replications))
        return all(served_excess(observations, target, which) <= 0 for target in self.targets)


def largest_load(
    laboratory: Laboratory,
    scenario: Scenario,
    targets: tuple[Target, ...],
    replications: int,
    precision: float = 0.02,
    start: float = 1.0,
    stride: float = 2.0,
) -> Breaking:
    """Return the factor at which the first target breaks.

    The factor is multiplied or divided by `stride` from `start` on (then by its square, ..., at most 2), until one that
    holds and one that does not are found, then bisected (in its logarithm) until they are within `precision`. All
    factors share their random numbers. Between the two the excess over the target is interpolated in the logarithms of
    both. An overloaded load does not hold, whatever the requests of this run saw, and arrivals are made to last longer
    where they end before a backlog is felt (`long_enough`). The interval is the jackknife's over replications (B. Efron
    and C. Stein, "The jackknife estimate of variance", Annals of Statistics 9(3), 1981) with Student's t.
    """
    curve = Curve(laboratory, scenario, targets, replications)
    low = high = start
    if curve.holds(start):
        while curve.holds(high):
            low, high, stride = high, stride * high, min(stride**2, 2.0)
            if high > _HIGHEST:
                return Breaking(math.nan, low, math.inf, reason=f"holds at {low:g} times the load, the most tried")
    else:
        while not curve.holds(low):
            low, high, stride = low / stride, low, min(stride**2, 2.0)
            if low < _LOWEST:
                return Breaking(0.0, 0.0, high, reason="does not hold at a thousandth of the load either")
    while high / low > 1 + precision:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if curve.holds(middle) else (low, middle)
    return _breaking(curve)


def _breaking(curve: Curve) -> Breaking:
    count, targets = curve.replications, curve.targets
    everything = list(range(count))
    roots = {target: _root(curve, target, everything) for target in targets}
    first = min(targets, key=lambda target: roots[target])
    factor = roots[first]
    above = min((tried for tried in curve.points if tried >= factor), default=factor)
    misses = any(excess(curve.points[above], target, everything) > 0 for target in targets)
    only_overloaded = overloaded(curve.points[above], everything) and not misses
    cause: dict[str, Any] = {
        "target": None if only_overloaded else first,
        "overloaded": only_overloaded,
        "short": max((tried for tried in curve.points if tried <= factor), default=factor) in curve.short,
    }
    if count < 2:
        why = "one replication says nothing of how another would differ"
        return Breaking(factor, math.nan, math.nan, reason=why, **cause)
    from scipy.special import stdtrit  # type: ignore[import-untyped]  # takes long to load

    left_out = [
        math.log(min(_root(curve, target, [r for r in everything if r != gone]) for target in targets))
        for gone in everything
    ]
    mean = math.fsum(left_out) / count
    spread = math.sqrt((count - 1) / count * math.fsum((value - mean) ** 2 for value in left_out))
    half = float(stdtrit(count - 1, 0.5 + CONFIDENCE / 2)) * spread
    return Breaking(factor, factor * math.exp(-half), factor * math.exp(half), **cause)


def _root(curve: Curve, target: Target, which: list[int]) -> float:
    """Return where the excess of some replications crosses 0, from the factors tried: the first pair around it."""
    tried = sorted(curve.points)
    over = [served_excess(curve.points[factor], target, which) for factor in tried]
    for index, value in enumerate(over):
        if value > 0:
            if index == 0:
                return tried[0]
            before = over[index - 1]
            part = before / (before - value) if value > before else 0.5
            return math.exp(math.log(tried[index - 1]) * (1 - part) + math.log(tried[index]) * part)
    return tried[-1]


def overloaded(observations: list[Observation], which: list[int]) -> bool:
    """Say whether most of some replications are overloaded."""
    return 2 * sum(observations[r].overloaded for r in which) > len(which)


def served_excess(observations: list[Observation], target: Target, which: list[int]) -> float:
    """Return the excess over a target; above 0 wherever the system is overloaded."""
    found = excess(observations, target, which)
    return max(found, _OVERLOADED) if overloaded(observations, which) else found


def excess(observations: list[Observation], target: Target, which: list[int]) -> float:
    """Return the logarithm of what is asked for over what is allowed: of bad requests, or of the token gap."""
    if target.attainment is None:
        assert target.itl_s is not None
        gaps = [gap for r in which if not math.isnan(gap := observations[r].itl_s[target.name])]
        return math.log(math.fsum(gaps) / len(gaps) / target.itl_s) if gaps else -math.inf
    offered = sum(observations[r].offered[target.name] for r in which)
    bad = offered - sum(observations[r].good[target.name] for r in which)
    if not offered:
        return 0.0
    # Half a request where none is bad, so that there is a logarithm.
    return math.log(max(bad, _BAD_HALF) / offered / (1 - target.attainment))
