"""Telling a queue that grows without end from one that merely fluctuates.

Looked at: the open-loop requests of a pool between their first and their last arrival (afterwards every queue drains).
The pool is called overloaded if, at the last arrival, more requests wait to be first scheduled than a stable queue
leaves waiting once in a hundred runs, AND those of the last quarter waited clearly longer than those of the first.

Why these two: in a stable single-server queue (M/M/1) at load r the chance of n or more waiting is about r**n, and the
sum of n random steps grows as sqrt(n), so the bar is at least 50, which load 0.9 passes in 0.5 % of runs, and at least
1.1 sqrt(requests). Bursty arrivals raise it as they lengthen the queue, by (ca2 + 1) / 2 with ca2 the squared
coefficient of variation of the gaps (Kingman, "The single server queue in heavy traffic", Proc. Cambridge Phil. Soc.
57(4), 1961). The length of the queue at the end uses the whole run; comparing arrivals with departures in its second
half only would be the same test with a quarter of the drift and half of the noise left, and misses one overload in
fifty at load 1.1 with 2,000 requests.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np

from servesim.metrics.chunks import Columns, named_chunks
from servesim.metrics.definitions import Floats
from servesim.metrics.record import PoolRecord, RunRecord
from servesim.request import COMPLETED

_LEAST_WAITING = 50
_WAITING_PER_ROOT = 1.1
_SLOWER = 1.5


@dataclass(frozen=True, slots=True)
class Overload:
    """An overloaded pool: rates over the time in which requests arrived, and the queue at its end."""

    pool: str
    offered_rps: float
    served_rps: float
    waiting: int

    def __str__(self) -> str:
        return (
            f"pool {self.pool} is overloaded: offered {self.offered_rps:.4g} requests/s, served {self.served_rps:.4g} "
            f"requests/s, the queue grew to {self.waiting} requests; latencies depend on how long the run lasts"
        )


def overload_warnings(record: RunRecord) -> list[str]:
    """Return one sentence for each overloaded pool; empty if there is none."""
    return [str(found) for found in overloads(record)]


def overloads(record: RunRecord) -> list[Overload]:
    """Return the pools that were offered more than they can serve."""
    return [found for pool in record.pools if (found := _look_at(record, pool)) is not None]


def _look_at(record: RunRecord, pool: PoolRecord) -> Overload | None:
    is_open = np.array([one.open_loop and one.pool == pool.name for one in record.classes])
    if not is_open.any():
        return None
    parts = [_times(chunk, is_open) for chunk in named_chunks(record.requests)]
    if not parts:
        return None
    arrival_s, scheduled_s, completed_s = (np.concatenate(column) for column in zip(*parts, strict=True))
    waiting = queue_grew(arrival_s, scheduled_s)
    if not waiting:
        return None
    end_s = float(arrival_s.max())
    window_s = end_s - float(arrival_s.min())
    served = int(np.count_nonzero(completed_s <= end_s))
    return Overload(pool.name, len(arrival_s) / window_s, served / window_s, waiting)


def _times(chunk: Columns, is_open: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> tuple[Floats, Floats, Floats]:
    """Return when open-loop requests arrived, left the queue (whichever way), and completed (NaN if they did not)."""
    ours = slice(None) if is_open.all() else is_open[chunk["class_index"].astype(np.int64)]
    finish = chunk["finish_s"][ours]
    completed = np.where(chunk["outcome"][ours] == COMPLETED, finish, np.nan)
    return chunk["arrival_s"][ours].copy(), np.fmin(chunk["first_scheduled_s"][ours], finish), completed


def queue_grew(arrival_s: Floats, scheduled_s: Floats) -> int:
    """Return how many wait at the last arrival if the queue grew without end, else 0; see the module for the rule.

    `scheduled_s` says when each request left the queue; both have shape (n,), in any order.
    """
    if len(arrival_s) < 2:
        return 0
    first, last = float(arrival_s.min()), float(arrival_s.max())
    window_s = last - first
    waiting = int(np.count_nonzero(scheduled_s > last))
    bar = max(_LEAST_WAITING, _WAITING_PER_ROOT * sqrt(len(arrival_s)))
    if window_s <= 0 or waiting < bar:
        return 0
    gaps = np.diff(np.sort(arrival_s))
    bar *= max(1.0, 0.5 * (1 + float(gaps.var()) / float(gaps.mean()) ** 2))
    waited = scheduled_s - arrival_s
    early = waited[arrival_s <= first + 0.25 * window_s].mean()
    late = waited[arrival_s >= last - 0.25 * window_s].mean()
    return waiting if waiting >= bar and late > _SLOWER * early else 0
