"""95 % intervals for the summary of one run, each printed only if the method's own checks pass."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from servesim.metrics.definitions import PERCENTILES, Floats, e2e_s, has_thresholds, meets, queue_s, tpot_s, ttft_s
from servesim.metrics.intervals import CONFIDENCE, Interval, correlation_time, run_mean, run_quantile
from servesim.metrics.record import RunRecord
from servesim.metrics.split import network_s
from servesim.request import COMPLETED

_COLUMNS = (
    "request_id",
    "class_index",
    "outcome",
    "arrival_s",
    "admission_s",
    "first_scheduled_s",
    "first_token_s",
    "finish_s",
    "output_tokens",
)
_MOST_BINS = 4096
_LEAST_BINS = 100
_PER_BIN = 8
_GAPS = "the gaps of one iteration are one observation: only with replications"
ELSEWHERE = "only with replications"


def run_intervals(record: RunRecord, summary: dict[str, Any], overloaded: bool) -> dict[str, Any]:
    """Return the `intervals` of a summary (docs/metrics.md): latencies, rates and attainment of every class.

    `record` is that of the measurement (servesim.metrics.warmup.measured).
    """
    refusal = _refusal(record, overloaded)
    if refusal:
        classes = {name: _all_refused(one, refusal) for name, one in summary["classes"].items()}
    else:
        sample = _Sample(record)
        which = dict(zip(summary["classes"], [None, *range(len(record.classes))], strict=True))
        classes = {name: sample.of_class(which[name], one) for name, one in summary["classes"].items()}
    return {
        "confidence": CONFIDENCE,
        "method": "batches of one run",
        "replications": 1,
        "classes": classes,
        "elsewhere": {"reason": refusal or ELSEWHERE},
    }


def correlation_times(record: RunRecord, names: list[str]) -> dict[str, dict[str, float]]:
    """Return each latency's correlation time, in requests, by class (`names`: "all", then each)."""
    sample = _Sample(record)
    indices = [None, *range(len(record.classes))]
    return {name: sample.times(index) for name, index in zip(names, indices, strict=True)}


def _refusal(record: RunRecord, overloaded: bool) -> str:
    """Return why no interval of this run could be trusted; empty if one may be."""
    if overloaded:
        return "overloaded: no steady state, the numbers depend on how long the run lasts"
    if record.warmup.method == "none" and record.warmup.reason:
        return f"{record.warmup.reason}: no steady state to sample"
    return ""


def _all_refused(one: dict[str, Any], reason: str) -> dict[str, Any]:
    refused = Interval(math.nan, reason=reason).plain()
    found: dict[str, Any] = {}
    for name in ("request_throughput_rps", "output_throughput_tps", "goodput_rps", "slo_attainment"):
        if one[name] is not None:
            found[name] = dict(refused)
    for name in ("ttft_s", "tpot_s", "itl_s", "e2e_s", "queue_s"):
        found[name] = {kind: dict(refused) for kind, value in one[name].items() if value is not None}
    return found


