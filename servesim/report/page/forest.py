"""Values with their intervals along one axis, row by row: changes, effects, verdicts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from servesim.report.page.screen import Tone

_ROUND = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Entry:
    """What a row is made of: `value` with `low` and `high` of its interval, None where there is none."""

    label: str
    value: float | None
    low: float | None
    high: float | None
    words: str
    tip: str
    note: str = ""
    tone: Tone = "plain"


@dataclass(frozen=True, slots=True)
class Row:
    """A row as the page draws it: places and (start, width) in percent of the axis; None where there is nothing."""

    label: str
    note: str
    tone: Tone
    value: str
    tip: str
    place: float | None = None
    length: tuple[float, float] = (0.0, 0.0)
    range: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Forest:
    """Rows along one axis. `band` is the region that does not matter, `ticks` are (place, label)."""

    title: str
    caption: str
    rows: list[Row]
    zero: float
    ticks: list[tuple[float, str]]
    band: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Scale:
    """An axis from `low` to `high`; what lies beyond ends at its edge."""

    low: float
    high: float

    def place(self, value: float) -> float:
        """Return where a value is, in percent."""
        inside = min(max(value, self.low), self.high)
        return round(100 * (inside - self.low) / (self.high - self.low), 3)

    def span(self, low: float, high: float) -> tuple[float, float]:
        """Return where a range begins and how long it is, in percent."""
        start = self.place(low)
        return start, round(self.place(high) - start, 3)


def forest(
    title: str,
    caption: str,
    entries: Sequence[Entry],
    words: Callable[[float], str],
    *,
    within: float | None = None,
    limit: float = math.inf,
) -> Forest:
    """Return the rows along an axis that holds all of them, 0 included, but nothing beyond `limit` in size.

    `words` says what a place on the axis is called; changes up to `within` are marked as too small to matter.
    """
    scale = _scale(entries, within, limit)
    band = None if within is None else scale.span(-within, within)
    ticks = [(scale.place(at), words(at)) for at in _ticks(scale)]
    return Forest(title, caption, [_row(one, scale) for one in entries], scale.place(0.0), ticks, band)


def _scale(entries: Sequence[Entry], within: float | None, limit: float) -> Scale:
    ends = [end for one in entries for end in (one.value, one.low, one.high) if end is not None and math.isfinite(end)]
    ends += [0.0] if within is None else [-1.5 * within, 1.5 * within]
    low, high = max(min(ends), -limit), min(max(ends), limit)
    if low == high:
        return Scale(-1.0, 1.0)
    room = 0.02 * (high - low)
    return Scale(low - room if low < 0 else 0.0, high + room if high > 0 else 0.0)


def _ticks(scale: Scale) -> list[float]:
    """Return at most six round places, 0 among them."""
    step = (scale.high - scale.low) / 5
    power = 10 ** math.floor(math.log10(step))
    step = next(size * power for size in _ROUND if size * power >= step * 0.999)
    first, last = math.ceil(scale.low / step), math.floor(scale.high / step)
    return [count * step for count in range(first, last + 1)]


def _row(one: Entry, scale: Scale) -> Row:
    if one.value is None:
        return Row(one.label, one.note, one.tone, one.words, one.tip)
    length = scale.span(min(0.0, one.value), max(0.0, one.value))
    known = one.low is not None and one.high is not None
    around = scale.span(one.low, one.high) if known else None  # type: ignore[arg-type]
    return Row(one.label, one.note, one.tone, one.words, one.tip, scale.place(one.value), length, around)
