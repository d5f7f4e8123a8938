"""What a log has and its fit lacks, each decided by a statistic of the two."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from servesim.workload.base import FloatArray
from servesim.workload.fitting import ks_distance
from servesim.workload.logs.describe import ranks_correlate
from servesim.workload.logs.fit import CURVES, Fit, Requests
from servesim.workload.logs.read import Log
from servesim.workload.logs.stationarity import spread_over_ticks, window_counts
from servesim.workload.logs.structure import prefixes, sessions

MISFIT_LIMIT = 0.3
"""Above it the load's variance is off by more than a third at a typical scale, and tails of latency with it."""

_CORRELATION_LIMIT = 0.1
_SUM_LIMIT = 0.05
_BUSY_LIMIT = 0.05
_DRAWS = 6
_BUSY_WINDOWS, _BUSIEST = 100, 10


def not_kept(log: Log, fit: Fit) -> list[str]:
    """Return, in sentences, the structure of the log that the fitted workload lacks."""
    theirs, draws = log.requests, [fit.draw(seed) for seed in range(_DRAWS)]
    lost = [*_conversations(log), *_orders(theirs, draws[0], fit.tick_s), *_swings(fit), *_busy(theirs, draws)]
    total = ks_distance(draws[0][1] + draws[0][2], theirs[1] + theirs[2])
    if total > _SUM_LIMIT:
        lost.append(f"how prompt and output go together: the sums of both are {total:.2f} apart (Kolmogorov-Smirnov)")
    if log.rows.output_tokens.min() == 0:
        lost.append("requests without output, which are left out")
    return lost


def _conversations(log: Log) -> Iterator[str]:
    talks = sessions(log.rows)
    if talks is not None and talks["mean_turns"] > 1.01:
        yield (
            f"sessions: {talks['sessions']} conversations of {talks['mean_turns']:.1f} requests on average; here every "
            "request comes by itself"
        )
    shared = prefixes(log.rows, log.layout.prefix_block_tokens) if log.layout is not None else None
    if shared is not None and shared["reusable_share_of_prompt_tokens"] > 0.01:
        share = 100 * shared["reusable_share_of_prompt_tokens"]
        yield f"shared prefixes: {share:.0f} % of the prompt tokens repeat an earlier prompt's beginning"


def _orders(theirs: Requests, ours: Requests, tick_s: float) -> Iterator[str]:
    """Compare rank correlations of neighbours, where they differ by more than chance (four standard errors) allows."""
    limit = max(_CORRELATION_LIMIT, 4 * math.sqrt(2 / len(theirs[0])))
    for name, pair in (("prompts", (theirs[1], ours[1])), ("outputs", (theirs[2], ours[2]))):
        log, fit = (ranks_correlate(tokens[:-1], tokens[1:]) or 0.0 for tokens in pair)
        if abs(log - fit) > limit:
            yield f"order of lengths: {name} of neighbours correlate by {log:+.2f}, here by {fit:+.2f}"
    log, fit = (_gap_memory(requests[0], tick_s) for requests in (theirs, ours))
    if abs(log - fit) > limit:
        yield (
            f"order of gaps: neighbouring gaps correlate by {log:+.2f}, here by {fit:+.2f}: requests come in clumps "
            "that gamma gaps do not make"
        )


def _gap_memory(time_s: FloatArray, tick_s: float) -> float:
    gaps_us = np.round(np.diff(spread_over_ticks(time_s, tick_s)) * 1e6).astype(np.int64)
    return ranks_correlate(gaps_us[:-1], gaps_us[1:]) or 0.0


def _swings(fit: Fit) -> Iterator[str]:
    swings = [
        f"{curve.replace('_', ' ')} {np.exp(misfit):.1f}"
        for curve, misfit in zip(CURVES, fit.misfits, strict=True)
        if misfit > MISFIT_LIMIT
    ]
    if swings:
        yield (
            f"swings of the load: variances per window are off by typical factors of {', '.join(swings)}; replay the "
            "log where tails of latency matter"
        )


def _busy(theirs: Requests, draws: list[Requests]) -> Iterator[str]:
    """Compare how long requests are in the busiest tenth of the time, against all, with several draws of the fit."""
    log, ours = _busy_ratios(theirs), np.array([_busy_ratios(draw) for draw in draws])
    for name, found, mean, spread in zip(
        ("prompts", "outputs"), log, ours.mean(axis=0), ours.std(axis=0, ddof=1), strict=True
    ):
        if abs(found - mean) > max(_BUSY_LIMIT * mean, 3 * spread):
            yield (
                f"{name} when it is busy: in the busiest tenth of the time they have {found:.2f} times their mean "
                f"length, here {mean:.2f}"
            )


def _busy_ratios(requests: Requests) -> tuple[float, float]:
    time_s, prompt, output = requests
    window_s = float(time_s[-1]) / _BUSY_WINDOWS
    counts = window_counts(time_s, window_s, _BUSY_WINDOWS)
    busiest = np.argsort(-counts, kind="stable")[:_BUSIEST]
    inside = np.isin(np.minimum((time_s // window_s).astype(np.int64), _BUSY_WINDOWS - 1), busiest)
    return float(prompt[inside].mean() / prompt.mean()), float(output[inside].mean() / output.mean())