class _Sample:
    """The measured requests in order of arrival."""

    def __init__(self, record: RunRecord) -> None:
        columns = dict(zip(_COLUMNS, record.requests.column(*_COLUMNS), strict=True))
        order = np.argsort(columns["request_id"])
        columns = {name: column[order] for name, column in columns.items()}
        network = network_s(record)
        arrival = columns["arrival_s"]
        self._record = record
        self._which = columns["class_index"].astype(np.int64)
        self._done: NDArray[np.bool_] = columns["outcome"] == COMPLETED
        self._finish_s = columns["finish_s"]
        self._tokens = columns["output_tokens"]
        ttft = ttft_s(arrival, columns["first_token_s"], network)
        e2e = e2e_s(arrival, columns["finish_s"], network)
        self._latencies = {
            "ttft_s": ttft,
            "tpot_s": tpot_s(e2e, ttft, columns["output_tokens"]),
            "e2e_s": e2e,
            "queue_s": queue_s(arrival, columns["admission_s"], columns["first_scheduled_s"]),
        }
        self._until_s = float(arrival[-1]) if len(arrival) else 0.0
        self._asked = np.array([has_thresholds(one.slo) for one in record.classes], dtype=np.bool_)
        self._good = np.zeros(len(arrival), dtype=np.bool_)
        for index in np.flatnonzero(self._asked).tolist():
            ours = self._done & (self._which == index)
            latencies = (self._latencies[name][ours] for name in ("ttft_s", "tpot_s", "e2e_s"))
            self._good[ours] = meets(record.classes[index].slo, *latencies)

    def of_class(self, index: int | None, one: dict[str, Any]) -> dict[str, Any]:
        """Return the intervals of one class, whose summary is `one`, or of all."""
        members = np.ones_like(self._asked) if index is None else np.arange(len(self._asked)) == index
        ours = members[self._which]
        asked = (members & self._asked)[self._which]
        found: dict[str, Any] = {}
        rates: tuple[tuple[str, NDArray[np.bool_], Floats | None], ...] = (
            ("request_throughput_rps", ours & self._done, None),
            ("output_throughput_tps", ours & self._done, self._tokens),
            ("goodput_rps", self._good & asked, None),
        )
        for name, counted, weights in rates:
            if one[name] is not None:
                found[name] = self._rate(one[name], counted, weights)
        if one["slo_attainment"] is not None:
            found["slo_attainment"] = _attained(one["slo_attainment"], ~self._good[asked])
        for name in ("ttft_s", "tpot_s", "itl_s", "e2e_s", "queue_s"):
            if name == "itl_s":
                found[name] = {kind: {"reason": _GAPS} for kind, value in one[name].items() if value is not None}
            else:
                found[name] = _described(self._latencies[name][ours & self._done])
        return found

    def times(self, index: int | None) -> dict[str, float]:
        """Return the correlation time of each latency of one class, or of all; NaN where there is nothing."""
        ours = self._done if index is None else self._done & (self._which == index)
        parts = {name: values[ours] for name, values in self._latencies.items()}
        parts = {name: values[~np.isnan(values)] for name, values in parts.items()}
        return {name: correlation_time(values) if len(values) else math.nan for name, values in parts.items()}

    def _rate(self, value: float, counted: NDArray[np.bool_], weights: Floats | None) -> dict[str, Any]:
        """Return the interval of a rate: batch means of what ended in equal bins of time until the last arrival."""
        start_s, until_s = self._record.start_s, self._until_s
        inside = counted & (self._finish_s >= start_s) & (self._finish_s < until_s)
        bins = min(_MOST_BINS, int(np.count_nonzero(inside)) // _PER_BIN)
        if bins < _LEAST_BINS:
            return Interval(value, reason=f"fewer than {_LEAST_BINS * _PER_BIN} requests ended").plain()
        at = ((self._finish_s[inside] - start_s) * (bins / (until_s - start_s))).astype(np.int64)
        weight = None if weights is None else weights[inside]
        counts = np.bincount(np.minimum(at, bins - 1), weight, bins).astype(np.float64)
        found = run_mean(counts)
        if found.reason:
            return found.plain()
        scale = value / found.value
        low, high = max(0.0, found.low * scale), found.high * scale
        return Interval(value, low, high).plain()


def _attained(value: float, missed: NDArray[np.bool_]) -> dict[str, Any]:
    """Return the interval of an attainment; what is rare and comes in bursts are the misses."""
    found = run_mean(missed.astype(np.float64))
    if found.reason:
        return found.plain()
    return Interval(value, max(0.0, 1 - found.high), min(1.0, 1 - found.low)).plain()


def _described(values: Floats) -> dict[str, Any]:
    """Return the intervals of mean and percentiles of values in order of time, NaN left out."""
    values = values[~np.isnan(values)]
    if not len(values):
        return {}
    time = correlation_time(values)
    ordered = np.sort(values)
    quantiles = {f"p{percent}": run_quantile(values, ordered, percent, time).plain() for percent in PERCENTILES}
    return {"mean": run_mean(values, time).plain(), **quantiles}
