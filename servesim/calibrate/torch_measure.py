"""How a point is measured until its median is stable, and how a campaign of points is carried through."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from scipy.stats import binom  # type: ignore[import-untyped]

from servesim.calibrate.torch_points import BatchPoint, IterationPoint

P = TypeVar("P", IterationPoint, BatchPoint)
Asked = TypeVar("Asked", IterationPoint, BatchPoint, contravariant=True)
CONFIDENCE = 0.95


class OutOfMemory(Exception):  # noqa: N818 (an answer, not an error: this batch does not fit)
    """The device has no room for a batch."""


class Backend(Protocol[Asked]):
    """What runs iterations or batches of one model on one device."""

    def prepare(self, point: Asked) -> Callable[[], float]:
        """Return what runs `point` once and returns its seconds; raises OutOfMemory where it does not fit."""

    def state(self) -> dict[str, float]:
        """Return what the device says of itself now: clock, power, temperature, where it can be asked."""


@dataclass(frozen=True, slots=True)
class Repeats:
    """When a point has been repeated often enough.

    After `warm_up` runs that do not count, until the distribution-free 95 % interval of the median lies within
    `tolerance` of it on both sides, after `least` runs at the earliest, and at the latest after `most` runs or
    `max_s` seconds (but never before three).
    """

    tolerance: float = 0.02
    warm_up: int = 2
    least: int = 7
    most: int = 200
    max_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Measured(Generic[P]):
    """A point and what repeating it gave; `seconds` is the median, NaN where the point ran out of memory."""

    point: P
    seconds: float
    low_s: float = math.nan
    high_s: float = math.nan
    spread: float = math.nan
    runs: int = 0
    is_stable: bool = False
    visit: int = 0
    at_s: float = 0.0
    state: dict[str, float] = field(default_factory=dict)

    @property
    def fits(self) -> bool:
        """Whether there was memory for it."""
        return not math.isnan(self.seconds)


def median_interval(samples: Sequence[float]) -> tuple[float, float, float]:
    """Return (low, median, high): the median and its interval at 95 % confidence from order statistics.

    The r-th smallest and r-th largest of n samples enclose the median with probability 1 - 2 P(Binomial(n, 1/2) < r)
    whatever the distribution (David and Nagaraja, "Order Statistics", 2003, section 7.1). Below six samples the range
    has less than that, and is returned.
    """
    ordered = np.sort(np.asarray(samples))
    n = len(ordered)
    r = max(1, int(binom.ppf((1 - CONFIDENCE) / 2, n, 0.5)))
    return float(ordered[r - 1]), float(np.median(ordered)), float(ordered[n - r])


def repeat_until_stable(
    run: Callable[[], float], rule: Repeats, now: Callable[[], float] = time.perf_counter
) -> tuple[list[float], bool]:
    """Return the seconds of the runs that count, and whether their median became stable."""
    start_s = now()
    for _ in range(rule.warm_up):
        run()
        if now() - start_s > rule.max_s:
            break  # a run this long is as warm as it gets
    samples: list[float] = []
    while len(samples) < rule.most:
        samples.append(run())
        if len(samples) >= rule.least and is_stable(samples, rule.tolerance):
            return samples, True
        if len(samples) >= 3 and now() - start_s > rule.max_s:
            break
    return samples, is_stable(samples, rule.tolerance)


def is_stable(samples: Sequence[float], tolerance: float) -> bool:
    """Whether the median's interval lies within `tolerance` of the median on both sides; never below six samples."""
    if len(samples) < 6:
        return False
    low, median, high = median_interval(samples)
    return high - median <= tolerance * median and median - low <= tolerance * median


