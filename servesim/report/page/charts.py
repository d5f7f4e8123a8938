"""What a chart shows, as plain data that the page's script draws."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from servesim.metrics.definitions import Floats

Unit = Literal["s", "share", "number"]
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
    """One line: `values` has the length of the chart's `x`, NaN where there is none; `color` counts from 0."""

    label: str
    values: Floats
    color: int
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """A straight line across the chart at `at` of the x axis, such as an objective."""

    label: str
    at: float
    color: int


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over a common `x`, which rises. `key` is unique in a page; `together` ties the cursors of charts."""

    key: str
    title: str
    caption: str
    x: Floats
    x_axis: Axis
    y_axis: Axis
    series: tuple[Series, ...]
    marks: tuple[Mark, ...] = ()
    together: str = ""

    def plain(self) -> dict[str, Any]:
        """Return the chart as JSON takes it; numbers have five significant digits, NaN becomes null."""
        return {
            "together": self.together,
            "x_axis": asdict(self.x_axis),
            "y_axis": asdict(self.y_axis),
            "series": [{"label": one.label, "color": one.color, "dashed": one.dashed} for one in self.series],
            "marks": [asdict(mark) for mark in self.marks],
            "data": [_plain(self.x), *(_plain(one.values) for one in self.series)],
        }


def _plain(values: Iterable[float]) -> list[float | None]:
    return [float(f"{value:.{_DIGITS}g}") if np.isfinite(value) else None for value in values]
