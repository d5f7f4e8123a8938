"""Attempts and logical requests: a record has a row for every attempt, most metrics are about what clients wanted.

The first attempt's arrival and the last attempt's end are those of the logical request, and so is the last one's
outcome. Where nobody tries again the two are the same and nothing is looked up.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from servesim.metrics.chunks import Columns, named_chunks
from servesim.metrics.definitions import Floats
from servesim.metrics.record import RunRecord

Ints = NDArray[np.int64]


class Attempts:
    """Who tried more than once: arrays with one entry per attempt of those, ordered by request and attempt.

    `first_id` names the logical request, `request_id` the attempt, `number` counts 1, 2, ... within a request;
    `columns` has whichever columns of the record were asked for. All of shape (attempts,).
    """

    def __init__(self, record: RunRecord, *names: str) -> None:
        first, later = (column.astype(np.int64) for column in record.retries.column("first_request_id", "request_id"))
        tried = np.unique(first)
        ids, owners = np.concatenate([tried, later]), np.concatenate([tried, first])
        order = np.lexsort((ids, owners))  # ids are given in order of time
        self.request_id, self.first_id = ids[order], owners[order]
        start = np.searchsorted(self.first_id, self.first_id, side="left")
        self.number = np.arange(len(ids)) - start + 1
        self.is_last = np.append(self.first_id[1:] != self.first_id[:-1], True)[: len(ids)]
        self._by_id = np.argsort(self.request_id)
        self._sorted_ids = self.request_id[self._by_id]
        self.columns = {name: np.full(len(ids), np.nan) for name in names}
        if len(ids):
            for chunk in named_chunks(record.requests):
                here, place = self.find(chunk["request_id"])
                for name in names:
                    self.columns[name][place[here]] = chunk[name][here]

    def __len__(self) -> int:
        return len(self.request_id)

    def find(self, request_id: Floats) -> tuple[NDArray[np.bool_], Ints]:
        """Return which of some attempts are of a request tried more than once, and their places (any for others)."""
        near = np.minimum(np.searchsorted(self._sorted_ids, request_id), len(self._sorted_ids) - 1)
        return self._sorted_ids[near] == request_id, self._by_id[near]

    def previous(self, values: Floats) -> Floats:
        """Return the value of the attempt before, NaN for first attempts."""
        return np.where(self.number > 1, np.append(np.nan, values[:-1]), np.nan)


def logical_chunks(record: RunRecord) -> Iterator[Columns]:
    """Yield the logical requests chunk by chunk: the columns of their last attempts, and these.

    `arrival_s` is the first attempt's, `attempt_arrival_s` the last one's; `request_id` names the last attempt,
    `logical_id` the first one; `attempts` counts them.
    """
    if not len(record.retries):
        for chunk in named_chunks(record.requests):
            once = np.ones(len(chunk["request_id"]))
            yield as_logical(chunk, chunk["request_id"], chunk["arrival_s"], once)
        return
    attempts = Attempts(record, "arrival_s")
    first_place = np.searchsorted(attempts.first_id, attempts.first_id, side="left")
    first_arrival_s = attempts.columns["arrival_s"][first_place]
    for chunk in named_chunks(record.requests):
        here, place = attempts.find(chunk["request_id"])
        last = ~here | attempts.is_last[place]
        kept = {name: column[last] for name, column in chunk.items()}
        here, place = here[last], place[last]
        yield as_logical(
            kept,
            np.where(here, attempts.first_id[place], kept["request_id"]),
            np.where(here, first_arrival_s[place], kept["arrival_s"]),
            np.where(here, attempts.number[place], 1).astype(np.float64),
        )


def as_logical(chunk: Columns, logical_id: Floats, arrival_s: Floats, attempts: Floats) -> Columns:
    """Return the columns of last attempts as those of logical requests."""
    return {
        **chunk,
        "arrival_s": arrival_s,
        "attempt_arrival_s": chunk["arrival_s"],
        "logical_id": logical_id,
        "attempts": attempts,
    }