def measure(
    backend: Backend[P], point: P, rule: Repeats, visit: int = 0, now: Callable[[], float] = time.perf_counter
) -> Measured[P]:
    """Return the point measured; where it runs out of memory, that is the answer."""
    try:
        samples, stable = repeat_until_stable(backend.prepare(point), rule, now)
    except OutOfMemory:
        return Measured(point, math.nan, visit=visit, at_s=time.time())
    low, median, high = median_interval(samples)
    quartiles = np.quantile(samples, [0.25, 0.75])
    spread = float(quartiles[1] - quartiles[0]) / median
    return Measured(point, median, low, high, spread, len(samples), stable, visit, time.time(), backend.state())


@dataclass(slots=True)
class Campaign(Generic[P]):
    """Points to be measured within a budget; whatever is measured is handed to `keep` at once.

    `done` are those of an earlier, interrupted campaign. Every `control_every` points one of the first few is visited
    again: how its medians scatter is the repeat noise, which holds drift of clocks and neighbours as well.
    `dominates(a, b)` says that b needs at least the memory that a needs: then b is not tried once a did not fit.
    """

    backend: Backend[P]
    points: Sequence[P]
    rule: Repeats
    keep: Callable[[Measured[P]], None]
    budget_s: float
    dominates: Callable[[P, P], bool]
    done: list[Measured[P]] = field(default_factory=list)
    control_every: int = 8
    controls: int = 3
    progress: Callable[[int, int, P], None] | None = None
    now: Callable[[], float] = time.perf_counter

    def run(self) -> tuple[list[Measured[P]], int]:
        """Return everything measured, and how many points the budget left out."""
        start_s = self.now()
        found = list(self.done)
        known = {one.point for one in found}
        todo = [point for point in self.points if point not in known]
        too_large = [one.point for one in found if not one.fits]
        for number, point in enumerate(todo):
            if self.now() - start_s >= self.budget_s:
                return found, len(todo) - number
            if self.progress is not None:
                self.progress(len(self.points) - len(todo) + number, len(self.points), point)
            if any(self.dominates(large, point) for large in too_large):
                continue
            one = self._take(point, 0, found)
            if not one.fits:
                too_large.append(point)
            if (number + 1) % self.control_every == 0:
                self._revisit(found)
        while len(todo) and self._visits(found) < 2 and self.now() - start_s < self.budget_s and self._revisit(found):
            pass  # a short campaign has had no control yet
        return found, 0

    def _take(self, point: P, visit: int, found: list[Measured[P]]) -> Measured[P]:
        one = measure(self.backend, point, self.rule, visit, self.now)
        found.append(one)
        self.keep(one)
        return one

    def _visits(self, found: list[Measured[P]]) -> int:
        return max((one.visit for one in found), default=0)

    def _revisit(self, found: list[Measured[P]]) -> bool:
        """Measure the control that was visited least often once more; False if there is none."""
        controls = [one.point for one in found if one.fits and one.visit == 0][: self.controls]
        if not controls:
            return False
        visits = {point: sum(one.point == point for one in found) for point in controls}
        least = min(controls, key=lambda point: visits[point])
        self._take(least, visits[least], found)
        return True


def repeat_scatter(found: Sequence[Measured[Any]]) -> tuple[float, int]:
    """Return (standard deviation of the logarithm of repeated medians, how many visits it rests on).

    Pooled over the points that were visited more than once; NaN where there are none.
    """
    by_point: dict[Any, list[float]] = {}
    for one in found:
        if one.fits:
            by_point.setdefault(one.point, []).append(math.log(one.seconds))
    repeated = [np.asarray(values) for values in by_point.values() if len(values) > 1]
    freedom = sum(len(values) - 1 for values in repeated)
    if not freedom:
        return math.nan, 0
    squares = sum(float(((values - values.mean()) ** 2).sum()) for values in repeated)
    return math.sqrt(squares / freedom), freedom + len(repeated)


def distinct(found: Sequence[Measured[P]]) -> list[Measured[P]]:
    """Return the first visit of every point that fitted."""
    return [one for one in found if one.fits and one.visit == 0]
