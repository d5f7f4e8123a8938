"""How sure a number is: 95 % confidence intervals, or the reason why there is none. See docs/statistics.md.

Of one run, whose observations depend on each other: means and quantiles by non-overlapping batches. Of independent
replications: Student's t. Of independent observations: order statistics, whatever the distribution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from servesim.metrics.definitions import Floats, percentile

CONFIDENCE = 0.95
# Few batches are long batches: what dependence is left between their means matters little, and Student's t pays for
# the rest. All figures below were chosen by measuring coverage on M/M/1 queues (docs/statistics.md).
MEAN_BATCHES = 10
QUANTILE_BATCHES = 8
LEAST_INDEPENDENT = 100.0
LEAST_INDEPENDENT_TAIL = 2.0
LEAST_TAIL = 40.0
# A run that met no rare long queue looks both quicker and steadier than it should: room above for what it missed.
_MISSED_MEAN = 50.0
_MISSED_TAIL = 5.0
_BINS = 4096
_TREND_LEVEL = 0.01
_NO_SPREAD = "the same in all batches of the run: no spread to judge by"


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95 % confidence interval around `value`, or with `reason` why there is none: `low` and `high` are NaN then."""

    value: float
    low: float = math.nan
    high: float = math.nan
    reason: str = ""

    @property
    def half_width(self) -> float:
        """Half of the width; NaN where there is no interval."""
        return 0.5 * (self.high - self.low)

    @property
    def relative_half_width(self) -> float:
        """The half-width relative to the value: 0 of no width, infinite around 0; NaN where there is no interval."""
        if self.reason or not self.half_width:
            return math.nan if self.reason else 0.0
        return self.half_width / abs(self.value) if self.value else math.inf

    def plain(self) -> dict[str, Any]:
        """Return what the summary holds: `low`, `high`, `half_width`, or only `reason`."""
        if self.reason:
            return {"reason": self.reason}
        return {"low": self.low, "high": self.high, "half_width": self.half_width}


def student_t(degrees: int) -> float:
    """Return the two-sided 95 % quantile of Student's t."""
    from scipy.special import stdtrit  # type: ignore[import-untyped]  # takes long to load

    return float(stdtrit(degrees, 0.5 + 0.5 * CONFIDENCE))


def across_replications(values: list[float], independent: float = math.inf) -> Interval:
    """Return the mean of independent values with Student's interval; the order of the values does not matter.

    If they are themselves means of observations worth `independent` independent ones together, there is room above, as
    in `run_mean`: replications that met no rare long queue look quicker and steadier than they should. Without it ten
    runs of M/M/1 at load 0.9, 5,000 requests each, hold the truth in 92 % of cases, with it in 94 %. Willink's
    adjustment for skewness holds it about as often and is half as wide again: it must learn from so few values.
    """
    count = len(values)
    mean = math.fsum(values) / count if count else math.nan
    if count < 2:
        return Interval(mean, reason="one replication says nothing of how another would differ")
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1) / count)
    half = student_t(count - 1) * spread
    return Interval(mean, mean - half, mean + half * (1 + _MISSED_MEAN / independent))


def quantile_across_replications(values: list[float], independent: float = math.inf) -> Interval:
    """Return the mean of replications' percentiles with Student's interval, and room above for their bias.

    A percentile of few or dependent observations is on average too small, by an amount of second order: about its
    variance relative to itself. That is the same in every replication, so the room does not shrink with their number.
    `independent`, how many independent observations beyond it they have together, widens as in `run_quantile`.
    """
    found = across_replications(values)
    if found.reason or not found.value:
        return found
    variance = math.fsum((value - found.value) ** 2 for value in values) / (len(values) - 1)
    above = (found.high - found.value) * (1 + _MISSED_TAIL / independent)
    return Interval(found.value, found.low, found.value + above + variance / abs(found.value))


