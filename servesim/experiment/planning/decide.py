"""Does a scenario meet its SLO? A sequential test with a bounded chance of being wrong. See docs/plan.md."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from servesim.experiment.planning.long_enough import long_enough, still_too_short, too_short
from servesim.experiment.planning.observe import Observation, Target, Trial

Verdict = Literal["meets", "misses", "tie"]
# Fewer bad requests than this say little of how they cluster: then they are taken to come as latencies do.
LEAST_BAD = 40.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """One target's value (a share of requests, or seconds) with the interval at the decision's level.

    `indifference` is how far from the target, as a fraction of what it allows, still counts as on it.
    """

    target: Target
    value: float
    low: float
    high: float
    indifference: float = 0.0

    @property
    def used(self) -> tuple[float, float]:
        """The interval of what the target allows: bad requests, or seconds, over those allowed."""
        if self.target.attainment is not None:
            allowed = 1 - self.target.attainment
            return (1 - self.high) / allowed, (1 - self.low) / allowed
        assert self.target.itl_s is not None
        return self.low / self.target.itl_s, self.high / self.target.itl_s

    @property
    def verdict(self) -> Verdict:
        """What the interval says: the target is met or missed, each by half the indifference at least, or neither."""
        low, high = self.used
        half = self.indifference / 2
        return "meets" if high <= 1 - half else "misses" if low > 1 + half else "tie"

    @property
    def seems_met(self) -> bool:
        """True if the value, whatever its interval, is on the right side of the target."""
        if self.target.attainment is not None:
            return self.value >= self.target.attainment
        return self.value <= (self.target.itl_s or 0.0)

    @property
    def on_target(self) -> bool:
        """True if the value surely is within the indifference of the target: more replications would not tell more."""
        low, high = self.used
        return 1 - self.indifference <= low and high <= 1 + self.indifference


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict on one scenario, and what it rests on.

    `short` is set if the runs end before a backlog would be felt, longer ones were not to be had, and they do not miss.
    """

    verdict: Verdict
    estimates: tuple[Estimate, ...]
    replications: int
    overloaded: bool
    short: bool = False

    @property
    def on_target(self) -> bool:
        """True if the open targets surely lie in their zones of indifference, so that this stays a tie."""
        return all(one.on_target for one in self.estimates if one.verdict == "tie")

    @property
    def seems_met(self) -> bool:
        """True if all values, whatever their intervals, are on the right side of their targets."""
        return not self.overloaded and all(one.seems_met for one in self.estimates)

    @property
    def worst(self) -> Estimate:
        """The target that decided: the first that is missed, else the first that is not sure, else the tightest."""
        order = ("misses", "tie", "meets")
        return min(self.estimates, key=lambda one: (order.index(one.verdict), _room(one)))


def _room(one: Estimate) -> float:
    if one.target.attainment is not None:
        return (one.low - one.target.attainment) / (1 - one.target.attainment)
    assert one.target.itl_s is not None
    return (one.target.itl_s - one.high) / one.target.itl_s


@dataclass(frozen=True, slots=True)
class Rule:
    """When to stop: looks after `first`, twice that, ... and `most` replications, each at `alpha` / number of looks.

    By Bonferroni's inequality the chance that any look draws a wrong conclusion is at most `alpha`, however the looks
    depend on each other. `targets` share it, since a scenario meets its SLO only if it meets all of them. A verdict
    needs the whole interval outside half the zone of `indifference` around the target (the idea is R. E. Bechhofer's,
    "A single-sample multiple decision procedure for ranking means of normal populations with known variances", Annals
    of Mathematical Statistics 25(1), 1954): what lies on the target itself is hardly ever decided by chance, and what
    surely lies in the zone is a tie at once.
    """

    alpha: float
    first: int
    most: int
    indifference: float = 0.05

    @property
    def looks(self) -> list[int]:
        """The numbers of replications after which to look."""
        found = [self.first]
        while found[-1] < self.most:
            found.append(min(2 * found[-1], self.most))
        return found

    def decide(self, trial: Trial, targets: tuple[Target, ...]) -> Judgement:
        """Replicate until the targets are surely met or surely missed, or until there are `most` replications."""
        for number in self.looks:
            found = self._look(trial, number, targets)
            if found.verdict != "tie" or found.on_target:
                break
        return found

    def decide_by_long_runs(self, trial: Trial, targets: tuple[Target, ...]) -> tuple[Trial, Judgement]:
        """Decide, where runs are too short for a backlog to be felt and do not miss all the same, by longer ones.

        Return the trial that was decided on, too. A run that begins empty and ends soon flatters: of what it says only
        a miss counts. The two decisions that this may take share `alpha`.
        """
        rule = self
        if too_short(trial.scenario, trial.extend(self.first)):
            rule = replace(self, alpha=self.alpha / 2)
            if not rule._misses_soon(trial, targets):
                trial = long_enough(
                    trial, self.first, lambda seen: judge(seen, targets, rule.alpha).verdict != "misses"
                )
        found = rule.decide(trial, targets)
        short = found.verdict != "misses" and still_too_short(trial.scenario, trial.observations)
        return trial, replace(found, short=short)

    def _misses_soon(self, trial: Trial, targets: tuple[Target, ...]) -> bool:
        """Say whether the targets are surely missed; given up as soon as it looks as if they were met."""
        for number in self.looks:
            found = self._look(trial, number, targets)
            if found.verdict == "misses" or found.seems_met:
                break
        return found.verdict == "misses"

    def _look(self, trial: Trial, number: int, targets: tuple[Target, ...]) -> Judgement:
        alpha = self.alpha / len(self.looks) / len(targets)
        return judge(trial.extend(number), targets, alpha, self.indifference)


