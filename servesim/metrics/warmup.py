"""Leaving out the warm-up: which requests a summary is about, and how that was decided.

A system that starts empty is not yet in its steady state. The measurement begins at a request: the statistics are of it
and of every request that arrived after it, to their ends, however long the run takes to drain. See docs/statistics.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from servesim.metrics.attempts import Attempts, logical_chunks
from servesim.metrics.definitions import Floats
from servesim.metrics.record import RunRecord
from servesim.metrics.spool import Spool

MSER_BATCH = 5
USUAL_SHARE = 20
LEAST_REQUESTS = 1_000
_MOST_OF_CLASS = 0.1


@dataclass(frozen=True, slots=True)
class Window:
    """The measurement: `left_out` requests came before `start_s` and are not counted; `how` says why so many."""

    left_out: int
    start_s: float
    how: str
    method: str

    def plain(self) -> dict[str, Any]:
        """Return what the summary holds under `measurement`."""
        return {"warmup": self.method, "left_out": self.left_out, "start_s": self.start_s, "how": self.how}


def mser5(values: Floats) -> int:
    """Return how many observations at the beginning of `values`, shape (n,), are warm-up: a multiple of 5.

    MSER-5: of the means of batches of 5, leave out the d first, where d <= half of them makes SS_d / (n - d)^2 smallest
    (SS_d: the rest's squared deviations from their mean). K. P. White, "An effective truncation heuristic for bias
    reduction in simulation output", Simulation 69(6), 1997; batches of 5: White, Cobb and Spratt, Proc. WSC 2000.
    """
    count = len(values) // MSER_BATCH
    if count < 2:
        return 0
    means = values[: count * MSER_BATCH].reshape(count, MSER_BATCH).mean(axis=1)
    means = means - means.mean()  # of the same spread, with less rounding in the sums below
    left = count - np.arange(count // 2 + 1)
    total = np.cumsum(means[::-1])[::-1][: len(left)]
    squares = np.cumsum(np.square(means)[::-1])[::-1][: len(left)]
    return MSER_BATCH * int(np.argmin((squares - total * total / left) / (left * left.astype(np.float64))))


def usual_warmup(requests: int) -> int:
    """Return what `warmup: auto` leaves out of so many requests: the first twentieth.

    Not MSER-5, which on dependent observations also cuts away a chance run of high values, so that the rest looks too
    good: by 4 % in the mean and 10 % in p99 on short M/M/1 runs at load 0.8 (docs/statistics.md). A fixed share has no
    such bias, and leaves two scenarios under one seed with the same requests.
    """
    return requests // USUAL_SHARE


def window(record: RunRecord) -> Window:
    """Return the measurement of a run by the record's rule."""
    rule = record.warmup
    if rule.method == "auto":
        return _automatic(record)
    if rule.method == "mser5":
        return _by_mser5(record)
    if rule.method == "requests":
        return _from_request(record, int(rule.value), "the number the scenario asks for", "requests")
    if rule.method == "time_s":
        _, arrival_s, _ = _first_attempts(record)
        first = int(np.searchsorted(arrival_s, rule.value))
        return _from_request(record, first, "the time the scenario asks for", "time_s")
    return Window(0, 0.0, rule.reason or "asked for", "none")


def _automatic(record: RunRecord) -> Window:
    """Look at nothing but what was offered: two systems under the same requests then measure the same of them."""
    requests = len(record.requests) - len(record.retries)
    if requests < LEAST_REQUESTS:
        return Window(0, 0.0, f"fewer than {LEAST_REQUESTS:,} requests: too few to tell a warm-up", "none")
    first = usual_warmup(requests)
    if uneven := _class_left_out(record, first):
        return Window(0, 0.0, uneven, "none")
    return _from_request(record, first, "the first twentieth, as usual", "auto")


def _class_left_out(record: RunRecord, first: int) -> str:
    """Say which class would lose too much if `first` requests were left out; empty if none.

    Too much is all of it, or more than a tenth and two standard deviations of what chance takes from a class that is
    spread like all.
    """
    which = _first_attempts(record)[2].astype(np.int64)
    every = np.bincount(which, minlength=len(record.classes))
    lost = np.bincount(which[:first], minlength=len(record.classes))
    share = 1 / USUAL_SHARE
    most = _MOST_OF_CLASS * every + 2 * np.sqrt(share * (1 - share) * every)
    for index in np.flatnonzero((every > 0) & ((lost > most) | (lost == every))).tolist():
        name = record.classes[index].name
        return (
            f"class {name} would lose {lost[index]:,} of its {every[index]:,} requests: it has a beginning of its own"
        )
    return ""


def _by_mser5(record: RunRecord) -> Window:
    """Leave out as many as MSER-5 finds in the time to first token, or in the time in the system if that is more.

    Requests without a first token count with their time in the system.
    """
    names = ("logical_id", "arrival_s", "first_token_s", "finish_s")
    chunks = [[chunk[name] for name in names] for chunk in logical_chunks(record)]
    logical_id, arrival, first, finish = (np.concatenate(columns) for columns in zip(*chunks, strict=True))
    order = np.argsort(logical_id)
    arrival, first, finish = arrival[order], first[order], finish[order]
    to_first = np.where(np.isnan(first), finish, first) - arrival
    return _from_request(record, max(mser5(to_first), mser5(finish - arrival)), "found by MSER-5", "mser5")


def _from_request(record: RunRecord, first: int, how: str, method: str) -> Window:
    """Begin at request number `first`; after the last one there is nothing to measure, which is said."""
    if not first:
        return Window(0, 0.0, how, method)
    _, arrival_s, _ = _first_attempts(record)
    if first >= len(arrival_s):
        return Window(len(arrival_s), record.end_s, f"{how}: no request arrived later", method)
    return Window(first, float(arrival_s[first]), how, method)


def _first_attempts(record: RunRecord) -> tuple[Floats, Floats, Floats]:
    """Return id, arrival and class of the first attempts, in order of arrival, each of shape (requests,)."""
    request_id, arrival_s, class_index = record.requests.column("request_id", "arrival_s", "class_index")
    if len(record.retries):
        (later,) = record.retries.column("request_id")
        first = ~np.isin(request_id, later)
        request_id, arrival_s, class_index = request_id[first], arrival_s[first], class_index[first]
    order = np.argsort(request_id)
    return request_id[order], arrival_s[order], class_index[order]


class _Since(Spool):
    """The rows of another spool whose logical request is at or after a number; read only.

    An attempt belongs to the request that it tries again: `first_of` maps ids in the column `by` to those of the first
    attempts.
    """

    def __init__(self, whole: Spool, by: str, first: int, first_of: Callable[[Floats], Floats]) -> None:
        super().__init__(whole.columns)
        self._whole = whole
        self._first = first
        self._first_of = first_of
        self._at = whole.columns.index(by)
        self._count: int | None = None

    def __len__(self) -> int:
        if self._count is None:
            self._count = sum(len(chunk) for chunk in self.chunks())
        return self._count

    def chunks(self) -> Iterator[NDArray[np.float64]]:
        """Yield the rows in order as arrays of shape (rows, columns)."""
        for chunk in self._whole.chunks():
            kept = chunk[self._first_of(chunk[:, self._at]) >= self._first]
            if len(kept):
                yield kept


def measured(record: RunRecord, left_out: int, start_s: float) -> RunRecord:
    """Return the record without its first `left_out` requests, and time from `start_s` on; logs stay whole.

    All attempts of a request that began before are left out with it.
    """
    if not left_out:
        return record
    attempts = Attempts(record)
    ids, _, _ = _first_attempts(record)
    begin = int(ids[left_out]) if left_out < len(ids) else len(record.requests)

    def first_of(ids: Floats) -> Floats:
        if not len(attempts):
            return ids
        again, place = attempts.find(ids)
        return np.where(again, attempts.first_id[place], ids)

    def since(spool: Spool, by: str = "request_id") -> Spool:
        return _Since(spool, by, begin, first_of)

    pools = [
        replace(pool, replicas=[replace(one, segments=since(one.segments)) for one in pool.replicas])
        for pool in record.pools
    ]
    retries = since(record.retries, "first_request_id")
    return replace(record, requests=since(record.requests), retries=retries, pools=pools, start_s=start_s, partial=True)
