"""How many requests of each class ended how, and the latencies of those that completed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from servesim.metrics.attempts import logical_chunks
from servesim.metrics.chunks import Columns
from servesim.metrics.definitions import Floats, e2e_s, tpot_s, ttft_s
from servesim.metrics.record import RunRecord
from servesim.metrics.split import PARTS, Split, Splitter, network_s
from servesim.metrics.waiting import Waiting
from servesim.request import COMPLETED, OUTCOMES


@dataclass(frozen=True, slots=True)
class Latencies:
    """Latencies of the completed requests, each of shape (completed,), and counts by class.

    `outcomes` has shape (classes, len(OUTCOMES)) and counts logical requests by their last attempt's, `attempts` shape
    (classes,); `class_index` is None if there is one class only.
    """

    outcomes: NDArray[np.int64]
    attempts: NDArray[np.int64]
    class_index: NDArray[np.int16] | None
    ttft_s: Floats
    tpot_s: Floats
    e2e_s: Floats
    queue_s: Floats

    def of_class(self, values: Floats, index: int | None) -> Floats:
        """Return the part of `values` that belongs to a class; all of it for None."""
        return values if index is None or self.class_index is None else values[self.class_index == index]


def completed_chunks(record: RunRecord) -> Iterator[Columns]:
    """Yield the completed logical requests chunk by chunk, with the columns of `logical_chunks`."""
    for chunk in logical_chunks(record):
        done = chunk["outcome"] == COMPLETED
        yield chunk if done.all() else {name: column[done] for name, column in chunk.items()}


class LatencyOf(NamedTuple):
    """Latencies of some completed requests, in seconds, each of shape (n,); TPOT is NaN where there is none."""

    ttft_s: Floats
    tpot_s: Floats
    e2e_s: Floats
    queue_s: Floats


class Measure:
    """Computes the latencies of the completed logical requests of one record: all that is said of them is from here."""

    def __init__(self, record: RunRecord) -> None:
        self._network_s = network_s(record)
        self._waiting = Waiting(record)
        self._at_once = record.answered_at_once()

    def of(self, done: Columns) -> LatencyOf:
        """Return the latencies of completed requests with the columns of `logical_chunks`."""
        arrival, which = done["arrival_s"], done["class_index"].astype(np.int64)
        ttft = ttft_s(arrival, done["first_token_s"], self._network_s)
        e2e = e2e_s(arrival, done["finish_s"], self._network_s)
        tpot = tpot_s(e2e, ttft, done["output_tokens"], self._at_once[which])
        queue, _ = self._waiting.of(done)
        return LatencyOf(ttft, tpot, e2e, queue)


def latencies(record: RunRecord) -> Latencies:
    """Compute the latencies of every completed request."""
    classes, kinds = len(record.classes), len(OUTCOMES)
    outcomes, attempts = np.zeros(classes * kinds, dtype=np.int64), np.zeros(classes)
    for chunk in logical_chunks(record):
        code = chunk["class_index"] * kinds + chunk["outcome"]
        outcomes += np.bincount(code.astype(np.int64), minlength=classes * kinds)
        attempts += np.bincount(chunk["class_index"].astype(np.int64), chunk["attempts"], minlength=classes)
    by_class = outcomes.reshape(classes, kinds)
    total = int(by_class[:, COMPLETED].sum())
    ttft, tpot, e2e, queue = (np.empty(total) for _ in range(4))
    index = np.empty(total, dtype=np.int16) if classes > 1 else None
    start, measure = 0, Measure(record)
    for done in completed_chunks(record):
        which = done["class_index"].astype(np.int64)
        rows = slice(start, start := start + len(which))
        ttft[rows], tpot[rows], e2e[rows], queue[rows] = measure.of(done)
        if index is not None:
            index[rows] = which
    return Latencies(by_class, attempts.astype(np.int64), index, ttft, tpot, e2e, queue)


@dataclass(frozen=True, slots=True)
class Tail:
    """The latencies from which on a request is among the slowest: one entry per class, the last one for all."""

    ttft_s: list[float]
    e2e_s: list[float]


class SplitMeans:
    """Mean parts of TTFT and E2E per class, and of the slowest: those at or above a class's threshold.

    `ttft_s`, `e2e_s`, `tail_ttft_s` and `tail_e2e_s` map a part to its sums, of shape (classes + 1,); the last entry
    is all classes together. NaN where no request completed.
    """

    def __init__(self, record: RunRecord, tail: Tail) -> None:
        self._classes = len(record.classes)
        self._count = np.zeros((3, self._classes + 1))
        self._sums = np.zeros((4, len(PARTS), self._classes + 1))
        splitter = Splitter(record)
        network = network_s(record)
        for done in completed_chunks(record):
            arrival = done["arrival_s"]
            ttft, e2e = ttft_s(arrival, done["first_token_s"], network), e2e_s(arrival, done["finish_s"], network)
            self._add(done["class_index"].astype(np.int64), splitter.split(done), ttft, e2e, tail)
        with np.errstate(invalid="ignore"):
            self._means = self._sums / self._count[[0, 0, 1, 2], None, :]

    def _add(self, which: NDArray[np.int64], split: Split, ttft: Floats, e2e: Floats, tail: Tail) -> None:
        self._sum(0, which, split.ttft_s)
        self._sum(1, which, split.e2e_s)
        self._count[0] += self._by_class(which, None)
        for place, parts, latency, least in ((2, split.ttft_s, ttft, tail.ttft_s), (3, split.e2e_s, e2e, tail.e2e_s)):
            slow = np.flatnonzero(latency >= np.array(least)[which])
            self._count[place - 1, :-1] += np.bincount(which[slow], minlength=self._classes)
            slowest = np.flatnonzero(latency >= least[-1])
            self._count[place - 1, -1] += len(slowest)
            for i, name in enumerate(PARTS):
                self._sums[place, i, :-1] += np.bincount(which[slow], parts[name][slow], minlength=self._classes)
                self._sums[place, i, -1] += parts[name][slowest].sum()

    def _sum(self, place: int, which: NDArray[np.int64], parts: dict[str, Floats]) -> None:
        for i, name in enumerate(PARTS):
            self._sums[place, i] += self._by_class(which, parts[name])

    def _by_class(self, which: NDArray[np.int64], values: Floats | None) -> Floats:
        """Return sums (or counts) per class, and of all."""
        if self._classes == 1:
            return np.full(2, len(which) if values is None else values.sum(), dtype=np.float64)
        sums = np.bincount(which, values, minlength=self._classes)
        return np.append(sums, sums.sum())

    def of_class(self, index: int | None) -> dict[str, dict[str, object]]:
        """Return the `split` of the summary for one class, or for all."""
        at = self._classes if index is None else index
        ttft, e2e, slow_ttft, slow_e2e = (dict(zip(PARTS, means[:, at].tolist(), strict=True)) for means in self._means)
        return {"ttft_s": {**ttft}, "e2e_s": {**e2e}, "p99_tail": {"ttft_s": slow_ttft, "e2e_s": slow_e2e}}
