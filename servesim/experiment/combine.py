"""Many replications' summaries as one, and the intervals of its numbers across replications."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import fmean, median
from typing import Any

from servesim.metrics.intervals import (
    CONFIDENCE,
    LEAST_INDEPENDENT_TAIL,
    LEAST_TAIL,
    Interval,
    across_replications,
    quantile_across_replications,
)
from servesim.metrics.pools import POOL_COUNTS
from servesim.metrics.summary import CLASS_COUNTS, all_met

# Counts are totals over replications; every other number is a mean over them.
_TOTALS = {*CLASS_COUNTS, *POOL_COUNTS, "left_out"}
_LARGEST = {"max"}
# Facts of the scenario, the same in every replication.
_FACTS = {"replicas", "gpus", "cost_usd_per_hour"}
_PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
_LATENCIES = ("ttft_s", "tpot_s", "e2e_s", "queue_s")
_OVERLOADED_SHARE = 0.2


def combined(summaries: list[dict[str, Any]], attainments: dict[str, float | None]) -> dict[str, Any]:
    """Return one summary of replications: counts are totals, all else means; see docs/statistics.md.

    `attainments` has the attainment that each class asks for, by name. `seed` is that of replication 0; a warning is
    said once, with the number of replications that have it where it is not all of them.
    """
    first = summaries[0]
    classes = _merged([one["classes"] for one in summaries])
    met = {}
    for name, asked in attainments.items():
        attained = classes[name]["slo_attainment"]
        met[name] = None if asked is None or attained is None else attained >= asked
        classes[name]["slo_met"] = met[name]
    asking = [met[name] for name, asked in attainments.items() if asked is not None]
    classes["all"]["slo_met"] = all_met(asking, classes["all"]["offered"])
    windows = [one["measurement"] for one in summaries]
    window = {**first["measurement"], **_merged(windows), "how": _how([one["how"] for one in windows])}
    return {
        **first,
        "classes": classes,
        "pools": _merged([one["pools"] for one in summaries]),
        "measurement": window,
        "warnings": _warnings([one["warnings"] for one in summaries]),
    }


def _merged(parts: list[Any], key: str = "") -> Any:
    if all(isinstance(part, dict) for part in parts):
        return {name: _merged([part[name] for part in parts], name) for name in parts[0]}
    known = [part for part in parts if part is not None]
    if not known:
        return None
    if isinstance(known[0], bool):
        return 2 * sum(known) > len(known)  # what most say; only of what is no mean itself
    if isinstance(known[0], str) or key in _FACTS:
        return known[0]
    if key in _TOTALS:
        return sum(known)
    return max(known) if key in _LARGEST else math.fsum(known) / len(known)


def _how(each: list[str]) -> str:
    """Return how the warm-up was found, of all replications: the length of a run may decide otherwise in some."""
    by_kind: dict[str, list[str]] = {}
    for text in each:
        by_kind.setdefault(_kind(text), []).append(text)
    if len(by_kind) == 1:
        return each[0]
    return "; ".join(f"{texts[0]} (in {len(texts)} of {len(each)} replications)" for texts in by_kind.values())


def _warnings(each: list[list[str]]) -> list[str]:
    """Return the warnings of replication 0, and those of the others whose kind it does not have, with how often."""
    by_kind: dict[str, list[str]] = {}
    for warnings in each:
        for kind, text in {_kind(text): text for text in reversed(warnings)}.items():
            by_kind.setdefault(kind, []).append(text)
    found = []
    for texts in by_kind.values():
        often = "" if len(texts) == len(each) else f" (in {len(texts)} of {len(each)} replications)"
        found.append(texts[0] + often)
    return found


def _kind(text: str) -> str:
    """Return a warning without its figures."""
    return "".join(char for char in text if not char.isdigit())


def replication_intervals(
    summaries: list[dict[str, Any]], overloaded: list[bool], times: list[dict[str, dict[str, float]]]
) -> dict[str, Any]:
    """Return the `intervals` of a combined summary: Student's t over replications for every mean, quantile and rate.

    `times` has each replication's correlation times (servesim.metrics.run_intervals.correlation_times).
    """
    refusal = overload_refusal(overloaded)
    classes = _tree([one["classes"] for one in summaries], refusal)
    for name, one in classes.items():
        _judge_latencies(one, [summary["classes"][name] for summary in summaries], [time[name] for time in times])
    return {
        "confidence": CONFIDENCE,
        "method": "Student's t over replications",
        "replications": len(summaries),
        "classes": classes,
        "pools": _tree([one["pools"] for one in summaries], refusal),
    }


def overload_refusal(overloaded: list[bool]) -> str:
    """Say why replications have no intervals if too many of them are overloaded; empty if they may have some."""
    if sum(overloaded) <= _OVERLOADED_SHARE * len(overloaded):
        return ""
    often = f"{sum(overloaded)} of {len(overloaded)} replications"
    return f"overloaded in {often}: no steady state, the numbers depend on how long a run lasts"


def _tree(parts: list[dict[str, Any]], refusal: str) -> dict[str, Any]:
    """Return intervals in the shape of the summary; counts, facts and verdicts have none."""
    found: dict[str, Any] = {}
    for name in parts[0]:
        values = [part[name] for part in parts]
        if isinstance(values[0], dict):
            found[name] = _tree(values, refusal)
        elif name not in _TOTALS | _LARGEST | _FACTS and any(type(value) is float for value in values):
            interval = _interval(values, refusal, name in _PERCENTILES)
            found[name] = _plain(interval, 1.0 if name == "slo_attainment" else math.inf)
    return found


def _interval(values: list[float | None], refusal: str, quantile: bool) -> Interval:
    known = [value for value in values if value is not None]
    if refusal:
        return Interval(math.nan, reason=refusal)
    if len(known) < len(values):
        return Interval(math.nan, reason=f"not defined in {len(values) - len(known)} of {len(values)} replications")
    if len(known) > 1 and min(known) == max(known):
        return Interval(known[0], reason="the same in all replications: no spread to judge by")
    return quantile_across_replications(known) if quantile else across_replications(known)


def _judge_latencies(one: dict[str, Any], classes: list[dict[str, Any]], times: list[dict[str, float]]) -> None:
    """Replace the intervals of latencies, which have room for what is rare or are refused.

    `one` has a class's intervals, `classes` its summary and `times` its correlation times in each replication.
    """
    completed = [summary["completed"] for summary in classes]
    for latency in _LATENCIES:
        spans = [time[latency] for time in times]
        for kind in ("mean", *_PERCENTILES):
            if "low" in one[latency].get(kind, {}):
                values = [summary[latency][kind] for summary in classes]
                one[latency][kind] = _plain(latency_interval(kind, values, completed, spans))


def latency_interval(kind: str, values: list[float], completed: list[int], times: list[float]) -> Interval:
    """Return the interval of a latency's mean or percentile, `kind`, across replications.

    `values`, `completed` and `times` have one entry per replication: the number itself, of how many requests, and how
    many of these in a row tell as much as one independent one.
    """
    if reason := thin_tail(kind, completed, times):
        return Interval(math.nan, reason=reason)
    across = quantile_across_replications if kind in _PERCENTILES else across_replications
    return across(values, _tail(kind) * sum(completed) / fmean(times))


def _tail(kind: str) -> float:
    """Return which share of the observations a percentile looks at; all of them for a mean."""
    return 1 - _PERCENTILES.get(kind, 0.0)


def _plain(interval: Interval, most: float = math.inf) -> dict[str, Any]:
    """Return what the summary holds; none of its numbers can be negative, nor an attainment above 1."""
    return replace(interval, low=max(interval.low, 0.0), high=min(interval.high, most)).plain()


def thin_tail(kind: str, completed: list[int], times: list[float]) -> str:
    """Say why a percentile ("p99") has no interval if a typical replication has too few observations beyond it.

    Each replication's percentile is biased by about the inverse of that number, which more replications do not mend.
    `times` are the replications' correlation times. Empty if there are enough, and for what is no percentile.
    """
    if kind not in _PERCENTILES:
        return ""
    beyond = _tail(kind) * median(completed)
    # A mean, since the run that looks least correlated is the one that saw no long queue.
    independent = _tail(kind) * median(completed) / fmean(times)
    if beyond < LEAST_TAIL:
        return f"only {beyond:.3g} observations beyond it in a replication, {LEAST_TAIL:.0f} are wanted"
    if independent < LEAST_INDEPENDENT_TAIL:
        return (
            f"replications are too short: worth {independent:.2g} independent observations beyond it, "
            f"{LEAST_INDEPENDENT_TAIL:g} are wanted"
        )
    return ""
