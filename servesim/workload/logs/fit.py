"""From a log to a few laws that can be shared: arrivals, joint lengths, and what they could not keep.

Requests form one class, or several by prompt length, each with its own rate over time: several keep a mix that drifts.
Of all candidates (number of classes, window of the rate) the one is taken whose requests, prompt tokens, output tokens
and squared prompt tokens (long prompts in a heap make the tail of TTFT) per window vary most like the log's, at every
scale from a second to a twentieth of its span: the variance-time curves that decide over queues (for the method: Leland
et al., "On the Self-Similar Nature of Ethernet Traffic", 1994).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from servesim import rng as random_streams
from servesim.errors import InputError
from servesim.workload.arrivals.gamma import GammaArrivals
from servesim.workload.arrivals.piecewise_gamma import PiecewiseGammaArrivals
from servesim.workload.base import FloatArray, IntArray
from servesim.workload.fitting import arrival_statistics, fit_joint
from servesim.workload.lengths.joint_quantiles import JointQuantilesLengths
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
WINDOWS_S = (3600.0, 1800.0, 900.0, 600.0, 300.0, 120.0, 60.0, 30.0, 20.0, 10.0, 5.0, 2.0, 1.0)
_CLASSES = ((1, 1), (3, 1), (5, 1), (1, 3), (2, 2), (3, 2))  # ranges of the prompt, of the output in each
_MIN_PER_WINDOW = 8
_MAX_RATES = 1500  # numbers in the part, over all classes: what a reader still takes for a description
_SCALES = 10
_DRAWS = 6
_NEARLY = 1.2  # the smallest candidate whose misfit is within this factor of the best one's is taken: fewer numbers
_PLAIN = 1.3  # the plain candidate is taken if the log differs from it hardly more than another draw of it would
_DIGITS = 4

CURVES = ("requests", "prompt_tokens", "output_tokens", "squared_prompt_tokens")

Requests = tuple[FloatArray, IntArray, IntArray]
"""Arrival times from 0 in seconds, prompt and output tokens, each of shape (n,)."""


@dataclass(frozen=True, slots=True)
class FittedClass:
    """One class of the part: its arrivals, its lengths and how many of the log's requests it stands for."""

    name: str
    arrivals: GammaArrivals | PiecewiseGammaArrivals
    lengths: JointQuantilesLengths
    requests: int


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted workload.

    `misfits` are root mean squares of log(ratio of variances), fit to log, over the scales, in the order of CURVES.
    """

    classes: tuple[FittedClass, ...]
    span_s: float
    tick_s: float
    swing: SwingTest
    misfits: tuple[float, ...]

    @property
    def misfit(self) -> float:
        """Root mean square over all curves."""
        return _root_mean_square(np.array(self.misfits))

    def at_speed(self, rate_scale: float) -> Fit:
        """Return the same workload played faster: 2 halves every gap."""
        classes = tuple(replace(entry, arrivals=_faster(entry.arrivals, rate_scale)) for entry in self.classes)
        return replace(self, classes=classes, span_s=self.span_s / rate_scale)

    def draw(self, seed: int = 0) -> Requests:
        """Return one realisation over the log's span."""
        parts = [_drawn(entry, self.span_s, seed) for entry in self.classes]
        time_s, prompt, output = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.argsort(time_s, kind="stable")
        return time_s[order], prompt[order], output[order]


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
    fits = []
    for candidate in _candidates(requests, span_s, tick_s, swing):
        drawn = np.log([variance_curves(candidate.draw(seed), scales_s, span_s) for seed in range(_DRAWS)])
        off = drawn.mean(axis=0) - np.log(recorded)
        fits.append(replace(candidate, misfits=tuple(map(_root_mean_square, off))))
        if len(fits) == 1 and not swing.swings and fits[0].misfit <= _PLAIN * _between_draws(drawn):
            return fits[0]
    best = min(fit.misfit for fit in fits)
    return next(fit for fit in sorted(fits, key=_size) if fit.misfit <= _NEARLY * best)


