"""The time before a request is first scheduled: the queue for a busy server, and the wait for a batch to form.

A server that batches whole requests may be idle and yet let a request wait, for company. That part of the wait is
batch formation; it is found afterwards, from when the replica's servers were idle, so that no engine keeps books of it.
"""

from __future__ import annotations

import numpy as np

from servesim.metrics.chunks import Columns
from servesim.metrics.definitions import Floats, queue_s
from servesim.metrics.pools import duration_s
from servesim.metrics.record import ReplicaRecord, RunRecord


class Waiting:
    """Tells queue from batch formation for the requests of one record."""

    def __init__(self, record: RunRecord) -> None:
        self._idle = {
            pool.first_replica + number: _IdleTime(replica)
            for pool in record.pools
            if pool.forms_batches
            for number, replica in enumerate(pool.replicas)
        }

    def of(self, requests: Columns) -> tuple[Floats, Floats]:
        """Return (queue, formation) seconds of requests, NaN where never scheduled.

        They are given as REQUEST_COLUMNS or with the columns of `logical_chunks`, of which the last attempt counts.
        """
        scheduled = requests["first_scheduled_s"]
        arrival = requests.get("attempt_arrival_s", requests["arrival_s"])
        waited = queue_s(arrival, requests["admission_s"], scheduled)
        formation = np.zeros(len(waited))
        if self._idle:
            queued = arrival + requests["admission_s"]
            replica = requests["replica"].astype(np.int64)
            for index, idle in self._idle.items():
                ours = replica == index
                found = idle.until(scheduled[ours]) - idle.until(queued[ours])
                # Differences of sums over the whole run: rounding may leave them just outside.
                formation[ours] = np.clip(found, 0.0, waited[ours])
        return waited - formation, formation


class _IdleTime:
    """How long at least one server of a replica had been idle, by the clock."""

    def __init__(self, replica: ReplicaRecord) -> None:
        columns = dict(zip(_NEEDED, replica.runs.column(*_NEEDED), strict=True))
        start = columns["start_s"]
        times = np.concatenate([start, start + duration_s(columns)])
        change = np.repeat([1, -1], len(start))
        # An end comes before a beginning at the same instant: no server is idle in between, nor busy twice.
        order = np.lexsort((change, times))
        self._times = np.concatenate([[0.0], times[order]])
        self._is_idle = np.concatenate([[0], np.cumsum(change[order])]) < replica.servers
        idle_s = np.diff(self._times) * self._is_idle[:-1]
        self._before_s = np.concatenate([[0.0], np.cumsum(idle_s)])

    def until(self, times_s: Floats) -> Floats:
        """Return the seconds before each of `times_s` in which a server was idle."""
        at = np.searchsorted(self._times, times_s, side="right") - 1
        idle_s: Floats = self._before_s[at] + (times_s - self._times[at]) * self._is_idle[at]
        return idle_s


_NEEDED = ("start_s", "first_s", "bend_s", "iterations")
