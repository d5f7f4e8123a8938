"""95 % intervals for the summary of one run, each printed only if the method's own checks pass."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from servesim.metrics.attempts import logical_chunks
from servesim.metrics.chunks import Columns
from servesim.metrics.definitions import PERCENTILES, Floats, has_thresholds, meets
from servesim.metrics.intervals import CONFIDENCE, MEAN_BATCHES, Interval, correlation_time, run_mean, run_quantile
from servesim.metrics.latencies import LatencyOf, Measure
from servesim.metrics.rates import completions, last_arrivals_s
from servesim.metrics.record import RunRecord
from servesim.request import COMPLETED

_MOST_BINS = 4096
_LEAST_BINS = 100
_PER_BIN = 8
_GAPS = "the gaps of one iteration are one observation: only with replications"
_STOPS = "a class stops long before the others: no steady rate over the whole measurement"
ELSEWHERE = "only with replications"


def run_intervals(whole: RunRecord, record: RunRecord, summary: dict[str, Any], overloaded: bool) -> dict[str, Any]:
    """Return the `intervals` of a summary (docs/metrics.md): latencies, rates and attainment of every class.

    `whole` is the record of the run, `record` that of the measurement (servesim.metrics.warmup.measured).
    """
    refusal = _refusal(record, overloaded)
    if refusal:
        classes = {name: _all_refused(one, refusal) for name, one in summary["classes"].items()}
    else:
        sample, rates = _Sample(record), _Rates(whole, record.start_s)
        which = dict(zip(summary["classes"], [None, *range(len(record.classes))], strict=True))
        classes = {
            name: {**rates.of_class(which[name], one), **sample.of_class(which[name], one)}
            for name, one in summary["classes"].items()
        }
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
    """The measured logical requests in order of arrival, with the very latencies that the summary describes."""

    def __init__(self, record: RunRecord) -> None:
        measure = Measure(record)
        parts = [_of_chunk(measure, chunk) for chunk in logical_chunks(record)]
        columns = [np.concatenate(each) for each in zip(*parts, strict=True)] if parts else [np.empty(0)] * 7
        order = np.argsort(columns[0])
        _, which, done, *latencies = (column[order] for column in columns)
        self._which = which.astype(np.int64)
        self._done: NDArray[np.bool_] = done.astype(np.bool_)
        self._latencies = dict(zip(LatencyOf._fields, latencies, strict=True))
        self._asked = np.array([has_thresholds(one.slo) for one in record.classes], dtype=np.bool_)
        self._good = np.zeros(len(order), dtype=np.bool_)
        for index in np.flatnonzero(self._asked).tolist():
            ours = self._done & (self._which == index)
            of = (self._latencies[name][ours] for name in ("ttft_s", "tpot_s", "e2e_s", "queue_s"))
            self._good[ours] = meets(record.classes[index].slo, *of)

    def of_class(self, index: int | None, one: dict[str, Any]) -> dict[str, Any]:
        """Return the intervals of attainment and latencies of one class, whose summary is `one`, or of all."""
        members = np.ones_like(self._asked) if index is None else np.arange(len(self._asked)) == index
        ours = members[self._which] & self._done
        asked = (members & self._asked)[self._which]
        found: dict[str, Any] = {}
        if one["slo_attainment"] is not None:
            found["slo_attainment"] = _attained(one["slo_attainment"], ~self._good[asked])
        for name in ("ttft_s", "tpot_s", "itl_s", "e2e_s", "queue_s"):
            if name == "itl_s":
                found[name] = {kind: {"reason": _GAPS} for kind, value in one[name].items() if value is not None}
            else:
                found[name] = _described(self._latencies[name][ours])
        return found

    def times(self, index: int | None) -> dict[str, float]:
        """Return the correlation time of each latency of one class, or of all; NaN where there is nothing."""
        ours = self._done if index is None else self._done & (self._which == index)
        parts = {name: values[ours] for name, values in self._latencies.items()}
        parts = {name: values[~np.isnan(values)] for name, values in parts.items()}
        return {name: correlation_time(values) if len(values) else math.nan for name, values in parts.items()}


def _of_chunk(measure: Measure, chunk: Columns) -> tuple[Floats, ...]:
    """Return logical id, class, whether completed, and LatencyOf (NaN unless completed), each of shape (requests,)."""
    done = chunk["outcome"] == COMPLETED
    latencies = np.full((len(LatencyOf._fields), len(done)), np.nan)
    latencies[:, done] = measure.of({name: column[done] for name, column in chunk.items()})
    return chunk["logical_id"], chunk["class_index"], done.astype(np.float64), *latencies


class _Rates:
    """What completed in the measurement, for rates: whoever arrived, as in the summary."""

    def __init__(self, whole: RunRecord, start_s: float) -> None:
        self._found = completions(whole, start_s)
        self._start_s, self._until_s = start_s, whole.last_arrival_s
        self._stops_s = last_arrivals_s(whole, start_s)

    def of_class(self, index: int | None, one: dict[str, Any]) -> dict[str, Any]:
        """Return the intervals of the rates of one class, whose summary is `one`, or of all."""
        found = self._found
        ours = np.ones(len(found.finish_s), dtype=np.bool_) if index is None else found.class_index == index
        weights = {
            "request_throughput_rps": ours.astype(np.float64),
            "output_throughput_tps": ours * found.output_tokens,
            "goodput_rps": ours * found.good,
        }
        stops = bool(np.isfinite(self._stops_s).any() if index is None else np.isfinite(self._stops_s[index]))
        refused = Interval(math.nan, reason=_STOPS).plain()
        return {
            name: dict(refused) if stops else self._rate(one[name], weight)
            for name, weight in weights.items()
            if one[name] is not None
        }

    def _rate(self, value: float, weight: Floats) -> dict[str, Any]:
        """Return the interval of a rate: batch means of what ended in equal bins of time until the last arrival."""
        start_s, until_s, finish_s = self._start_s, self._until_s, self._found.finish_s
        inside = (weight > 0) & (finish_s < until_s)
        bins = min(_MOST_BINS, int(np.count_nonzero(inside)) // _PER_BIN)
        bins -= bins % MEAN_BATCHES  # so that batches leave nothing out
        if bins < _LEAST_BINS:
            return Interval(value, reason=f"fewer than {_LEAST_BINS * _PER_BIN} requests ended").plain()
        at = ((finish_s[inside] - start_s) * (bins / (until_s - start_s))).astype(np.int64)
        counts = np.bincount(np.minimum(at, bins - 1), weight[inside], bins).astype(np.float64)
        found = run_mean(counts)
        if found.reason:
            return found.plain()
        scale = value / found.value
        return Interval(value, found.low * scale, found.high * scale).plain()


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
