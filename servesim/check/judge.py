"""What two sets of replications say of each metric: a regression, none that matters, or not enough to say so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from servesim.experiment.compare import more_is_better
from servesim.metrics.contrasts import Values, holm, mean, smallest_detectable

REGRESSION, IMPROVED, OK, SAME, INCONCLUSIVE = "regression", "improved", "ok", "unchanged", "inconclusive"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One metric. `relative` is the change of its mean; `p` the chance of such a finding without a change (Holm).

    `low`, `high`: 95 % interval of `relative`, of this metric alone. `detectable`: the change for the worse that would
    have been found with 80 % probability, as a fraction.
    """

    metric: str
    status: str
    before: float | None = None
    now: float | None = None
    relative: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    threshold: float | None = None
    detectable: float | None = None
    note: str = ""

    def plain(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "metric"}


@dataclass(frozen=True, slots=True)
class Rules:
    """Chance of any false alarm, and for each metric's status the fractions of docs/ci.md."""

    level: float
    threshold: float
    detectable: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """One metric's values before and now; None among those now where a replication does not define it."""

    before: list[float]
    now: list[float | None]
    paired: bool
    threshold: float

    @property
    def values(self) -> Values | None:
        """Both as numbers; None if there are too few, or some are not defined."""
        known = [value for value in self.now if value is not None]
        before = self.before[: len(known)] if self.paired else self.before
        if len(known) < len(self.now) or len(known) < 2 or len(before) < 2:
            return None
        return Values(before, known, self.paired)


def verdicts(evidence: Mapping[Any, Evidence], metric_of: Mapping[Any, str], rules: Rules) -> dict[Any, Verdict]:
    """Judge all metrics of all scenarios together: Holm over all of them. Keys are the caller's."""
    known = {key: values for key, one in evidence.items() if (values := one.values) is not None}
    worse = holm({key: _p(metric_of[key], values, for_worse=True) for key, values in known.items()})
    better = holm({key: _p(metric_of[key], values, for_worse=False) for key, values in known.items()})
    return {
        key: _verdict(metric_of[key], one, known[key], worse[key], better[key], rules, rules.level / len(known))
        if key in known
        else _unknown(metric_of[key], one)
        for key, one in evidence.items()
    }


def _p(metric: str, values: Values, *, for_worse: bool) -> float:
    contrast = values.contrast()
    return contrast.p_above() if for_worse != more_is_better(metric) else contrast.p_below()


def _unknown(metric: str, one: Evidence) -> Verdict:
    missing = sum(value is None for value in one.now)
    before = mean(one.before)
    if missing:
        note = f"not defined in {missing} of {len(one.now)} replications, as it was in the baseline"
        return Verdict(metric, REGRESSION, before, threshold=one.threshold, note=note)
    note = f"only {len(one.now)} replication within the budget; at least 2 are needed"
    return Verdict(metric, INCONCLUSIVE, before, one.now[0], threshold=one.threshold, note=note)


def _verdict(
    metric: str, one: Evidence, values: Values, worse: float, better: float, rules: Rules, strict_level: float
) -> Verdict:
    relative = values.relative
    low, high = values.relative_interval(0.05) or (None, None)
    seen = Verdict(metric, OK, values.mean_a, values.mean_b, relative, low, high, worse, one.threshold)
    if one.paired and list(values.a) == list(values.b):
        return replace(seen, status=SAME, note="equal to the last digit")
    # A change relative to nothing is as large as can be.
    matters = relative is None or abs(relative) >= one.threshold
    if matters and worse <= rules.level:
        return replace(seen, status=REGRESSION)
    found = smallest_detectable(values, one.threshold, strict_level)
    if matters and better <= rules.level:
        return replace(seen, status=IMPROVED, p=better, detectable=found)
    if found is None or found > max(rules.detectable, 2 * one.threshold):
        note = "too noisy to see a change that matters; more or longer replications would"
        return replace(seen, status=INCONCLUSIVE, detectable=found, note=note)
    return replace(seen, detectable=found)
