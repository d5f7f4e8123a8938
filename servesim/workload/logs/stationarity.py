"""How a log's arrivals move in time: the grain of its clock, the swing of its rate, and a profile of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from servesim import rng as random_streams
from servesim.workload.base import FloatArray, IntArray
from servesim.workload.fitting import arrival_statistics

MAX_BURSTINESS = 1e6
"""The largest shape that arrival kinds take: evenly spaced."""

_TICKS_S = (60.0, 30.0, 10.0, 5.0, 3.0, 2.0, 1.0, 0.5, 0.1)
_ON_TICK_TOLERANCE_S = 0.0015  # clocks of whole milliseconds write 2.999 for 3


@dataclass(frozen=True, slots=True)
class SwingTest:
    """Whether the counts per window vary more than a gamma renewal process of constant rate would.

    `dispersion` is variance / mean of the counts, `expected` the same of the process (1 / burstiness for windows of
    many requests). Under constancy (windows - 1) * dispersion / expected is about chi-squared with windows - 1 degrees
    of freedom: the index of dispersion test (Cox and Lewis, "The Statistical Analysis of Series of Events", 1966, 6.3).
    """

    window_s: float
    windows: int
    dispersion: float
    expected: float
    p_value: float

    @property
    def swings(self) -> bool:
        """Whether a constant rate is rejected at 1 %."""
        return self.p_value < 0.01


def swing_test(counts: IntArray, window_s: float, burstiness: float) -> SwingTest:
    """Test the counts of at least three whole windows, shape (windows,), against a constant rate."""
    dispersion = float(counts.var(ddof=1) / counts.mean())
    degrees = len(counts) - 1
    p_value = chi_squared_tail(degrees * dispersion * burstiness, degrees)
    return SwingTest(window_s, len(counts), dispersion, 1 / burstiness, p_value)


def chi_squared_tail(value: float, degrees: int) -> float:
    """Return P(chi-squared >= value), by Wilson and Hilferty (1931): within 0.001 from three degrees of freedom on."""
    spread = 2 / (9 * degrees)
    return 1 - NormalDist().cdf(((value / degrees) ** (1 / 3) - (1 - spread)) / math.sqrt(spread))


def clock_tick_s(arrival_s: FloatArray) -> float:
    """Return the grid on which at least 99 % of the times lie while many of them coincide; 0 if there is none."""
    if len(arrival_s) < 20 or np.count_nonzero(np.diff(arrival_s) <= _ON_TICK_TOLERANCE_S) < len(arrival_s) / 5:
        return 0.0
    for tick_s in _TICKS_S:
        distance_s = np.abs(arrival_s - np.round(arrival_s / tick_s) * tick_s)
        if np.mean(distance_s <= _ON_TICK_TOLERANCE_S) >= 0.99:
            return tick_s
    return 0.0


def spread_over_ticks(arrival_s: FloatArray, tick_s: float) -> FloatArray:
    """Return the times with those of one tick spread evenly over it, as if the clock had been fine."""
    if tick_s == 0:
        return arrival_s
    tick = np.round(arrival_s / tick_s).astype(np.int64)
    first, counts = np.unique(tick, return_index=True, return_counts=True)[1:]
    rank = np.arange(len(tick)) - np.repeat(first, counts)
    return (tick + (rank + 0.5) / np.repeat(counts, counts)) * tick_s


def local_burstiness(time_s: FloatArray, window_s: float) -> float:
    """Return the gamma shape of the gaps within windows, its bias from short windows taken out.

    A window misses the gaps longer than itself, so that bursty gaps look smoother than they are. How much is seen on
    drawn gaps of the same number and rate with the shape found.
    """
    gaps_s = np.diff(time_s)
    if gaps_s.std() < 1e-6 * gaps_s.mean():
        return MAX_BURSTINESS
    found = min(arrival_statistics(time_s, window_s).local_burstiness, MAX_BURSTINESS)
    rng = random_streams.stream(0, "burstiness")
    mean_gap_s = (time_s[-1] - time_s[0]) / len(time_s)
    drawn_s = np.cumsum(rng.standard_gamma(found, len(time_s)) / found * mean_gap_s)
    if drawn_s[-1] - drawn_s[0] < 3 * window_s:
        return found
    return min(found * found / arrival_statistics(drawn_s, window_s).local_burstiness, MAX_BURSTINESS)


def tick_burstiness(time_s: FloatArray, tick_s: float) -> float:
    """Return mean / variance of the counts per tick, the variance from neighbouring ticks, so that slow swings cancel.

    Where a clock is coarse no gap inside a tick is known, but for gamma gaps this ratio is about their shape.
    """
    counts = window_counts(time_s, tick_s, max(2, int(time_s[-1] / tick_s)))
    variance = float(np.mean(np.diff(counts) ** 2)) / 2
    return float(counts.mean()) / variance if variance > 0 else MAX_BURSTINESS


def window_counts(arrival_s: FloatArray, window_s: float, windows: int) -> IntArray:
    """Return the requests in each of the first `windows` windows, shape (windows,); a later one joins the last."""
    window = np.minimum((arrival_s // window_s).astype(np.int64), windows - 1)
    return np.bincount(window, minlength=windows)


def shrunk_rates(counts: IntArray, window_s: float, burstiness: float) -> FloatArray:
    """Return the windows' rates with the noise of counting taken out scale by scale, shape (windows,).

    Counts vary by the rate's swing and by chance, and a profile of raw counts would have the chance twice once arrivals
    are drawn from it. The profile is split in two, each half again, and so on; at each level the halves' differences
    are scaled by the root of the share of their mean square that is not chance, so that what is drawn varies as the log
    does at every scale (a linear empirical Bayes estimate in Haar's basis: slow swings, of which counts tell almost
    everything, stay as they are, and only the fast ones are shrunk).
    """
    total = np.concatenate(([0], np.cumsum(counts)))
    rates = np.full(len(counts), counts.mean() / window_s)
    edges = np.array([0, len(counts)])
    while np.diff(edges).max() > 1:
        left, right = edges[:-1], edges[1:]
        split = np.flatnonzero(right - left > 1)
        left, right = left[split], right[split]
        middle = (left + right + 1) // 2
        before = (total[middle] - total[left]) / ((middle - left) * window_s)
        after = (total[right] - total[middle]) / ((right - middle) * window_s)
        chance = (before / (middle - left) + after / (right - middle)) / (burstiness * window_s)
        found = float(np.sum((after - before) ** 2))
        kept = math.sqrt(max(0.0, 1 - float(chance.sum()) / found)) if found > 0 else 0.0
        step = kept * (after - before) / (right - left)
        for start, mid, end, each in zip(left, middle, right, step, strict=True):
            rates[start:mid] -= each * (end - mid)
            rates[mid:end] += each * (mid - start)
        edges = np.union1d(edges, middle)
    floored: FloatArray = np.maximum(rates, 0.0)
    return floored
