"""Which of two scenarios is better, by how much, how sure that is, and why: see docs/statistics.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from servesim.errors import InputError
from servesim.experiment.compare_why import why_changed
from servesim.experiment.precision import HEADLINES, number_at, wanted_metrics
from servesim.experiment.replicate import Replications, Runs, Told, checked_number
from servesim.metrics.contrasts import Values, holm, mean
from servesim.scenario.schema import Scenario

LEAST_REPLICATIONS = 10
MARGIN = 0.02
LEVEL = 0.05
BETTER, WORSE, EQUAL, IDENTICAL = "better", "worse", "practically equal", "identical"
UNDECIDED, UNDEFINED = "no difference shown", "not defined"
_MORE_IS_BETTER = ("_rps", "_tps", "slo_attainment")


@dataclass(frozen=True, slots=True)
class Change:
    """One metric of b against a. `low`, `high`: of the relative change; None where it is relative to 0 or undefined.

    `p_different` and `p_equal` are adjusted after Holm. `each` has every replication's relative change.
    """

    metric: str
    verdict: str
    a: float | None = None
    b: float | None = None
    relative: float | None = None
    low: float | None = None
    high: float | None = None
    p_different: float | None = None
    p_equal: float | None = None
    each: tuple[float, ...] = ()

    def plain(self) -> dict[str, Any]:
        """Return what the summary holds."""
        names = ("verdict", "a", "b", "relative", "low", "high", "p_different", "p_equal")
        return {**{name: getattr(self, name) for name in names}, "relative_each": list(self.each)}


class Comparison:
    """Replications of two scenarios under the same seeds, and what they say of the metrics.

    `looks` is how often the verdicts were, or could have been, looked at; `level` the chance of error of each look.
    """

    def __init__(self, a: Replications, b: Replications, changes: list[Change], margin: float, looks: int) -> None:
        self.a = a
        self.b = b
        self.changes = changes
        self.margin = margin
        self.looks = looks
        self.level = LEVEL / looks

    @property
    def overloaded(self) -> bool:
        """True if either scenario is overloaded in most replications."""
        return self.a.overloaded or self.b.overloaded

    @property
    def summary(self) -> dict[str, Any]:
        """Everything as plain data, ready for JSON."""
        return {
            "schema_version": 1,
            "a": self.a.scenario.name,
            "b": self.b.scenario.name,
            "replications": len(self.a),
            "seeds": self.a.seeds,
            "margin": self.margin,
            "looks": self.looks,
            "confidence": 1 - self.level,
            "overloaded": {"a": self.a.overloaded, "b": self.b.overloaded},
            "metrics": {change.metric: change.plain() for change in self.changes},
            "why": why_changed(self.a.summaries, self.b.summaries, self.level),
            "classes": self._classes(),
            "completed": {"a": _completed(self.a), "b": _completed(self.b)},
            "provenance": {"a": self.a.first.numbers["provenance"], "b": self.b.first.numbers["provenance"]},
        }

    def _classes(self) -> dict[str, list[str]]:
        """Return the classes that both have, whose requests are the same in both, and those that one has alone."""
        ours, theirs = (list(side.scenario.workload.classes) for side in (self.a, self.b))
        return {
            "shared": [name for name in ours if name in theirs],
            "a": [name for name in ours if name not in theirs],
            "b": [name for name in theirs if name not in ours],
        }


def _completed(side: Replications) -> float | None:
    """Return the fraction of the offered requests that were completed, over all replications; None of none."""
    offered, done = (sum(one["classes"]["all"][key] for one in side.summaries) for key in ("offered", "completed"))
    return done / offered if offered else None


def compare(
    a: Scenario | str | Path,
    b: Scenario | str | Path,
    *,
    replications: int | None = None,
    max_replications: int = 100,
    margin: float = MARGIN,
    metrics: Sequence[str] = (),
    seed: int | None = None,
    workers: int = 1,
    progress: Told | None = None,
) -> Comparison:
    """Run both scenarios under the same random numbers until every metric's verdict is decided.

    Replicates 10, 20, 40, ... times, at most `max_replications`; or exactly `replications` times. `metrics` are names
    such as `e2e_s.p99` or `chat.ttft_s.mean`, HEADLINES unless given. A metric is "better" or "worse" where a
    difference is shown, "practically equal" where it is shown to be smaller than the fraction `margin`. The chance of
    any false finding among all metrics and looks is at most 5 %, and so is that of any false equality: Holm over
    metrics, the level divided by the number of looks. `progress(done, of)` counts the runs of both. Raises InputError.
    """
    if isinstance(margin, bool) or not isinstance(margin, int | float) or not 0 < margin < 1:
        raise InputError(f"margin: a fraction between 0 and 1, such as 0.02, not {margin!r}")
    counts = look_counts(replications, max_replications)
    tell = progress or (lambda done, of: None)
    first = Runs(a, seed, workers)
    second = Runs(b, first.summaries[0]["seed"], workers)
    wanted = _wanted(first, second, metrics)
    for count in counts:
        done = len(first.summaries)
        first.extend(count, lambda n, of, start=done: tell(n + start, 2 * of))  # type: ignore[misc]
        second.extend(count, lambda n, of: tell(of + n, 2 * of))
        changes = judged(first.summaries, second.summaries, wanted, margin, LEVEL / len(counts))
        if all(change.verdict != UNDECIDED for change in changes):
            break
    return Comparison(first.replications(), second.replications(), changes, margin, len(counts))


def look_counts(replications: int | None, most: int) -> list[int]:
    """Return after how many replications there is a look at the verdicts: 10, 20, 40, ... up to `most`."""
    if replications is not None:
        if checked_number(replications, "replications") < 2:
            raise InputError("replications: at least 2, one says nothing of how another would differ")
        return [replications]
    if checked_number(most, "max-replications") < LEAST_REPLICATIONS:
        raise InputError(f"max-replications: at least {LEAST_REPLICATIONS}, not {most}")
    counts = [LEAST_REPLICATIONS]
    while counts[-1] < most:
        counts.append(min(2 * counts[-1], most))
    return counts


def _wanted(first: Runs, second: Runs, metrics: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the paths of the metrics, which must exist in both unless they are the default ones."""
    ours = wanted_metrics(first.summaries[0], metrics)
    theirs = wanted_metrics(second.summaries[0], metrics)
    return {name: ours.get(name) or theirs[name] for name in metrics or HEADLINES if name in ours or name in theirs}


