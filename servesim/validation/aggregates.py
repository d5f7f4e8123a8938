"""Aggregate rows of a measurement: means and percentiles of one load, without single requests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from servesim.workload.logs.documents import first_of
from servesim.workload.logs.lines import at

_NAMES = {
    "ttft_s": ("ttft", "time_to_first_token"),
    "tpot_s": ("tpot", "time_per_output_token"),
    "itl_s": ("itl", "inter_token_latency"),
    "e2e_s": ("e2el", "e2e", "e2e_latency", "request_latency"),
}
_STATISTICS = {"mean": ("mean", "avg"), "p50": ("median", "p50"), "p90": ("p90",), "p99": ("p99",)}


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One load's measured statistics (`ttft_s.mean` and so on, seconds) and what is known of the load.

    `max_concurrency` is of a closed loop, `request_rate_rps` of open arrivals; None where the row does not say.
    """

    name: str
    statistics: dict[str, float]
    max_concurrency: int | None = None
    request_rate_rps: float | None = None
    num_requests: int | None = None
    prompt_tokens: float | None = None
    output_tokens: float | None = None


def aggregates(rows: Sequence[Mapping[str, Any]], path: str) -> list[Aggregate]:
    """Return the rows that hold latencies: of `vllm bench serve`, SGLang or guidellm, or of a table with such columns.

    A column may be called mean_ttft_ms, ttft_mean_s, median_tpot_ms, p99_e2el_ms and so on; `ttft` or `ttft_ms` alone
    is the mean, in seconds or milliseconds as the name says (a plain name: milliseconds, as benchmark tables have it).
    """
    found = []
    for number, row in enumerate(rows, 1):
        statistics = _statistics(row)
        if statistics:
            found.append(_aggregate(row, statistics, number))
    return found


def _aggregate(row: Mapping[str, Any], statistics: dict[str, float], number: int) -> Aggregate:
    rate = _number(first_of(row, "request_rate", "request_rate_rps", "config.strategy.rate"))
    users = _number(first_of(row, "max_concurrency", "concurrency", "conc", "config.strategy.streams"))
    count = _number(first_of(row, "completed", "num_prompts", "num_requests"))
    totals = [_number(first_of(row, f"total_{side}_tokens")) for side in ("input", "output")]
    means = [_number(first_of(row, *names)) for names in (("isl", "prompt_tokens"), ("osl", "output_tokens"))]
    for side, total in enumerate(totals):
        if means[side] is None and total is not None and count:
            means[side] = total / count
    name = str(first_of(row, "name", "label", "tag") or f"row {number}")
    return Aggregate(
        name,
        statistics,
        None if users is None else int(users),
        rate if rate is not None and math.isfinite(rate) else None,
        None if count is None else int(count),
        *means,
    )


def _statistics(row: Mapping[str, Any]) -> dict[str, float]:
    found: dict[str, float] = {}
    for metric, names in _NAMES.items():
        for statistic, words in _STATISTICS.items():
            value = next((v for n in names for w in words if (v := _value(row, n, w)) is not None), None)
            if value is None and statistic == "mean":
                value = next((v for n in names if (v := _plain(row, n)) is not None), None)
            if value is not None and value > 0:
                found[f"{metric}.{statistic}"] = value
    for name, keys in (("requests_per_s", ("request_throughput",)), ("output_tokens_per_s", ("output_throughput",))):
        if (throughput := _number(first_of(row, *keys))) is not None:
            found[name] = throughput
    return found


def _value(row: Mapping[str, Any], name: str, word: str) -> float | None:
    """Return one statistic in seconds."""
    for key in (f"{word}_{name}", f"{name}_{word}"):
        for unit, scale in (("_ms", 1e-3), ("_s", 1.0)):
            if (value := _number(at(row, key + unit))) is not None:
                return value * scale
    for unit, scale in (("_ms", 1e-3), ("", 1.0)):  # guidellm: percentiles of the successful requests
        inside = first_of(
            row, f"metrics.{name}{unit}.successful.{word}", f"metrics.{name}{unit}.successful.percentiles.{word}"
        )
        if (value := _number(inside)) is not None:
            return value * scale
    return None


def _plain(row: Mapping[str, Any], name: str) -> float | None:
    for key, scale in ((f"{name}_ms", 1e-3), (f"{name}_s", 1.0), (name, 1e-3)):
        if (value := _number(at(row, key))) is not None:
            return value * scale
    return None


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return None if math.isnan(number) else number