def _root_mean_square(values: FloatArray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _between_draws(drawn: FloatArray) -> float:
    """Return the misfit of one draw to the mean of the others, on average; shape (draws, curves, scales)."""
    others = (drawn.sum(axis=0) - drawn) / (len(drawn) - 1)
    return float(np.mean([_root_mean_square(one - rest) for one, rest in zip(drawn, others, strict=True)]))


def variance_curves(requests: Requests, scales_s: FloatArray, span_s: float) -> FloatArray:
    """Return the variance of requests, tokens and squares per window: shape (4, scales), in the order of CURVES."""
    time_s, prompt, output = requests
    curves = np.empty((len(CURVES), len(scales_s)))
    for column, scale_s in enumerate(scales_s):
        windows = int(span_s / scale_s)
        window = (time_s / scale_s).astype(np.int64)
        inside = window < windows
        for row, weight in enumerate((None, prompt, output, prompt.astype(np.float64) ** 2)):
            weights = None if weight is None else weight[inside].astype(np.float64)
            sums = np.bincount(window[inside], weights, windows)
            curves[row, column] = max(float(sums.var()), 1e-12)
    return curves


def _size(fit: Fit) -> int:
    return sum(
        len(entry.arrivals.rates_rps) if isinstance(entry.arrivals, PiecewiseGammaArrivals) else 0
        for entry in fit.classes
    ) + 100 * len(fit.classes)


def _constant_rate_test(time_s: FloatArray, span_s: float, tick_s: float) -> SwingTest:
    """Test a constant rate on windows of about 50 requests, at least three."""
    windows = int(min(max(len(time_s) / 50, 4), 200))
    window_s = span_s / windows
    burstiness = tick_burstiness(time_s, tick_s) if tick_s else local_burstiness(time_s, window_s)
    return swing_test(window_counts(time_s, window_s, windows), window_s, burstiness)


def _candidates(requests: Requests, span_s: float, tick_s: float, swing: SwingTest) -> Iterator[Fit]:
    for prompt_parts, output_parts in _CLASSES:
        groups = _groups(requests, prompt_parts, output_parts)
        number = prompt_parts * output_parts
        if len(groups) < number:
            continue
        lengths = [_joint(requests, group, number) for group in groups]
        counts = [1]
        counts += sorted({round(span_s / window_s) for window_s in WINDOWS_S if window_s <= span_s / 3})
        for windows in counts:
            fewest = min(len(group) for group in groups) / windows
            if windows > 1 and (fewest < _MIN_PER_WINDOW / number or windows * len(groups) > _MAX_RATES):
                continue
            classes = tuple(
                FittedClass(
                    "requests" if number == 1 else f"part-{index}",
                    _arrivals(requests[0][group], span_s, windows, tick_s),
                    law,
                    len(group),
                )
                for index, (group, law) in enumerate(zip(groups, lengths, strict=True), 1)
            )
            yield Fit(classes, span_s, tick_s, swing, ())


def _groups(requests: Requests, prompt_parts: int, output_parts: int) -> list[IntArray]:
    """Return the positions of the requests of each class: ranges of the prompt, in each of them of the output.

    Ranges have about equal sums of tokens. Fewer groups than asked for are returned where some would be too small.
    """
    everything = np.arange(len(requests[0]))
    groups = [
        group
        for by_prompt in _ranges(everything, requests[1], prompt_parts)
        for group in _ranges(by_prompt, requests[2], output_parts)
    ]
    return [group for group in groups if len(group) >= MIN_REQUESTS / 4]


def _ranges(positions: IntArray, tokens: IntArray, parts: int) -> list[IntArray]:
    """Return the positions split into ranges of their token counts, each with about the same sum."""
    counts = np.sort(tokens[positions])
    share = np.cumsum(counts) / counts.sum()
    edges = np.unique([counts[np.searchsorted(share, part / parts)] for part in range(1, parts)])
    member = np.searchsorted(edges, tokens[positions], side="left")
    return [positions[member == index] for index in range(len(edges) + 1)]


def _joint(requests: Requests, group: IntArray, number: int) -> JointQuantilesLengths:
    prompt, output = requests[1][group], requests[2][group]
    ranges = max(2, min(max(4, 12 // number), len(group) // 100))
    return fit_joint(prompt, output, prompt_ranges=ranges, prompt_tolerance=0.005, output_tolerance=0.02)


def _arrivals(time_s: FloatArray, span_s: float, windows: int, tick_s: float) -> GammaArrivals | PiecewiseGammaArrivals:
    fine_s = spread_over_ticks(time_s, tick_s)
    window_s = span_s / windows
    if tick_s:
        local = tick_burstiness(fine_s, tick_s)
    else:  # a class may be there for a part of the span only
        local = arrival_statistics(fine_s, min(window_s, float(fine_s[-1] - fine_s[0]) / 2.5)).local_burstiness
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


def _drawn(entry: FittedClass, span_s: float, seed: int) -> Requests:
    times = entry.arrivals.times(random_streams.stream(seed, "arrivals", entry.name))
    blocks = [next(times)]
    while blocks[-1][-1] < span_s:
        blocks.append(next(times))
    time_s = np.concatenate(blocks)
    time_s = time_s[time_s < span_s]
    prompt, output = entry.lengths.draw(random_streams.stream(seed, "lengths", entry.name), len(time_s))
    return time_s, prompt, output