def judged(
    a: list[dict[str, Any]],
    b: list[dict[str, Any]],
    wanted: dict[str, tuple[str, ...]],
    margin: float,
    level: float,
) -> list[Change]:
    """Return what paired summaries say of each metric, each family of statements wrong with at most `level`."""
    pairs = {name: _pairs(a, b, path) for name, path in wanted.items()}
    known = {name: values for name, values in pairs.items() if values is not None}
    different = holm({name: values.contrast().p_different() for name, values in known.items()})
    equal = holm({name: values.p_equal_within(margin) for name, values in known.items()})
    return [
        _undefined(name, a, b, wanted[name])
        if values is None
        else _change(name, values, different[name], equal[name], level)
        for name, values in pairs.items()
    ]


def _undefined(name: str, a: list[dict[str, Any]], b: list[dict[str, Any]], path: tuple[str, ...]) -> Change:
    """Return that nothing can be said of a metric, with the mean of the side that does define it."""
    sides = [[number_at(one["classes"], path) for one in side] for side in (a, b)]
    means = [None if None in side else mean([value for value in side if value is not None]) for side in sides]
    return Change(name, UNDEFINED, a=means[0], b=means[1])


def _pairs(a: list[dict[str, Any]], b: list[dict[str, Any]], path: tuple[str, ...]) -> Values | None:
    """Return both sides' values; None where some replication does not define the metric."""
    ours = [number_at(one["classes"], path) for one in a]
    theirs = [number_at(one["classes"], path) for one in b]
    return None if None in ours or None in theirs else Values(ours, theirs, paired=True)


def _change(name: str, values: Values, different: float, equal: float, level: float) -> Change:
    interval = values.relative_interval(level) or (None, None)
    return Change(
        metric=name,
        verdict=_verdict(name, values, different, equal, level),
        a=values.mean_a,
        b=values.mean_b,
        relative=values.relative,
        low=interval[0],
        high=interval[1],
        p_different=different,
        p_equal=equal,
        each=tuple((y - x) / values.mean_a for x, y in zip(values.a, values.b, strict=True)) if values.mean_a else (),
    )


def _verdict(name: str, values: Values, different: float, equal: float, level: float) -> str:
    if list(values.a) == list(values.b):
        return IDENTICAL
    if equal <= level:
        return EQUAL
    if different <= level:
        return BETTER if (values.mean_b > values.mean_a) == more_is_better(name) else WORSE
    return UNDECIDED


def more_is_better(metric: str) -> bool:
    """Return whether a larger value of a metric is welcome: rates and attainment, not times."""
    return metric.endswith(_MORE_IS_BETTER)
