"""What ended in the measurement: the numerators of throughput and goodput, by class.

A rate counts what ended after the measurement began, whoever arrived before, per second from there to the end of the
run. Counting only requests that also arrived in it would leave out the work on those that were already inside, in time
that the denominator has: a server that is always busy would seem to be slower.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from servesim.metrics.chunks import Columns
from servesim.metrics.definitions import Floats, has_thresholds, meets
from servesim.metrics.latencies import Measure, completed_chunks
from servesim.metrics.record import RunRecord

_SILENT_SHARE = 0.1
_SILENT_GAPS = 10.0


@dataclass(frozen=True, slots=True)
class Ended:
    """Requests completed, their output tokens, and the `good` ones (NaN without thresholds); of shape (classes,)."""

    requests: Floats
    output_tokens: Floats
    good: Floats


@dataclass(frozen=True, slots=True)
class Completion:
    """Completed requests: when, of which class, how many tokens, and whether they met their thresholds; shape (n,)."""

    finish_s: Floats
    class_index: Floats
    output_tokens: Floats
    good: Floats


def completions(record: RunRecord, start_s: float) -> Completion:
    """Return the requests of a whole run's record that completed after `start_s`; all of them from 0 on."""
    measure = Measure(record)
    parts = [_chunk(record, measure, done, start_s) for done in completed_chunks(record)]
    if not parts:
        return Completion(*(np.empty(0) for _ in range(4)))
    return Completion(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _chunk(record: RunRecord, measure: Measure, done: Columns, start_s: float) -> tuple[Floats, ...]:
    # What ends just as the measurement begins is what made room for its first request in a closed loop.
    inside = done["finish_s"] > start_s if start_s else np.ones(len(done["finish_s"]), dtype=np.bool_)
    done = {name: column[inside] for name, column in done.items()}
    good = np.zeros(len(done["finish_s"]))
    asked = [i for i, one in enumerate(record.classes) if has_thresholds(one.slo)]
    if asked:
        found = measure.of(done)
        for index in asked:
            ours = done["class_index"] == index
            slo = record.classes[index].slo
            good[ours] = meets(slo, found.ttft_s[ours], found.tpot_s[ours], found.e2e_s[ours], found.queue_s[ours])
    return done["finish_s"], done["class_index"], done["output_tokens"], good


def ended(record: RunRecord, start_s: float) -> Ended:
    """Count what completed after `start_s` in a whole run's record."""
    classes, found = len(record.classes), completions(record, start_s)
    which = found.class_index.astype(np.int64)
    good = np.bincount(which, found.good, minlength=classes).astype(np.float64)
    good[[not has_thresholds(one.slo) for one in record.classes]] = np.nan
    return Ended(
        np.bincount(which, minlength=classes).astype(np.float64),
        np.bincount(which, found.output_tokens, minlength=classes).astype(np.float64),
        good,
    )


def last_arrivals_s(record: RunRecord, start_s: float) -> Floats:
    """Return when the last attempt of each class arrived if that is long before the last of all, else NaN.

    Long is a tenth of the time from `start_s` to the last arrival of all, and ten times the class's own mean gap, so
    that a rare class is not taken for one that has stopped.
    """
    classes = len(record.classes)
    found = np.full(classes, np.nan)
    class_index, arrival_s = record.requests.column("class_index", "arrival_s")
    if classes < 2 or not len(arrival_s):
        return found
    until_s = float(arrival_s.max())
    for index in range(classes):
        ours = arrival_s[class_index == index]
        if len(ours):
            last_s = float(ours.max())
            gap_s = (last_s - float(ours.min())) / len(ours)
            if until_s - last_s > max(_SILENT_SHARE * (until_s - start_s), _SILENT_GAPS * gap_s):
                found[index] = last_s
    return found


def stopping_warnings(record: RunRecord, start_s: float) -> list[str]:
    """Return a sentence for each class whose rates include a long time in which it sent nothing more."""
    return [
        f"class {one.name} sends its last request at {last_s:.4g} s of {record.last_arrival_s:.4g} s: its rates are "
        "per second of the whole measurement"
        for one, last_s in zip(record.classes, last_arrivals_s(record, start_s).tolist(), strict=True)
        if not math.isnan(last_s)
    ]
