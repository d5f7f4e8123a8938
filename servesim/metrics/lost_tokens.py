"""Output tokens of attempts that did not complete: how many were generated, and how many had reached the client.

An engine lets a running request go at the next iteration boundary, so the last one or two of its tokens may come after
its client has left. They are found from the end of its decode interval backwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from servesim.metrics.chunks import Columns, named_chunks
from servesim.metrics.definitions import Floats
from servesim.metrics.record import ReplicaRecord, RunRecord
from servesim.request import COMPLETED

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LostTokens:
    """Tokens `generated` for attempts that did not complete, and those `delivered` before they ended; by class.

    Both of shape (classes,). Tokens count as delivered when they are out at the server.
    """

    generated: Ints
    delivered: Ints


def lost_tokens(record: RunRecord) -> LostTokens:
    """Count the output tokens of attempts that did not complete."""
    classes = len(record.classes)
    generated, late = np.zeros(classes), np.zeros(classes)
    for chunk in named_chunks(record.requests):
        lost = (chunk["outcome"] != COMPLETED) & (chunk["generated_tokens"] > 0)
        if lost.any():
            rows = {name: column[lost] for name, column in chunk.items()}
            which = rows["class_index"].astype(np.int64)
            generated += np.bincount(which, rows["generated_tokens"], minlength=classes)
            late += np.bincount(which, _late_tokens(record, rows), minlength=classes)
    return LostTokens(generated.astype(np.int64), (generated - late).astype(np.int64))


def _late_tokens(record: RunRecord, lost: Columns) -> Floats:
    """Return how many tokens of each attempt came out after its end."""
    late = np.zeros(len(lost["replica"]))
    for pool in record.pools:
        for number, replica in enumerate(pool.replicas):
            ours = np.flatnonzero(lost["replica"] == pool.first_replica + number)
            if len(ours):
                rows = {name: column[ours] for name, column in lost.items()}
                late[ours] = _late_in_rows(replica, rows) + _late_after_preemption(replica, rows)
    # Without a first token in time there was nothing at all.
    return np.where(np.isnan(lost["first_token_s"]), lost["generated_tokens"], late)


def _late_in_rows(replica: ReplicaRecord, lost: Columns) -> Floats:
    """Return how many iterations of each decode interval end after the attempt: step back from its last one."""
    start_s, iterations, first_s, bend_s = replica.runs.column("start_s", "iterations", "first_s", "bend_s")
    late = np.zeros(len(lost["finish_s"]))
    row, first = lost["last_row"].astype(np.int64) - 1, lost["first_row"].astype(np.int64)
    open_ = np.flatnonzero((first >= 0) & (row >= first))
    j = np.zeros(len(late))
    j[open_] = iterations[row[open_]]
    while len(open_):
        at, steps = row[open_], j[open_]
        end_s = start_s[at] + steps * (first_s[at] + bend_s[at] * (steps - 1))
        open_ = open_[end_s > lost["finish_s"][open_]]
        late[open_] += 1
        j[open_] -= 1
        over = open_[j[open_] == 0]
        row[over] -= 1
        open_ = open_[row[open_] >= first[open_]]
        again = open_[j[open_] == 0]
        j[again] = iterations[row[again]]
    return late


def _late_after_preemption(replica: ReplicaRecord, lost: Columns) -> Floats:
    """Return how many tokens of each attempt ended a preemption after the attempt had ended."""
    late = np.zeros(len(lost["request_id"]))
    order = np.argsort(lost["request_id"])
    ids = lost["request_id"][order]
    for chunk in named_chunks(replica.segments):
        place = np.minimum(np.searchsorted(ids, chunk["request_id"]), len(ids) - 1)
        owner = order[place]
        hit = (ids[place] == chunk["request_id"]) & (chunk["gap_end_s"] > lost["finish_s"][owner])
        late += np.bincount(owner[hit], minlength=len(late))
    return late