def judge(
    observations: list[Observation], targets: tuple[Target, ...], alpha: float, indifference: float = 0.0
) -> Judgement:
    """Return what so many replications say, with one-sided errors of `alpha` for each target."""
    estimates = tuple(replace(estimate(observations, target, alpha), indifference=indifference) for target in targets)
    verdicts = [one.verdict for one in estimates]
    verdict: Verdict = "misses" if "misses" in verdicts else "tie" if "tie" in verdicts else "meets"
    overloaded = 2 * sum(one.overloaded for one in observations) > len(observations)
    if overloaded:  # latencies grow with the run: what this one saw is not what would be served
        verdict = "misses"
    return Judgement(verdict, estimates, len(observations), overloaded)


def estimate(observations: list[Observation], target: Target, alpha: float) -> Estimate:
    """Return a target's value with its interval, each side of which errs with `alpha`."""
    if target.attainment is None:
        return _gap(observations, target, alpha)
    offered = [one.offered[target.name] for one in observations]
    good = [one.good[target.name] for one in observations]
    correlation = sorted(one.correlation[target.name] for one in observations)[len(observations) // 2]
    return Estimate(target, *share_interval(good, offered, alpha, correlation))


def share_interval(
    good: list[int], offered: list[int], alpha: float, correlation: float = 1.0
) -> tuple[float, float, float]:
    """Return (share, low, high): of requests that are good, over independent replications, `alpha` on each side.

    Wilson's score interval ("Probable inference, the law of succession, and statistical inference", JASA 22, 1927) with
    the number of requests divided by their design effect, and Student's t for the normal quantile, as is done for
    clustered samples (E. L. Korn and B. I. Graubard, "Confidence intervals for proportions with small expected number
    of positive counts estimated from survey data", Survey Methodology 24(2), 1998). The design effect is the variance
    between replications over what independent requests would have, at least 1; where fewer than LEAST_BAD requests are
    good or bad it is at least `correlation`, the number of requests in a row that count as one.
    """
    from scipy.special import stdtrit  # type: ignore[import-untyped]  # takes long to load

    count, total = len(offered), sum(offered)
    if not total or count < 2:
        return math.nan, 0.0, 1.0
    share = sum(good) / total
    independent = share * (1 - share) / total
    effect = 1.0
    if independent > 0:
        spread = math.fsum((g - share * n) ** 2 for g, n in zip(good, offered, strict=True))
        effect = max(1.0, spread * count / (count - 1) / total**2 / independent)
    if min(sum(good), total - sum(good)) < LEAST_BAD:
        effect = max(effect, correlation)
    worth = total / effect
    t = float(stdtrit(count - 1, 1 - alpha))
    centre = (share + t * t / (2 * worth)) / (1 + t * t / worth)
    half = t / (1 + t * t / worth) * math.sqrt(share * (1 - share) / worth + t * t / (4 * worth * worth))
    return share, max(0.0, centre - half), min(1.0, centre + half)


def _gap(observations: list[Observation], target: Target, alpha: float) -> Estimate:
    """Return the mean of the replications' p99 token gaps with Student's interval."""
    from scipy.special import stdtrit

    values = [value for one in observations if not math.isnan(value := one.itl_s[target.name])]
    if len(values) < 2:
        return Estimate(target, math.nan, 0.0, math.inf)
    mean = math.fsum(values) / len(values)
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    half = float(stdtrit(len(values) - 1, 1 - alpha)) * math.sqrt(variance / len(values))
    return Estimate(target, mean, mean - half, mean + half)
