"""From a log to a few laws that can be shared: arrivals, joint lengths, and how far they are from the log.

Arrivals are gamma gaps under a rate per window; lengths are a joint table, or several in shares that change along the
requests (`fit_lengths`). Windows are chosen by how the counts per window vary, compared with the log's at every scale
from a second to a twentieth of its span: the variance-time curves that decide over queues (for the method: Leland et
al., "On the Self-Similar Nature of Ethernet Traffic", 1994).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from servesim import rng as random_streams
from servesim.errors import InputError
from servesim.workload.arrivals.gamma import GammaArrivals
from servesim.workload.arrivals.piecewise_gamma import PiecewiseGammaArrivals
from servesim.workload.base import FloatArray, IntArray
from servesim.workload.fitting import arrival_statistics
from servesim.workload.lengths.drifting_mix import DriftingMixLengths
from servesim.workload.lengths.joint_quantiles import JointQuantilesLengths
from servesim.workload.logs.choice import Candidate, chosen, root_mean_square
from servesim.workload.logs.fit_lengths import fit_lengths
from servesim.workload.logs.stationarity import (
    SwingTest,
    clock_tick_s,
    local_burstiness,
    shrunk_rates,
    spread_over_ticks,
    swing_test,
    tick_burstiness,
    window_counts,
)

MIN_REQUESTS = 200
CLASS = "requests"
WINDOWS_S = (3600.0, 1800.0, 900.0, 600.0, 300.0, 120.0, 60.0, 30.0, 20.0, 10.0, 5.0, 2.0, 1.0)
_MIN_PER_WINDOW = 8
_MAX_RATES = 1500  # numbers in the part: what a reader still takes for a description
_SCALES = 10
_DRAWS = 6
_DIGITS = 4

CURVES = ("requests", "prompt_tokens", "output_tokens", "squared_prompt_tokens")

Requests = tuple[FloatArray, IntArray, IntArray]
"""Arrival times from 0 in seconds, prompt and output tokens, each of shape (n,)."""


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted workload of one class.

    `misfits` are root mean squares of log(ratio of variances), fit to log, over the scales, in the order of CURVES.
    """

    arrivals: GammaArrivals | PiecewiseGammaArrivals
    lengths: JointQuantilesLengths | DriftingMixLengths
    span_s: float
    tick_s: float
    swing: SwingTest
    misfits: tuple[float, ...]

    @property
    def misfit(self) -> float:
        """Root mean square over all curves."""
        return root_mean_square(np.array(self.misfits))

    def at_speed(self, rate_scale: float) -> Fit:
        """Return the same workload played faster: 2 halves every gap."""
        return replace(self, arrivals=_faster(self.arrivals, rate_scale), span_s=self.span_s / rate_scale)

    def draw(self, seed: int = 0) -> Requests:
        """Return one realisation over the log's span."""
        time_s = _drawn_times(self.arrivals, self.span_s, seed)
        prompt, output = self.lengths.draw(random_streams.stream(seed, "lengths", CLASS), len(time_s))
        return time_s, prompt, output


def fit_requests(requests: Requests) -> Fit:
    """Return the fit of a log's requests (at least 200, sorted by time, every output >= 1)."""
    time_s = requests[0]
    span_s = float(time_s[-1]) if len(time_s) else 0.0
    if len(time_s) < MIN_REQUESTS or span_s <= 0:
        raise InputError(f"a fit needs {MIN_REQUESTS} requests with output that do not all come at once")
    tick_s = clock_tick_s(time_s)
    swing = _constant_rate_test(spread_over_ticks(time_s, tick_s), span_s, tick_s)
    scales_s = np.geomspace(max(1.0, tick_s, 2 * span_s / len(time_s)), span_s / 20, _SCALES)
    recorded = variance_curves(requests, scales_s, span_s)
    arrivals = chosen(_arrival_candidates(time_s, span_s, tick_s, scales_s), recorded[:1], plain=not swing.swings)
    fit = Fit(arrivals, fit_lengths(requests[1], requests[2]), span_s, tick_s, swing, ())
    drawn = np.log([variance_curves(fit.draw(seed), scales_s, span_s) for seed in range(_DRAWS)])
    off = drawn.mean(axis=0) - np.log(recorded)
    return replace(fit, misfits=tuple(map(root_mean_square, off)))


