"""What a chart shows, as plain data that the page's script draws."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from servesim.metrics.definitions import Floats

Unit = Literal["s", "share", "number"]
Look = Literal["line", "both", "points"]
_DIGITS = 5


@dataclass(frozen=True, slots=True)
class Axis:
    """`unit` says how values read: "s" as times, "share" as percentages. `log` is the scale to begin with.

    `either` offers the reader the other scale.
    """

    label: str
    unit: Unit = "number"
    log: bool = False
    either: bool = False


@dataclass(frozen=True, slots=True)
class Series:
    """One line: `values` has the length of the chart's `x`, NaN where there is none; `color` counts from 0.

    `low` and `high` are its interval, drawn as a band; `crossed` says which values are crossed out, None if none.
    `look` is a line, a line with its points (which goes on where a value is missing), or points alone.
    """

    label: str
    values: Floats
    color: int
    dashed: bool = False
    low: Floats | None = None
    high: Floats | None = None
    crossed: tuple[bool, ...] | None = None
    look: Look = "line"

    def plain(self) -> dict[str, Any]:
        """Return how it is drawn; its values are among the chart's data."""
        return {
            "label": self.label,
            "color": self.color,
            "dashed": self.dashed,
            "look": self.look,
            "crossed": None if self.crossed is None else [place for place, over in enumerate(self.crossed) if over],
            "band": None if self.low is None or self.high is None else [_plain(self.low), _plain(self.high)],
        }


@dataclass(frozen=True, slots=True)
class Mark:
    """A straight line across the chart at `at` of an axis, such as an objective."""

    label: str
    at: float
    color: int
    axis: Literal["x", "y"] = "x"


@dataclass(frozen=True, slots=True)
class Shade:
    """A stretch of the x axis that is shaded, such as overload."""

    label: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over a common `x`, which rises. `key` is unique in a page; `together` ties the cursors of charts.

    `notes`, one for each x, are shown at the point that the pointer is nearest to.
    """

    key: str
    title: str
    caption: str
    x: Floats
    x_axis: Axis
    y_axis: Axis
    series: tuple[Series, ...]
    marks: tuple[Mark, ...] = ()
    together: str = ""
    shade: Shade | None = None
    notes: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """Return the chart as JSON takes it; numbers have five significant digits, NaN becomes null."""
        return {
            "together": self.together,
            "x_axis": asdict(self.x_axis),
            "y_axis": asdict(self.y_axis),
            "series": [one.plain() for one in self.series],
            "marks": [asdict(mark) for mark in self.marks],
            "shade": None if self.shade is None else asdict(self.shade),
            "notes": list(self.notes),
            "data": [_plain(self.x), *(_plain(one.values) for one in self.series)],
        }


def _plain(values: Iterable[float]) -> list[float | None]:
    return [float(f"{value:.{_DIGITS}g}") if np.isfinite(value) else None for value in values]
