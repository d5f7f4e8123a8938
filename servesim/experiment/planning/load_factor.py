"""How much load can this take: the largest factor on all arrival rates with which the SLO is met."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from servesim.errors import InputError
from servesim.experiment.planning.observe import Laboratory, Observation, Target, Trial
from servesim.metrics.intervals import CONFIDENCE
from servesim.scenario.schema import Scenario
from servesim.workload.scaled import scaled

_LOWEST, _HIGHEST = 1 / 1024, 256.0
_BAD_HALF = 0.5


@dataclass(frozen=True, slots=True)
class Breaking:
    """The load factor at which the SLO breaks, with its 95 % interval; NaN where it never breaks or never holds.

    `target` is the one that breaks first. `reason` says why there is no number or no interval.
    """

    factor: float
    low: float
    high: float
    target: Target | None = None
    reason: str = ""


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
    replications: int
    points: dict[float, list[Observation]] = field(default_factory=dict)

    def at(self, factor: float) -> list[Observation]:
        """Return the observations at a factor."""
        if factor not in self.points:
            trial = Trial(self.laboratory, scaled_scenario(self.scenario, factor))
            self.points[factor] = trial.extend(self.replications)
        return self.points[factor]


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
    both. The interval is the jackknife's over replications (B. Efron and C. Stein, "The jackknife estimate of
    variance", Annals of Statistics 9(3), 1981) with Student's t.
    """
    curve = Curve(laboratory, scenario, replications)
    all_of_them = list(range(replications))

    def holds(factor: float) -> bool:
        return all(excess(curve.at(factor), target, all_of_them) <= 0 for target in targets)

    low = high = start
    if holds(start):
        while holds(high):
            low, high, stride = high, stride * high, min(stride**2, 2.0)
            if high > _HIGHEST:
                return Breaking(math.nan, low, math.inf, reason=f"holds at {low:g} times the load, the most tried")
    else:
        while not holds(low):
            low, high, stride = low / stride, low, min(stride**2, 2.0)
            if low < _LOWEST:
                return Breaking(0.0, 0.0, high, reason="does not hold at a thousandth of the load either")
    while high / low > 1 + precision:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if holds(middle) else (low, middle)
    return _breaking(curve, targets)


def _breaking(curve: Curve, targets: tuple[Target, ...]) -> Breaking:
    count = curve.replications
    everything = list(range(count))
    roots = {target: _root(curve, target, everything) for target in targets}
    first = min(targets, key=lambda target: roots[target])
    factor = roots[first]
    if count < 2:
        return Breaking(factor, math.nan, math.nan, first, "one replication says nothing of how another would differ")
    from scipy.special import stdtrit  # type: ignore[import-untyped]  # takes long to load

    left_out = [
        math.log(min(_root(curve, target, [r for r in everything if r != gone]) for target in targets))
        for gone in everything
    ]
    mean = math.fsum(left_out) / count
    spread = math.sqrt((count - 1) / count * math.fsum((value - mean) ** 2 for value in left_out))
    half = float(stdtrit(count - 1, 0.5 + CONFIDENCE / 2)) * spread
    return Breaking(factor, factor * math.exp(-half), factor * math.exp(half), first)


def _root(curve: Curve, target: Target, which: list[int]) -> float:
    """Return where the excess of some replications crosses 0, from the factors tried: the first pair around it."""
    tried = sorted(curve.points)
    over = [excess(curve.points[factor], target, which) for factor in tried]
    for index, value in enumerate(over):
        if value > 0:
            if index == 0:
                return tried[0]
            before = over[index - 1]
            part = before / (before - value) if value > before else 0.5
            return math.exp(math.log(tried[index - 1]) * (1 - part) + math.log(tried[index]) * part)
    return tried[-1]


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
