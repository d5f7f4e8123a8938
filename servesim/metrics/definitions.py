"""What every reported number means: the one place where latencies, rates and quantiles are defined.

Times are seconds. A request's *server latency* counts from its arrival at the gateway. Where the run keeps the
client's clock, `network_s` (to the server and back) is added to TTFT and E2E. Latency statistics are over completed
requests; a summary says how many those are and counts everything else against SLO attainment. Rates are per second
of the measurement, which lasts to the run's last event, and of all that completed in it (servesim.metrics.rates).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from servesim.metrics.record import Slo

Floats = NDArray[np.float64]
PERCENTILES = (50, 90, 95, 99)


def rank(percent: float, count: int) -> tuple[int, float]:
    """Return (index, fraction): the percentile of `count` sorted values lies `fraction` of the way to the next.

    This is numpy's method 'linear', definition 7 of Hyndman and Fan, "Sample Quantiles in Statistical Packages",
    The American Statistician 50(4), 1996, which `vllm bench serve` uses too (through numpy.percentile).
    """
    virtual = percent / 100 * (count - 1)
    below = min(math.floor(virtual), count - 1)
    return below, virtual - below


def between(low: float, high: float, fraction: float) -> float:
    """Return the point `fraction` of the way from `low` to `high`, rounded as numpy.percentile rounds it."""
    step = high - low
    return high - step * (1 - fraction) if fraction >= 0.5 else low + step * fraction


def percentile(ordered: Floats, percent: float) -> float:
    """Return a percentile of values already sorted; equals numpy.percentile; NaN of nothing."""
    if not len(ordered):
        return math.nan
    index, fraction = rank(percent, len(ordered))
    return between(float(ordered[index]), float(ordered[min(index + 1, len(ordered) - 1)]), fraction)


def describe(values: Floats) -> dict[str, float]:
    """Return mean and PERCENTILES of `values` of shape (n,), NaN left out; all NaN if nothing is left."""
    ordered = np.sort(values)  # puts NaN last
    ordered = ordered[: len(ordered) - int(np.count_nonzero(np.isnan(ordered)))]
    mean = float(ordered.mean()) if len(ordered) else math.nan
    return {"mean": mean, **{f"p{q}": percentile(ordered, q) for q in PERCENTILES}}


def ttft_s(arrival_s: Floats, first_token_s: Floats, network_s: float) -> Floats:
    """Return the time to first token: from arrival to the end of the iteration that ends the prefill."""
    return first_token_s - arrival_s + network_s


def e2e_s(arrival_s: Floats, finish_s: Floats, network_s: float) -> Floats:
    """Return the end-to-end latency: from arrival to the last token."""
    return finish_s - arrival_s + network_s


def tpot_s(e2e: Floats, ttft: Floats, output_tokens: Floats, at_once: NDArray[np.bool_] | bool = False) -> Floats:
    """Return the mean time per output token after the first: (E2E - TTFT) / (n - 1).

    Undefined (NaN, left out of every statistic) for a single token, and for answers that come `at_once` (a flag per
    request): such a server has no pace of tokens. `vllm bench serve` leaves those out too, and counts
    them as 0 for goodput, which comes to the same as meeting any threshold.
    """
    gaps = output_tokens - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((gaps > 0) & np.logical_not(at_once), (e2e - ttft) / gaps, np.nan)


def queue_s(arrival_s: Floats, admission_s: Floats, first_scheduled_s: Floats) -> Floats:
    """Return the time in the scheduler's queue before the request is first scheduled.

    Admission (tokenisation, front end) comes before the queue; waiting again after a preemption is preemption.
    """
    return first_scheduled_s - arrival_s - admission_s


def has_thresholds(slo: Slo) -> bool:
    """Say whether goodput means anything for a class with this objective."""
    return any(limit is not None for limit in (slo.ttft_s, slo.tpot_s, slo.e2e_s, slo.queue_s))


def meets(slo: Slo, ttft: Floats, tpot: Floats, e2e: Floats, queue: Floats) -> NDArray[np.bool_]:
    """Say which completed requests meet ALL thresholds; a single-token request (TPOT NaN) meets any TPOT."""
    good = np.ones(len(ttft), dtype=np.bool_)
    if slo.ttft_s is not None:
        good &= ttft <= slo.ttft_s
    if slo.tpot_s is not None:
        good &= ~(tpot > slo.tpot_s)
    if slo.e2e_s is not None:
        good &= e2e <= slo.e2e_s
    if slo.queue_s is not None:
        good &= queue <= slo.queue_s
    return good


def per_second(count: float, duration_s: float) -> float:
    """Return a rate over the run; NaN if the run took no time."""
    return count / duration_s if duration_s > 0 else math.nan


def attainment(good: int, offered: int) -> float:
    """Return the fraction of offered requests that were good: rejected, timed-out, cancelled and failed ones count."""
    return good / offered if offered else math.nan
