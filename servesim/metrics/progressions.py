"""Exact weighted percentiles of values that come as many short arithmetic progressions, without listing the values.

A run of iterations with an unchanged batch has durations first, first + step, ..., and every sequence in the batch
sees each of them as one token gap. So the distribution of all token gaps is a weighted set of progressions. It is read
from a re-iterable source in chunks and never held in memory:

1. A survey bins every row's smallest and largest term. The r-th smallest of all terms is at least the r-th smallest
   of the rows' smallest terms and at most that of their largest, which brackets it within one or a few bins.
2. Only terms inside the bracket are listed and sorted. Should they be too many, the bracket is narrowed first by
   counting exactly how much lies below a few points in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from servesim.metrics.definitions import PERCENTILES, Floats, between, rank

# Terms listed at once, at most: 24 bytes each while they are sorted.
_MAX_LISTED = 1 << 18
# The upper bits of a positive float64, read as an integer, are a logarithmic scale: 11 bits of exponent and 8 of
# mantissa make 256 bins per octave.
_KEY_SHIFT = 52 - 8
_KEYS = 1 << 19
# Steps by which a guessed index may be off before it is searched for instead.
_CORRECTIONS = 3


class Progressions(NamedTuple):
    """Rows of terms `first + step * i` for i in 0..length-1, each term weighing `weight`; all arrays of shape (n,).

    `first` and `step` are not negative; `length` and `weight` are whole numbers and at least 1.
    """

    first: Floats
    step: Floats
    length: Floats
    weight: Floats

    def last(self) -> Floats:
        """Return the largest term of every row."""
        return self.first + self.step * (self.length - 1)

    def take(self, where: NDArray[np.bool_]) -> Progressions:
        """Return the rows where `where` is true."""
        return Progressions(self.first[where], self.step[where], self.length[where], self.weight[where])

    def terms_below(self, value: float) -> Floats:
        """Return how many terms of every row are smaller than `value`.

        Division gives a first guess; the terms themselves decide, so that every term is counted on exactly one side.
        """
        first, step, count = self.first, self.step, self.length
        if count.max(initial=1) == 1:
            return np.where(first < value, 1.0, 0.0)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            guess = np.ceil((value - first) / step)
        below = np.where(step > 0, np.clip(guess, 0, count), np.where(first < value, count, 0.0))
        for _ in range(_CORRECTIONS):
            over = (below > 0) & (first + step * (below - 1) >= value)
            under = (below < count) & (first + step * below < value)
            if not (over | under).any():
                return below
            below += under.astype(np.float64) - over
        return self._bisected_below(value)

    def _bisected_below(self, value: float) -> Floats:
        """Return `terms_below` where steps are so small beside the terms that division cannot guess."""
        low, high = np.zeros(len(self.first)), self.length.copy()
        while (low < high).any():
            middle = np.floor(0.5 * (low + high))
            below = (self.first + self.step * middle < value) & (low < high)
            low, high = np.where(below, middle + 1, low), np.where(below, high, np.minimum(high, middle))
        return low

    def between(self, low: float, high: float) -> tuple[float, Progressions]:
        """Return the weight of the terms below `low`, and the rows cut to the terms in [low, high)."""
        if not len(self.first) or self.length.max() == 1:
            inside = self.take((self.first >= low) & (self.first < high))
            return float(self.weight[self.first < low].sum()), inside
        start = self.terms_below(low)
        cut = Progressions(self.first + self.step * start, self.step, self.terms_below(high) - start, self.weight)
        return float((self.weight * start).sum()), cut.take(cut.length > 0)

    def listed(self) -> tuple[Floats, Floats]:
        """Return every term and its weight."""
        count = self.length.astype(np.int64)
        if not len(count) or count.max() == 1:
            return self.first, self.weight
        index = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        return np.repeat(self.first, count) + np.repeat(self.step, count) * index, np.repeat(self.weight, count)


Source = Callable[[], Iterator[Progressions]]


class _Bracket(NamedTuple):
    """[low, high) holds the terms of these ranks; rows wholly below `low` weigh `passed`."""

    low: float
    high: float
    ranks: tuple[int, ...]
    passed: float


def describe(source: Source) -> dict[str, float]:
    """Return mean and PERCENTILES of the weighted terms: what numpy would say of the list of all of them."""
    survey = _Survey(source)
    if not survey.weight:
        return dict.fromkeys(["mean", *(f"p{q}" for q in PERCENTILES)], math.nan)
    total = int(survey.weight)
    wanted = {q: rank(q, total) for q in PERCENTILES}
    ranks = sorted({min(index + more, total - 1) for index, _ in wanted.values() for more in (0, 1)})
    found = _select(source, survey.brackets(ranks))
    result = {"mean": survey.total / total}
    for q, (index, fraction) in wanted.items():
        result[f"p{q}"] = between(found[index], found[min(index + 1, total - 1)], fraction)
    return result


class _Survey:
    """Total, weight, and the binned weight of rows by their smallest and by their largest term."""

    def __init__(self, source: Source) -> None:
        self.weight = self.total = 0.0
        self._smallest, self._largest = np.zeros(_KEYS), np.zeros(_KEYS)
        self._from, self._to = _KEYS, 0
        for rows in source():
            if len(rows.first):
                self._add(rows)

    def _add(self, rows: Progressions) -> None:
        weight = rows.weight * rows.length
        self.weight += float(weight.sum())
        # Sums here avoid BLAS, whose threads would make the last digits depend on the machine.
        self.total += float((weight * (rows.first + rows.step * (0.5 * (rows.length - 1)))).sum())
        self._bin(self._smallest, rows.first, weight)
        self._bin(self._largest, rows.last(), weight)

    def _bin(self, bins: Floats, values: Floats, weight: Floats) -> None:
        keys = np.ascontiguousarray(values).view(np.int64) >> _KEY_SHIFT
        low, high = int(keys.min()), int(keys.max())
        bins[low : high + 1] += np.bincount(keys - low, weight)
        self._from, self._to = min(self._from, low), max(self._to, high)

    def brackets(self, ranks: list[int]) -> list[_Bracket]:
        """Return for each rank bins that hold its term; ranks with the same bins share a bracket."""
        smallest = np.cumsum(self._smallest[self._from : self._to + 1])
        largest = np.cumsum(self._largest[self._from : self._to + 1])
        shared: dict[tuple[int, int], list[int]] = {}
        for one in ranks:
            low = int(np.searchsorted(smallest, one, side="right"))
            high = int(np.searchsorted(largest, one, side="right")) + 1
            shared.setdefault((low, high), []).append(one)
        return [
            _Bracket(self._edge(low), self._edge(high), tuple(members), float(largest[low - 1]) if low else 0.0)
            for (low, high), members in shared.items()
        ]

    def _edge(self, key: int) -> float:
        """Return the lower edge of a bin."""
        return float(np.int64((key + self._from) << _KEY_SHIFT).view(np.float64))


def _select(source: Source, brackets: list[_Bracket]) -> dict[int, float]:
    """Return the term of every rank: list the brackets with few terms at once, narrow the others."""
    below = [bracket.passed for bracket in brackets]
    listed: list[list[tuple[Floats, Floats]]] = [[] for _ in brackets]
    room = [_MAX_LISTED] * len(brackets)
    for rows in source():
        last = rows.last()
        for i, bracket in enumerate(brackets):
            if room[i] < 0:
                continue
            weight, cut = rows.take((last >= bracket.low) & (rows.first < bracket.high)).between(*bracket[:2])
            below[i] += weight
            room[i] -= int(cut.length.sum())
            if room[i] >= 0:
                listed[i].append(cut.listed())
            else:
                listed[i].clear()
    found: dict[int, float] = {}
    for i, bracket in enumerate(brackets):
        if room[i] >= 0:
            found.update(_pick(listed[i], below[i], bracket.ranks))
    for i, bracket in enumerate(brackets):
        if room[i] < 0:
            found.update(_narrow(source, bracket.low, bracket.high, bracket.ranks))
    return found


def _pick(parts: list[tuple[Floats, Floats]], below: float, ranks: tuple[int, ...]) -> dict[int, float]:
    """Return the terms of `ranks` among listed (terms, weights) that have weight `below` before them."""
    terms = np.concatenate([part[0] for part in parts])
    order = np.argsort(terms)
    upto = np.cumsum(np.concatenate([part[1] for part in parts])[order]) + below
    where = np.searchsorted(upto, ranks, side="right")
    return dict(zip(ranks, terms[order[where]].tolist(), strict=True))


def _narrow(source: Source, low: float, high: float, ranks: tuple[int, ...]) -> dict[int, float]:
    """Halve [low, high), or better, by exact counts at points in it, until few enough terms are left to list."""
    inside = [low + (high - low) * part for part in (0.25, 0.5, 0.75)]
    while True:
        points = sorted({point for point in inside if low < point < high} | {low, high})
        tally = _Tally(source, points)
        if tally.smallest == tally.largest:
            return dict.fromkeys(ranks, tally.smallest)
        at = int(np.searchsorted(tally.weights, ranks[0], side="right")) - 1
        after = tuple(one for one in ranks if one >= tally.weights[at + 1])
        if after:  # the ranks lie apart
            rest = _narrow(source, points[at + 1], high, after)
            return rest | _narrow(source, points[at], points[at + 1], ranks[: len(ranks) - len(after)])
        low, high = max(points[at], tally.smallest), min(points[at + 1], math.nextafter(tally.largest, math.inf))
        if tally.terms[at + 1] - tally.terms[at] <= _MAX_LISTED:
            parts = [rows.between(low, high)[1].listed() for rows in source()]
            return _pick(parts, tally.weights[at], ranks)
        share = (ranks[0] - tally.weights[at] + 0.5) / (tally.weights[at + 1] - tally.weights[at])
        middle, near = low + (high - low) * share, (high - low) / 32
        inside = [middle - near, middle + near, 0.5 * (low + high)]


class _Tally:
    """Weight and number of terms below each of some points, and the extremes of the terms between the outer two."""

    def __init__(self, source: Source, points: list[float]) -> None:
        self.weights, self.terms = [0.0] * len(points), [0.0] * len(points)
        self.smallest, self.largest = math.inf, -math.inf
        for rows in source():
            self._add(rows, points)

    def _add(self, rows: Progressions, points: list[float]) -> None:
        below = [rows.terms_below(point) for point in points]
        for i, terms in enumerate(below):
            self.weights[i] += float((rows.weight * terms).sum())
            self.terms[i] += float(terms.sum())
        inside = below[0] < below[-1]
        if inside.any():
            first, step = rows.first[inside], rows.step[inside]
            self.smallest = min(self.smallest, float((first + step * below[0][inside]).min()))
            self.largest = max(self.largest, float((first + step * (below[-1][inside] - 1)).max()))
