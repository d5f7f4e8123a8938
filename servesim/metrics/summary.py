"""The summary of a run: plain data for JSON, every number of it defined in servesim.metrics.definitions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from servesim.metrics.checks import check
from servesim.metrics.definitions import attainment, describe, has_thresholds, meets, per_second
from servesim.metrics.itl import itl_s
from servesim.metrics.latencies import Latencies, SplitMeans, Tail, latencies
from servesim.metrics.lost_tokens import LostTokens, lost_tokens
from servesim.metrics.overload import overload_signs
from servesim.metrics.pools import PoolLoad, pool_counts, pool_summary, validity_warning
from servesim.metrics.rates import Ended, ended, stopping_warnings
from servesim.metrics.record import RunRecord
from servesim.metrics.warmup import measured, window
from servesim.request import ENDS

SCHEMA_VERSION = 2
LATENCIES = ("ttft_s", "tpot_s", "itl_s", "e2e_s", "queue_s")
# The counts of a class; of many replications, their totals are given.
CLASS_COUNTS = ("offered", *ENDS, "attempts", "retries", "partial_output_tokens", "wasted_output_tokens")

Numbers = dict[str, Any]


def all_met(each: list[bool | None], offered: int) -> bool | None:
    """Say whether every class that asks for an attainment reached it, given their answers.

    One of which nothing was measured (None) did not. None if no class asks, or nothing at all was measured.
    """
    return all(answer is True for answer in each) if each and offered else None


def summarise(record: RunRecord) -> dict[str, Any]:
    """Check the record and return its summary; a number that is not defined is None. See docs/metrics.md.

    Raises ServesimError if the record contradicts itself.
    """
    check(record)
    growing, gave_up = overload_signs(record)
    measurement = window(record)
    whole, record = record, measured(record, measurement.left_out, measurement.start_s)
    found = latencies(record)
    good, rates = _good(record, found), ended(whole, record.start_s)
    lost = lost_tokens(record)
    indices: list[int | None] = [None, *range(len(record.classes))]
    names = ["all", *(one.name for one in record.classes)]
    described = _described(record, found)
    split = SplitMeans(
        record,
        Tail(
            *([described[i][kind]["p99"] for i in (*range(len(record.classes)), None)] for kind in ("ttft_s", "e2e_s"))
        ),
    )
    classes = {
        name: {
            **_counts(record, found, good, i, _rates(rates, i, record.end_s - record.start_s)),
            **_lost(lost, i),
            "itl_met": _itl_met(record, described, i),
            **described[i],
            "split": split.of_class(i),
        }
        for name, i in zip(names, indices, strict=True)
    }
    pools, warnings = _pools(whole)
    warnings += stopping_warnings(whole, record.start_s) + _unmeasured(record, whole, found)
    summary = {
        "schema_version": SCHEMA_VERSION,
        "scenario": record.scenario,
        "seed": record.seed,
        "classes": classes,
        "pools": pools,
        "measurement": measurement.plain(),
        "warnings": [*record.warnings, *map(str, growing), *gave_up, *warnings],
        "provenance": record.provenance,
    }
    return {key: _without_nan(value) for key, value in summary.items()}


def _described(record: RunRecord, found: Latencies) -> dict[int | None, Numbers]:
    """Return the statistics of every latency, by class index; None is all classes."""
    whole = _describe_class(record, found, None)
    if len(record.classes) == 1:
        return {None: whole, 0: whole}
    return {None: whole, **{i: _describe_class(record, found, i) for i in range(len(record.classes))}}


def _describe_class(record: RunRecord, found: Latencies, index: int | None) -> Numbers:
    return {
        name: itl_s(record, index) if name == "itl_s" else describe(found.of_class(getattr(found, name), index))
        for name in LATENCIES
    }


def _good(record: RunRecord, found: Latencies) -> list[int | None]:
    """Return how many requests of each class met their objective; None where it has no thresholds."""
    good: list[int | None] = []
    for index, one in enumerate(record.classes):
        if has_thresholds(one.slo):
            values = (found.ttft_s, found.tpot_s, found.e2e_s, found.queue_s)
            ttft, tpot, e2e, queue = (found.of_class(v, index) for v in values)
            good.append(int(np.count_nonzero(meets(one.slo, ttft, tpot, e2e, queue))))
        else:
            good.append(None)
    return good


def _counts(record: RunRecord, found: Latencies, good: list[int | None], index: int | None, rates: Numbers) -> Numbers:
    """Return counts, `rates` and attainment of one class, or of all."""
    members = [index] if index is not None else list(range(len(record.classes)))
    outcomes = found.outcomes[members].sum(axis=0)
    asked = [i for i in members if good[i] is not None]
    met = sum(good[i] or 0 for i in asked)
    share = attainment(met, int(found.outcomes[asked].sum())) if asked else math.nan
    return {
        "offered": int(outcomes.sum()),
        **{name: int(count) for name, count in zip(ENDS, outcomes.tolist(), strict=False)},
        **_attempts(int(found.attempts[members].sum()), int(outcomes.sum())),
        **rates,
        "slo_attainment": share,
        "slo_met": _met(record, found, good, index, share),
    }


def _rates(rates: Ended, index: int | None, duration_s: float) -> Numbers:
    """Return the rates of one class, or of all: whatever ended in the measurement, whoever arrived before it."""
    members = slice(None) if index is None else slice(index, index + 1)
    good = rates.good[members]
    return {
        "request_throughput_rps": per_second(float(rates.requests[members].sum()), duration_s),
        "output_throughput_tps": per_second(float(rates.output_tokens[members].sum()), duration_s),
        "goodput_rps": math.nan if np.isnan(good).all() else per_second(float(np.nansum(good)), duration_s),
    }


def _unmeasured(record: RunRecord, whole: RunRecord, found: Latencies) -> list[str]:
    """Return a sentence for each class whose objective has no request left to be judged by."""
    return [
        f"class {one.name}: all of its {before:,} requests came before the measurement: its objective counts as not met"
        for one, before, outcomes in zip(record.classes, whole.offered, found.outcomes, strict=False)
        if before and not outcomes.sum() and one.slo.attainment is not None
    ]


def _attempts(attempts: int, offered: int) -> Numbers:
    amplification = attempts / offered if offered else math.nan
    return {"attempts": attempts, "retries": attempts - offered, "retry_amplification": amplification}


def _lost(lost: LostTokens, index: int | None) -> Numbers:
    """Return what was generated for attempts that did not complete, of one class or of all."""
    members = slice(None) if index is None else slice(index, index + 1)
    return {
        "partial_output_tokens": int(lost.delivered[members].sum()),
        "wasted_output_tokens": int(lost.generated[members].sum()),
    }


def _met(record: RunRecord, found: Latencies, good: list[int | None], index: int | None, share: float) -> bool | None:
    """Say whether a class reached the attainment asked for; for all classes, whether each one that asks did.

    None of a class without a request to judge by; see `all_met` for what that means for all of them.
    """
    if index is not None:
        target = record.classes[index].slo.attainment
        return None if target is None or math.isnan(share) else bool(share >= target)
    each = [
        _met(record, found, good, i, attainment(count, int(found.outcomes[i].sum())))
        for i, count in enumerate(good)
        if count is not None
    ]
    wanted = [
        one.slo.attainment is not None for one, count in zip(record.classes, good, strict=True) if count is not None
    ]
    return all_met([answer for answer, asks in zip(each, wanted, strict=True) if asks], int(found.outcomes.sum()))


def _itl_met(record: RunRecord, described: dict[int | None, Numbers], index: int | None) -> bool | None:
    """Say whether the pooled p99 inter-token latency is within `slo.itl_s`; None where none is asked for."""
    if index is None:
        answers = [_itl_met(record, described, i) for i in range(len(record.classes))]
        told = [answer for answer in answers if answer is not None]
        return all(told) if told else None
    target, p99 = record.classes[index].slo.itl_s, described[index]["itl_s"]["p99"]
    return None if target is None or math.isnan(p99) else bool(p99 <= target)


def _pools(record: RunRecord) -> tuple[dict[str, Numbers], list[str]]:
    counts = pool_counts(record)
    pools, warnings = {}, []
    for pool in record.pools:
        load = PoolLoad(pool)
        pools[pool.name] = pool_summary(record, pool, load, counts[pool.name])
        if warning := validity_warning(pool, load):
            warnings.append(warning)
    return pools, warnings


def _without_nan(value: Any) -> Any:
    """Return `value` with None for every number that is not finite."""
    if isinstance(value, dict):
        return {key: _without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_without_nan(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