def variance_curves(requests: Requests, scales_s: FloatArray, span_s: float) -> FloatArray:
    """Return the variance of requests, tokens and squares per window: shape (4, scales), in the order of CURVES."""
    time_s, prompt, output = requests
    squared = prompt.astype(np.float64) ** 2
    curves = [_variances(time_s, weights, scales_s, span_s) for weights in (None, prompt, output, squared)]
    return np.array(curves)


def _variances(
    time_s: FloatArray, weights: FloatArray | IntArray | None, scales_s: FloatArray, span_s: float
) -> list[float]:
    """Return the variance of the sums of `weights` (none: of the counts) per window, for every scale."""
    found = []
    for scale_s in scales_s:
        windows = int(span_s / scale_s)
        window = (time_s / scale_s).astype(np.int64)
        inside = window < windows
        sums = np.bincount(window[inside], None if weights is None else weights[inside], windows)
        found.append(max(float(sums.var()), 1e-12))
    return found


def _constant_rate_test(time_s: FloatArray, span_s: float, tick_s: float) -> SwingTest:
    """Test a constant rate on windows of about 50 requests, at least three."""
    windows = int(min(max(len(time_s) / 50, 4), 200))
    window_s = span_s / windows
    burstiness = tick_burstiness(time_s, tick_s) if tick_s else local_burstiness(time_s, window_s)
    return swing_test(window_counts(time_s, window_s, windows), window_s, burstiness)


def _arrival_candidates(
    time_s: FloatArray, span_s: float, tick_s: float, scales_s: FloatArray
) -> Iterator[Candidate[GammaArrivals | PiecewiseGammaArrivals]]:
    """Yield arrivals by rising number of windows, each with the variances of its draws."""
    for windows in [1, *sorted({round(span_s / window_s) for window_s in WINDOWS_S if window_s <= span_s / 3})]:
        if windows == 1 or (len(time_s) / windows >= _MIN_PER_WINDOW and windows <= _MAX_RATES):
            arrivals = _arrivals(time_s, span_s, windows, tick_s)
            drawn: Sequence[list[list[float]]] = [
                [_variances(_drawn_times(arrivals, span_s, seed), None, scales_s, span_s)] for seed in range(_DRAWS)
            ]
            yield Candidate(arrivals, np.array(drawn), windows)


def _arrivals(time_s: FloatArray, span_s: float, windows: int, tick_s: float) -> GammaArrivals | PiecewiseGammaArrivals:
    fine_s = spread_over_ticks(time_s, tick_s)
    window_s = span_s / windows
    if tick_s:
        local = tick_burstiness(fine_s, tick_s)
    else:
        local = arrival_statistics(fine_s, min(window_s, span_s / 2.5)).local_burstiness
    burstiness = float(np.clip(_rounded(local), 1e-3, 1e6))
    if windows == 1 and tick_s == 0:
        return GammaArrivals(request_rate_rps=_rounded(len(time_s) / span_s), burstiness=burstiness)
    rates = shrunk_rates(window_counts(fine_s, window_s, windows), window_s, burstiness)
    return PiecewiseGammaArrivals(
        window_s=window_s, rates_rps=tuple(map(_rounded, rates.tolist())), burstiness=burstiness, tick_s=tick_s
    )


def _faster(
    arrivals: GammaArrivals | PiecewiseGammaArrivals, rate_scale: float
) -> GammaArrivals | PiecewiseGammaArrivals:
    if isinstance(arrivals, PiecewiseGammaArrivals):
        return arrivals.model_copy(update={"rate_scale": arrivals.rate_scale * rate_scale})
    return arrivals.model_copy(update={"request_rate_rps": arrivals.request_rate_rps * rate_scale})


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _drawn_times(arrivals: GammaArrivals | PiecewiseGammaArrivals, span_s: float, seed: int) -> FloatArray:
    times = arrivals.times(random_streams.stream(seed, "arrivals", CLASS))
    blocks = [next(times)]
    while blocks[-1][-1] < span_s:
        blocks.append(next(times))
    time_s = np.concatenate(blocks)
    return time_s[time_s < span_s]
