"""From a recorded workload to a compact one: arrival statistics and cumulative tables of lengths."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from servesim.workload.base import FloatArray, IntArray
from servesim.workload.lengths.joint_quantiles import JointQuantilesLengths, OutputGivenPrompt

_DIGITS = 4  # of a probability in a table: finer than the sampling error of 10,000 rows


@dataclass(frozen=True, slots=True)
class ArrivalStatistics:
    """What a gamma source can and cannot say of recorded arrivals.

    `request_rate_rps` is gaps over their total time. `gap_scv` is the squared coefficient of variation of all gaps,
    slow swings of the rate included. `local_burstiness` is the gamma shape of the gaps inside windows of `window_s`,
    each gap divided by its window's mean. `window_count_dispersion` is variance / mean of the counts per whole
    window: 1 for Poisson and about 1/shape for gamma gaps; above that, the rate itself swings.
    """

    request_rate_rps: float
    gap_scv: float
    window_s: float
    local_burstiness: float
    window_count_dispersion: float


def arrival_statistics(arrival_s: FloatArray, window_s: float = 60.0) -> ArrivalStatistics:
    """Return the statistics of sorted arrival times (at least two whole windows of them), shape (n,)."""
    gaps_s = np.diff(arrival_s)
    window = ((arrival_s - arrival_s[0]) // window_s).astype(np.int64)
    counts = np.bincount(window)[:-1]
    return ArrivalStatistics(
        request_rate_rps=len(gaps_s) / float(arrival_s[-1] - arrival_s[0]),
        gap_scv=float(gaps_s.var(ddof=1) / gaps_s.mean() ** 2),
        window_s=window_s,
        local_burstiness=_local_burstiness(gaps_s, window[1:]),
        window_count_dispersion=float(counts.var(ddof=1) / counts.mean()),
    )


def _local_burstiness(gaps_s: FloatArray, window: IntArray) -> float:
    """Return 1 / the pooled squared coefficient of variation of gaps scaled by their window's mean.

    Every window's mean is estimated from its own gaps, which costs one degree of freedom each. Where no window holds
    two gaps, all gaps are scaled by their common mean; gaps that are all equal are infinitely regular.
    """
    count = np.bincount(window)
    mean_s = np.bincount(window, weights=gaps_s) / np.maximum(count, 1)
    scaled = gaps_s / mean_s[window]
    freedom = len(scaled) - int(np.count_nonzero(count))
    if freedom == 0:
        scaled, freedom = gaps_s / gaps_s.mean(), len(gaps_s) - 1
    scv = float(np.sum((scaled - 1.0) ** 2)) / freedom if freedom else 0.0
    return 1.0 / scv if scv else float("inf")


def fit_cdf(
    tokens: IntArray, *, tolerance: float, mean_tolerance: float = 0.002, max_points: int = 64
) -> tuple[tuple[int, float], ...]:
    """Return points [t, P(T <= t)] of a table close to the sample's distribution.

    `tolerance` bounds the KS distance and `mean_tolerance` the relative error of the mean, which a long tail would
    otherwise escape. Greedy: starting from the two ends, the count where the table is furthest off becomes a point,
    until both hold or there are `max_points`. Every point lies on the sample's distribution, so atoms stay atoms.
    """
    first = int(tokens.min()) - 1
    empirical = np.cumsum(np.bincount(tokens - first)) / len(tokens)
    mean_tokens = float(tokens.mean())
    points = [0, len(empirical) - 1]
    while len(points) < max_points:
        excess = np.interp(np.arange(len(empirical)), points, empirical[points]) - empirical
        worst = int(np.argmax(np.abs(excess)))
        if abs(excess[worst]) <= tolerance:
            # The mean is the sum of 1 - P(T <= t), so the excess sums to the error of the mean.
            if abs(excess.sum()) <= mean_tolerance * mean_tokens:
                break
            worst = _worst_in_segment(excess, points)
        points = sorted([*points, worst])
    return tuple((first + point, round(float(empirical[point]), _DIGITS)) for point in points)


def _worst_in_segment(excess: FloatArray, points: list[int]) -> int:
    """Return where the segment that adds most to the error of the mean is furthest off."""
    segment = int(np.argmax(np.abs(np.add.reduceat(excess, points[:-1]))))
    start, end = points[segment], points[segment + 1]
    return start + int(np.argmax(np.abs(excess[start:end])))


def fit_joint(
    prompt: IntArray, output: IntArray, *, prompt_ranges: int, prompt_tolerance: float, output_tolerance: float
) -> JointQuantilesLengths:
    """Return the joint table of paired counts, with the output's law given in equally likely ranges of the prompt.

    Ranges that the prompt's atoms make equal are merged.
    """
    inner = np.quantile(prompt, np.arange(1, prompt_ranges) / prompt_ranges).astype(np.int64)
    ends = np.unique(np.append(inner, prompt.max()))
    member = np.searchsorted(ends, prompt)
    laws = [
        OutputGivenPrompt(
            up_to_prompt_tokens=int(end), cdf=fit_cdf(output[member == index], tolerance=output_tolerance)
        )
        for index, end in enumerate(ends)
    ]
    return JointQuantilesLengths(prompt_cdf=fit_cdf(prompt, tolerance=prompt_tolerance), output=tuple(laws))


def ks_distance(sample: npt.NDArray[np.generic], other: npt.NDArray[np.generic]) -> float:
    """Return the two-sample Kolmogorov-Smirnov distance: the largest difference of the empirical distributions."""
    at = np.union1d(sample, other)
    below = np.searchsorted(np.sort(sample), at, side="right") / len(sample)
    other_below = np.searchsorted(np.sort(other), at, side="right") / len(other)
    return float(np.max(np.abs(below - other_below)))


def rank_correlation(x: IntArray, y: IntArray) -> float:
    """Return Spearman's rank correlation, ties sharing their mean rank."""
    return float(np.corrcoef(_mid_ranks(x), _mid_ranks(y))[0, 1])


def _mid_ranks(values: IntArray) -> FloatArray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: FloatArray = (last - (counts - 1) / 2)[inverse]
    return ranks
