"""Aggregate rows of a measurement: means and percentiles of one load, without single requests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from servesim.errors import InputError, Problem
from servesim.workload.logs.documents import first_of
from servesim.workload.logs.lines import at

_NAMES = {
    "ttft_s": ("ttft", "time_to_first_token"),
    "tpot_s": ("tpot", "time_per_output_token"),
    "itl_s": ("itl", "inter_token_latency"),
    "e2e_s": ("e2el", "e2e", "e2e_latency", "request_latency"),
}
_STATISTICS = {"mean": ("mean", "avg"), "p50": ("median", "p50"), "p90": ("p90",), "p99": ("p99",)}


_MAX_PROBLEMS = 5
_LEAST_RATE = 1e-9


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One load's measured statistics (`ttft_s.mean` and so on, seconds) and what is known of the load.

    `max_concurrency` is of a closed loop, `request_rate_rps` and `burstiness` (gamma shape) of open arrivals;
    `all_at_once`: neither held requests back. None where the row does not say. `notes` say what was taken for granted.
    """

    name: str
    statistics: dict[str, float]
    max_concurrency: int | None = None
    request_rate_rps: float | None = None
    num_requests: int | None = None
    prompt_tokens: float | None = None
    output_tokens: float | None = None
    burstiness: float = 1.0
    all_at_once: bool = False
    notes: tuple[str, ...] = ()


def aggregates(rows: Sequence[Mapping[str, Any]], path: str) -> list[Aggregate]:
    """Return the rows that hold latencies: of `vllm bench serve`, SGLang or guidellm, or of a table with such columns.

    A column may be called mean_ttft_ms, ttft_mean_s, median_tpot_ms, p99_e2el_ms and so on; `ttft` or `ttft_ms` alone
    is the mean, in seconds or milliseconds as the name says (a plain name: milliseconds, as benchmark tables have it).
    Raises InputError for a load that cannot be; rows without a latency are counted in the notes of the others.
    """
    read = [_Row(row, number, path) for number, row in enumerate(rows, 1)]
    found = [(row, statistics) for row in read if (statistics := _statistics(row))]
    aggregated = [_aggregate(row, statistics) for row, statistics in found]
    if problems := [problem for row in read for problem in dict.fromkeys(row.problems)]:
        raise InputError(problems[:_MAX_PROBLEMS])
    if found and (left := len(read) - len(found)):
        note = f"{left} of {len(read)} rows hold no latency and are left out"
        aggregated[0] = replace(aggregated[0], notes=(note, *aggregated[0].notes))
    return aggregated


class _Row:
    """One row of a table, whose numbers are checked as they are asked for."""

    def __init__(self, row: Mapping[str, Any], number: int, path: str) -> None:
        self.row, self.number, self._path = row, number, path
        self.problems: list[Problem] = []

    def number_at(self, *keys: str, low: float = 0.0, high: float = math.inf, whole: bool = False) -> float | None:
        """Return the first number at these dotted keys; None where there is none, or one that cannot be (a problem)."""
        key = next((key for key in keys if at(self.row, key) is not None), None)
        value: Any = None if key is None else at(self.row, key)
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            if isinstance(value, str) and value.strip():
                self._refuse(f"{key} is {value!r:.60}: expected a number")
            return None
        if math.isnan(number):
            return None
        if not low <= number <= high or (whole and number != int(number)):
            kind = "a whole number" if whole else "a number"
            most = "" if high == math.inf else f" to {high:g}"
            self._refuse(f"{key} is {number:g}: expected {kind} from {low:g}{most}")
            return None
        return number

    def _refuse(self, message: str) -> None:
        self.problems.append(Problem(f"row {self.number}: {message}", file=self._path))


def _aggregate(row: _Row, statistics: dict[str, float]) -> Aggregate:
    rate = row.number_at("request_rate", "request_rate_rps", "config.strategy.rate", low=_LEAST_RATE)
    users = row.number_at(
        "max_concurrency", "concurrency", "conc", "config.strategy.streams", low=1, high=1e6, whole=True
    )
    count = row.number_at("completed", "num_prompts", "num_requests", low=1, high=1e7, whole=True)
    totals = [row.number_at(f"total_{side}_tokens") for side in ("input", "output")]
    means = [row.number_at(*names) for names in (("isl", "prompt_tokens"), ("osl", "output_tokens"))]
    for side, total in enumerate(totals):
        if means[side] is None and total is not None and count:
            means[side] = total / count
    finite = rate is not None and math.isfinite(rate)
    at_once = rate is not None and not finite and users is None
    notes = []
    if finite and users is not None:
        notes.append(f"requests came at a rate, at most {users:g} at once: they are simulated without that limit")
    if rate is None and users is None:
        notes.append("the row says neither rate nor concurrency: the scenario's own arrivals are simulated")
    if at_once and count is None:
        notes.append("all requests came at once, but the row does not say how many: the scenario's number is simulated")
    return Aggregate(
        str(first_of(row.row, "name", "label", "tag") or f"row {row.number}"),
        statistics,
        None if users is None else int(users),
        rate if finite else None,
        None if count is None else int(count),
        means[0],
        means[1],
        row.number_at("burstiness", low=1e-3, high=1e6) or 1.0,
        at_once,
        tuple(notes),
    )


def _statistics(row: _Row) -> dict[str, float]:
    found: dict[str, float] = {}
    for metric, names in _NAMES.items():
        for statistic, words in _STATISTICS.items():
            value = next((v for n in names for w in words if (v := _value(row, n, w)) is not None), None)
            if value is None and statistic == "mean":
                value = next((v for n in names if (v := _plain(row, n)) is not None), None)
            if value is not None and value > 0:
                found[f"{metric}.{statistic}"] = value
    for name, keys in (("requests_per_s", ("request_throughput",)), ("output_tokens_per_s", ("output_throughput",))):
        if (throughput := row.number_at(*keys)) is not None:
            found[name] = throughput
    return found


def _value(row: _Row, name: str, word: str) -> float | None:
    """Return one statistic in seconds."""
    for key in (f"{word}_{name}", f"{name}_{word}"):
        for unit, scale in (("_ms", 1e-3), ("_s", 1.0)):
            if (value := row.number_at(key + unit)) is not None:
                return value * scale
    for unit, scale in (("_ms", 1e-3), ("", 1.0)):  # guidellm: percentiles of the successful requests
        inside = f"metrics.{name}{unit}.successful"
        if (value := row.number_at(f"{inside}.{word}", f"{inside}.percentiles.{word}")) is not None:
            return value * scale
    return None


def _plain(row: _Row, name: str) -> float | None:
    for key, scale in ((f"{name}_ms", 1e-3), (f"{name}_s", 1.0), (name, 1e-3)):
        if (value := row.number_at(key)) is not None:
            return value * scale
    return None