def order_statistic_ranks(count: int, fraction: float) -> tuple[int, int, float] | None:
    """Return (lower rank, upper rank, coverage) of an interval for a quantile of `count` independent observations.

    Ranks count from 1 in ascending order; each side misses with at most 2.5 %, whatever the distribution, and coverage
    is exact for continuous ones. None if there are too few observations for that. Source: H. A. David and
    H. N. Nagaraja, "Order Statistics", 3rd ed., 2003, section 7.1: P(X_(l) <= q <= X_(u)) = P(l <= Bin(n, p) < u).
    """
    from scipy.special import bdtr

    below = bdtr(np.arange(count), count, fraction)  # P(Bin <= k), k = 0 .. count - 1
    side = 0.5 * (1 - CONFIDENCE)
    lower = int(np.searchsorted(below, side, side="right"))  # the largest l with P(Bin <= l - 1) <= side
    upper = int(np.searchsorted(below, 1 - side, side="left")) + 1  # the smallest u with P(Bin <= u - 1) >= 1 - side
    if lower < 1 or upper > count:
        return None
    return lower, upper, float(below[upper - 1] - below[lower - 1])


def correlation_time(values: Floats) -> float:
    """Return how many observations in a row, shape (n,), tell as much as one independent one; at least 1.

    The sum of all autocorrelations, estimated by the initial monotone sequence of C. J. Geyer, "Practical Markov Chain
    Monte Carlo", Statistical Science 7(4), 1992, on at most 4096 bin means.
    """
    bins = min(_BINS, len(values))
    size = len(values) // bins
    means = _batch_means(values, bins)
    centred = means - means.mean()
    length = 1 << (2 * bins - 1).bit_length()
    spectrum = np.fft.rfft(centred, length)
    covariance = np.fft.irfft(spectrum.real**2 + spectrum.imag**2, length)[:bins]
    if not covariance[0] > 0:
        return 1.0
    pairs = (covariance[: bins // 2 * 2] / covariance[0]).reshape(-1, 2).sum(axis=1)
    ends = np.flatnonzero(pairs <= 0)
    pairs = np.minimum.accumulate(pairs[: ends[0]] if len(ends) else pairs)
    within = max(1.0, 2 * float(pairs.sum()) - 1)
    if size == 1:
        return within
    # Averaging over bins shrinks the variance by what lies within a bin; a long-run variance is the same either way.
    return max(1.0, within * size * float(centred.var()) / float(values.var()))


def run_mean(values: Floats, time: float | None = None) -> Interval:
    """Return the mean of dependent observations in order of time, shape (n,), with its interval by batch means.

    Student's t on MEAN_BATCHES batch means, adjusted for their skewness after R. Willink, "A confidence interval and
    test for the mean of an asymmetric distribution", Communications in Statistics 34(4), 2005, as in Skart (Tafazzoli,
    Steiger, Wilson, "N-Skart", IEEE Trans. Automatic Control 56(2), 2011), with room above for rare large values.
    Refused with fewer than LEAST_INDEPENDENT correlation times (`time`, if known already), with a trend, and where all
    batches have the same mean. Of values that are never negative, neither is `low`.
    """
    count = len(values)
    if count < MEAN_BATCHES * 10:
        return Interval(float(values.mean()) if count else math.nan, reason=f"only {count:,} observations")
    mean = float(values.mean())
    if values.min() == values.max():
        return Interval(mean, reason="all observations are equal")
    independent = count / (correlation_time(values) if time is None else time)
    if independent < LEAST_INDEPENDENT:
        return Interval(mean, reason=_too_short(independent, LEAST_INDEPENDENT))
    batches = _batch_means(values, MEAN_BATCHES)
    if has_trend(batches):
        return Interval(mean, reason="a trend over the run: no steady state")
    below, above = _skewed_sides(batches, mean)
    if not below + above > 0:
        return Interval(mean, reason=_NO_SPREAD)
    floor = min(0.0, float(values.min()))
    return Interval(mean, max(floor, mean - below), mean + above * (1 + _MISSED_MEAN / independent))


def run_quantile(values: Floats, ordered: Floats, percent: float, time: float | None = None) -> Interval:
    """Return a percentile of dependent observations in order of time, shape (n,), with its interval by sectioning.

    The spread of QUANTILE_BATCHES batches' percentiles around the percentile of all (S. Asmussen and P. W. Glynn,
    "Stochastic Simulation", 2007, section III.5a; M. K. Nakayama, "Confidence intervals for quantiles using
    sectioning", ACM TOMACS 24(4), 2014), with room above for rare large values, and never narrower than
    independent observations would allow. `ordered` holds the same values sorted. Refused where the tail is too thin,
    and where no width is left: a percentile that many observations share says nothing of how near the next value is.
    """
    count, tail = len(values), min(percent, 100 - percent) / 100
    value = percentile(ordered, percent)
    if count * tail < LEAST_TAIL:
        return Interval(value, reason=f"only {count * tail:.3g} observations beyond it, {LEAST_TAIL:.0f} are wanted")
    if ordered[0] == ordered[-1]:
        return Interval(value, reason="all observations are equal")
    independent = count * tail / (correlation_time(values) if time is None else time)
    if independent < LEAST_INDEPENDENT_TAIL:
        return Interval(value, reason=_too_short(independent, LEAST_INDEPENDENT_TAIL, " beyond it"))
    if has_trend(_batch_means(values, MEAN_BATCHES)):
        return Interval(value, reason="a trend over the run: no steady state")
    size = count // QUANTILE_BATCHES
    sections = values[count - size * QUANTILE_BATCHES :].reshape(QUANTILE_BATCHES, size)
    batches = np.percentile(sections, percent, axis=1)
    spread = math.sqrt(float(np.square(batches - value).sum()) / (QUANTILE_BATCHES - 1) / QUANTILE_BATCHES)
    half = student_t(QUANTILE_BATCHES - 1) * spread
    above = max(half, _skewed_sides(batches, value)[1]) * (1 + _MISSED_TAIL / independent)
    low, high = value - half, value + above
    ranks = order_statistic_ranks(count, percent / 100)
    if ranks is not None:
        low, high = min(low, float(ordered[ranks[0] - 1])), max(high, float(ordered[ranks[1] - 1]))
    if not high > low:
        return Interval(value, reason=_NO_SPREAD)
    return Interval(value, max(low, min(0.0, float(ordered[0]))), high)


def has_trend(batches: Floats) -> bool:
    """Say whether batch means, shape (b,), rise or fall along a line more than chance would have it (1 % level)."""
    from scipy.special import stdtr

    order = np.arange(len(batches)) - 0.5 * (len(batches) - 1)
    centred = batches - batches.mean()
    scale = math.sqrt(float(np.square(order).sum()) * float(np.square(centred).sum()))
    if not scale:
        return False
    along = float((order * centred).sum()) / scale
    if abs(along) >= 1:
        return True
    degrees = len(batches) - 2
    return bool(2 * stdtr(degrees, -abs(along) * math.sqrt(degrees / (1 - along * along))) < _TREND_LEVEL)


def _batch_means(values: Floats, batches: int) -> Floats:
    """Return means of equal batches, shape (batches,); what does not fill them is left out at the beginning."""
    size = len(values) // batches
    return np.asarray(values[len(values) - size * batches :].reshape(batches, size).mean(axis=1))


def _skewed_sides(batches: Floats, centre: float) -> tuple[float, float]:
    """Return how far the interval reaches below and above `centre`, given batch estimates of shape (b,)."""
    count = len(batches)
    deviation = float(batches.std(ddof=1))
    if not deviation:
        return 0.0, 0.0
    spread = math.sqrt(float(np.square(batches - centre).sum()) / (count - 1) / count)
    third = float(((batches - batches.mean()) ** 3).mean()) * count * count / ((count - 1) * (count - 2))
    skewness = third / deviation**3 / (6 * math.sqrt(count))
    t = student_t(count - 1)
    return _willink(t, skewness) * spread, -_willink(-t, skewness) * spread


def _willink(t: float, skewness: float) -> float:
    """Return Willink's transformed quantile ((1 + 6 a (t - a)) ** (1/3) - 1) / (2 a), a = skewness / (6 sqrt(n))."""
    if abs(skewness) < 1e-3:
        return t
    return (math.cbrt(1 + 6 * skewness * (t - skewness)) - 1) / (2 * skewness)


def _too_short(found: float, wanted: float, where: str = "") -> str:
    return f"the run is too short: worth {found:.2g} independent observations{where}, {wanted:g} are wanted"
