"""Whether the points of a sweep meet their objectives, and up to which load each line of them does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from servesim.report.numbers import percent, seconds
from servesim.report.page.answer import ORDER, Verdict, judge
from servesim.report.sweep_series import Line

GOOD: tuple[Verdict, ...] = ("met", "met here")


def is_asked(scenario: dict[str, Any], points: list[dict[str, Any]]) -> bool:
    """Say whether any class of any point has an objective."""
    return any(_asked(row, scenario) for row in points)


def point_verdict(row: dict[str, Any], scenario: dict[str, Any]) -> Verdict:
    """Return the worst verdict on a point's objectives; `row` is one of sweep.json that did not fail.

    A point is overloaded if most of its replications are; of one with fewer, what it met cannot be told.
    """
    if row["overloaded"]:
        return "overloaded"
    told: list[Verdict] = ["unclear" if one == "overloaded" else one for *_, one in _judged(row, scenario)]
    return min(told, key=ORDER.index, default="not asked")


def shortfall(row: dict[str, Any], scenario: dict[str, Any]) -> str:
    """Return in words which objectives a point does not surely meet, with their figures; "" if all, or if overloaded.

    The class is named where there are several.
    """
    if row["overloaded"]:
        return ""
    told = (_words(*one) for one in _judged(row, scenario) if one[-1] not in GOOD)
    return "; ".join(dict.fromkeys(told))


def _words(metric: str, value: float, asked: float, verdict: Verdict) -> str:
    if verdict == "overloaded":
        return "some replications are overloaded"
    what = metric.removesuffix("slo_attainment").removesuffix(".") or "good"
    return f"{what} {_figure(metric, value)}, {_figure(metric, asked)} asked"


def _figure(metric: str, value: float) -> str:
    return percent(value) if metric.endswith("slo_attainment") else seconds(value)


def _judged(row: dict[str, Any], scenario: dict[str, Any]) -> Iterator[tuple[str, float, float, Verdict]]:
    """Yield (metric, value, what is asked of it, verdict) of each objective of a point."""
    for metric, asked, at_least in _asked(row, scenario):
        cell = row["metrics"].get(metric, {})
        if cell.get("value") is not None:
            yield metric, cell["value"], asked, judge(cell["value"], asked, cell, at_least=at_least)


def _asked(row: dict[str, Any], scenario: dict[str, Any]) -> list[tuple[str, float, bool]]:
    """Return (metric, what is asked of it, whether at least that) of a point's classes, its own settings included."""
    classes, found = scenario["workload"]["classes"], []
    for name, spec in classes.items():
        slo = spec.get("slo") or {}
        begin = f"{name}." if len(classes) > 1 else ""
        for key, metric, at_least in (("attainment", "slo_attainment", True), ("itl_s", "itl_s.p99", False)):
            asked = row["settings"].get(f"workload.classes.{name}.slo.{key}", slo.get(key))
            if asked is not None:
                found.append((begin + metric, float(asked), at_least))
    return found


@dataclass(frozen=True, slots=True)
class Reach:
    """How far along its load a line does what is asked (without objectives: is not overloaded).

    `last` is the place of the last point of which this is so for it and all before it, None if not even the first;
    `verdict` is that of the point after it, None at the end of the line, and `short` what that point falls short of.
    """

    line: Line
    last: int | None
    verdict: Verdict | None
    short: str = ""

    @property
    def row(self) -> dict[str, Any] | None:
        """The last point that does."""
        return None if self.last is None else self.line.rows[self.last]

    @property
    def load(self) -> float:
        """The load of that point, below everything if there is none."""
        return float("-inf") if self.last is None else self.line.x[self.last]

    @property
    def next_load(self) -> float | None:
        """The load of the point after it."""
        place = 0 if self.last is None else self.last + 1
        return self.line.x[place] if place < len(self.line.x) else None


def reach(line: Line, scenario: dict[str, Any]) -> Reach:
    """Return how far a line goes."""
    last = None
    for place, row in enumerate(line.rows):
        verdict = point_verdict(row, scenario)
        if verdict not in GOOD and verdict != "not asked":
            return Reach(line, last, verdict, shortfall(row, scenario))
        last = place
    return Reach(line, last, None)
