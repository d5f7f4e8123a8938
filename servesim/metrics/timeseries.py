"""What each pool did over time: a table of equal bins, computed from the records when it is asked for.

Counts and levels are exact: a level (waiting, running, sequences in the batch, KV usage) is its time-weighted mean
over the bin, and within a run of iterations KV usage moves on a straight line and tokens are spread evenly.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from servesim.errors import InputError
from servesim.metrics.chunks import Columns, named_chunks
from servesim.metrics.definitions import Floats
from servesim.metrics.pools import duration_s
from servesim.metrics.record import PoolRecord, ReplicaRecord, RunRecord
from servesim.request import COMPLETED

MAX_BINS = 1000
_MOST_BINS = 1_000_000

COLUMNS = (
    "time_s",
    "arrivals",
    "completions",
    "waiting",
    "running",
    "kv_usage",
    "batch_seqs",
    "utilisation",
    "output_tokens_per_s",
    "prefill_tokens_per_s",
)


def timeseries(record: RunRecord, interval_s: float | None = None) -> dict[str, NDArray[Any]]:
    """Return columns "pool" and COLUMNS, each of shape (pools * bins,), pool after pool.

    `time_s` is the beginning of the bin. `arrivals` and `completions` are counts; `waiting` counts requests not yet
    first scheduled, `running` those between that and their end, preempted ones included; `kv_usage` and `utilisation`
    are fractions of what all replicas have; `batch_seqs` sums the replicas' batches, idle time counting as 0.
    The default interval is the smallest of 1, 2 or 5 times a power of ten that gives at most MAX_BINS bins.
    Raises InputError for an interval that is not positive or gives more than a million bins.
    """
    edges = _edges(record.end_s, interval_s)
    tables = [_pool_table(record, pool, edges) for pool in record.pools]
    names = np.array([pool.name for pool in record.pools], dtype=object)
    return {
        "pool": np.repeat(names, len(edges) - 1),
        **{name: np.concatenate([table[name] for table in tables]) for name in COLUMNS},
    }


def _edges(end_s: float, interval_s: float | None) -> Floats:
    if interval_s is None:
        interval_s = _round_interval(end_s)
    if not interval_s > 0 or end_s / interval_s > _MOST_BINS:
        raise InputError(f"interval_s must be positive and give at most {_MOST_BINS} bins, not {interval_s!r}")
    bins = max(1, math.ceil(end_s / interval_s))
    edges = np.arange(bins + 1, dtype=np.float64) * interval_s
    edges[-1] = max(end_s, edges[-2])
    return edges


def _round_interval(end_s: float) -> float:
    if end_s <= 0:
        return 1.0
    least = end_s / MAX_BINS
    power = 10.0 ** math.floor(math.log10(least))
    return next(step * power for step in (1, 2, 5, 10, 20) if end_s <= MAX_BINS * (step * power))


def _pool_table(record: RunRecord, pool: PoolRecord, edges: Floats) -> dict[str, NDArray[Any]]:
    width = np.diff(edges)
    with np.errstate(divide="ignore"):
        per_s = np.where(width > 0, 1 / width, 0.0)
    requests, work = _Requests(record, pool, edges), _Work(pool, edges)
    replicas = len(pool.replicas)
    return {
        "time_s": edges[:-1],
        "arrivals": requests.arrivals,
        "completions": requests.completions,
        "waiting": (requests.arrived_s.integral() - requests.scheduled_s.integral()) * per_s,
        "running": (requests.scheduled_s.integral() - requests.left_s.integral()) * per_s,
        "kv_usage": work.kv_share_s * per_s / replicas,
        "batch_seqs": work.seqs_s * per_s,
        "utilisation": work.busy_s * per_s / sum(replica.servers for replica in pool.replicas),
        "output_tokens_per_s": (work.output_tokens + requests.answered_tokens) * per_s,
        "prefill_tokens_per_s": work.prefill_tokens * per_s,
    }


def _bins(times_s: Floats, edges: Floats) -> NDArray[np.int64]:
    """Return the bin of each time; what is after the last edge belongs to the last bin."""
    return np.clip(np.searchsorted(edges, times_s, side="right") - 1, 0, len(edges) - 2)


class _Steps:
    """A count that goes up by one at given times, integrated over each bin."""

    def __init__(self, edges: Floats) -> None:
        self._edges = edges
        self._within_s = np.zeros(len(edges) - 1)
        self._count = np.zeros(len(edges) - 1, dtype=np.int64)

    def add(self, times_s: Floats) -> None:
        bins = _bins(times_s, self._edges)
        self._count += np.bincount(bins, minlength=len(self._count))
        rest_s = np.maximum(self._edges[bins + 1] - times_s, 0.0)
        self._within_s += np.bincount(bins, rest_s, minlength=len(self._count))

    def integral(self) -> Floats:
        """Return the integral of the count over each bin, in seconds."""
        before = np.cumsum(self._count) - self._count
        return self._within_s + before * np.diff(self._edges)


class _Requests:
    """What the requests of one pool say, by bin."""

    def __init__(self, record: RunRecord, pool: PoolRecord, edges: Floats) -> None:
        self._edges = edges
        bins = len(edges) - 1
        self.arrivals, self.completions = (np.zeros(bins, dtype=np.int64) for _ in range(2))
        self.answered_tokens = np.zeros(bins)
        self._all_at_once = pool.request_level
        self.arrived_s, self.scheduled_s, self.left_s = _Steps(edges), _Steps(edges), _Steps(edges)
        ours = np.array([one.pool == pool.name for one in record.classes])
        for chunk in named_chunks(record.requests):
            mine = ours[chunk["class_index"].astype(np.int64)]
            self._add(chunk if mine.all() else {name: column[mine] for name, column in chunk.items()})

    def _add(self, chunk: Columns) -> None:
        finish = chunk["finish_s"]
        self.arrived_s.add(chunk["arrival_s"])
        self.scheduled_s.add(np.fmin(chunk["first_scheduled_s"], finish))
        self.left_s.add(finish)
        self.arrivals += self._count(chunk["arrival_s"])
        self.completions += self._count(finish[chunk["outcome"] == COMPLETED])
        first = chunk["first_token_s"]
        out = ~np.isnan(first)
        tokens = chunk["generated_tokens"][out] if self._all_at_once else None
        self.answered_tokens += np.bincount(_bins(first[out], self._edges), tokens, minlength=len(self._edges) - 1)

    def _count(self, times_s: Floats) -> NDArray[np.int64]:
        return np.bincount(_bins(times_s, self._edges), minlength=len(self._edges) - 1)


class _Work:
    """What the replicas' logs of one pool say, by bin: seconds times a level, or tokens."""

    def __init__(self, pool: PoolRecord, edges: Floats) -> None:
        self._edges = edges
        bins = len(edges) - 1
        self.busy_s, self.seqs_s, self.kv_share_s = np.zeros(bins), np.zeros(bins), np.zeros(bins)
        self.output_tokens, self.prefill_tokens = np.zeros(bins), np.zeros(bins)
        for replica in pool.replicas:
            for chunk in named_chunks(replica.runs):
                self._add(chunk, replica)
            for chunk in named_chunks(replica.segments):
                self.output_tokens += np.bincount(_bins(chunk["gap_end_s"], edges), minlength=bins)

    def _add(self, chunk: Columns, replica: ReplicaRecord) -> None:
        """Cut the runs at the edges; the runs of a replica follow each other, so the cuts are few."""
        bins = len(self._edges) - 1
        start, seconds = chunk["start_s"], duration_s(chunk)
        first, last = _bins(start, self._edges), _bins(start + seconds, self._edges)
        count = last - first + 1
        run = np.repeat(np.arange(len(count)), count)
        bin_ = first[run] + np.arange(len(run)) - np.repeat(np.cumsum(count) - count, count)
        low = np.maximum(start[run], self._edges[bin_])
        high = np.minimum((start + seconds)[run], self._edges[bin_ + 1])
        overlap = np.maximum(high - low, 0.0)
        whole = np.where(seconds > 0, seconds, 1.0)[run]
        share = np.where(seconds[run] > 0, overlap / whole, bin_ == last[run])
        blocks = chunk["used_blocks_first"][run]
        grown = (chunk["used_blocks_last"][run] - blocks) * ((0.5 * (low + high) - start[run]) / whole)

        def total(values: Floats) -> Floats:
            return np.bincount(bin_, values, minlength=bins).astype(np.float64, copy=False)

        self.busy_s += total(overlap)
        self.seqs_s += total(overlap * (chunk["decode_seqs"] + chunk["prefill_seqs"])[run])
        self.kv_share_s += total(overlap * (blocks + grown)) / replica.usable_blocks
        self.output_tokens += total(share * (chunk["decode_seqs"] * chunk["iterations"])[run])
        self.prefill_tokens += total(share * (chunk["prefill_tokens"] * chunk["iterations"])[run])
