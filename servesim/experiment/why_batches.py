"""How pools that serve whole requests spent their time: by how many of their servers were busy."""

from __future__ import annotations

import numpy as np

from servesim.metrics.pools import duration_s
from servesim.metrics.record import PoolRecord, ReplicaRecord, RunRecord

SERVERS = "servers"
"""What queueing in such a pool waits for, and its replicas' state while every server is busy."""
SOME = "some_servers"


def time_by_servers(record: RunRecord, pool: PoolRecord) -> dict[str, float]:
    """Return the fractions of the replicas' time with no server busy, with some, and with all; they sum to 1."""
    some_s = all_s = 0.0
    for replica in pool.replicas:
        any_s, full_s = _busy_s(replica)
        some_s += any_s - full_s
        all_s += full_s
    available_s = len(pool.replicas) * record.end_s
    if available_s <= 0:
        return {"idle": 1.0, SOME: 0.0, SERVERS: 0.0}
    shares = {SOME: some_s / available_s, SERVERS: all_s / available_s}
    return {"idle": max(0.0, 1 - sum(shares.values())), **shares}


def _busy_s(replica: ReplicaRecord) -> tuple[float, float]:
    """Return the seconds in which any server of a replica was busy, and those in which all were."""
    names = ("start_s", "first_s", "bend_s", "iterations")
    columns = dict(zip(names, replica.runs.column(*names), strict=True))
    start = columns["start_s"]
    times = np.concatenate([start, start + duration_s(columns)])
    change = np.repeat([1, -1], len(start))
    order = np.lexsort((change, times))
    busy = np.cumsum(change[order])[:-1]
    seconds = np.diff(times[order])
    return float(seconds[busy > 0].sum()), float(seconds[busy >= replica.servers].sum())
