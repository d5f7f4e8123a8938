"""Inter-token latency: every gap between consecutive tokens, pooled, without a record per token.

An iteration of a batch with B decoding sequences is B token gaps as long as the iteration. How many of them belong to
one class follows from the decode intervals its requests keep on their replica's log: +1 at the first row, -1 after
the last, summed up. A preemption adds one long gap. Gaps count for every token a server produced, also for requests
that were later timed out or cancelled.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from servesim.metrics.chunks import Columns, named_chunks
from servesim.metrics.definitions import Floats
from servesim.metrics.progressions import Progressions, Source, describe
from servesim.metrics.record import PoolRecord, RunRecord


def itl_s(record: RunRecord, class_index: int | None = None) -> dict[str, float]:
    """Return mean and percentiles, in seconds, of the token gaps of one class, or of all; NaN where there are none."""
    return describe(gaps(record, class_index))


def gaps(record: RunRecord, class_index: int | None) -> Source:
    """Return a re-iterable source of the token gaps of one class, or of all classes."""
    pools = [pool for pool in record.pools if class_index is None or record.classes[class_index].pool == pool.name]
    weights: dict[str, NDArray[np.int64] | None] = {}
    for pool in pools:
        alone = class_index is None or [one.pool for one in record.classes].count(pool.name) == 1
        alone &= not record.partial
        weights[pool.name] = None if alone else decoding_by_row(record, pool, class_index)

    def source() -> Iterator[Progressions]:
        for pool in pools:
            yield from _iterations(pool, weights[pool.name])
            yield from _preemption_gaps(pool, class_index)

    return source


def first_rows(pool: PoolRecord) -> NDArray[np.int64]:
    """Return where each replica's rows begin when the logs of a pool are laid end to end; the last entry is the end."""
    return np.cumsum([0, *(len(replica.runs) for replica in pool.replicas)])


def decoding_by_row(record: RunRecord, pool: PoolRecord, class_index: int | None = None) -> NDArray[np.int64]:
    """Return how many requests of a class (or of all) decode in each row of the pool's logs, laid end to end."""
    offsets = first_rows(pool)
    chunks = [_intervals(pool, offsets, chunk, class_index) for chunk in named_chunks(record.requests)]
    for replica in pool.replicas:
        chunks += [_intervals(pool, offsets, chunk, class_index) for chunk in named_chunks(replica.segments)]
    rows = int(offsets[-1])
    change = np.zeros(rows + 1, dtype=np.int64)
    if chunks:
        change += np.bincount(np.concatenate([start for start, _ in chunks]), minlength=rows + 1)
        change -= np.bincount(np.concatenate([end for _, end in chunks]), minlength=rows + 1)
    return np.cumsum(change[:-1], out=change[:-1])


def _intervals(
    pool: PoolRecord, offsets: NDArray[np.int64], chunk: Columns, class_index: int | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (first rows, rows after the last) of the decode intervals in a chunk of requests or segments."""
    replica = chunk["replica"] - pool.first_replica
    ours = (chunk["last_row"] > chunk["first_row"]) & (replica >= 0) & (replica < len(pool.replicas))
    if class_index is not None:
        ours &= chunk["class_index"] == class_index
    offset = offsets[replica[ours].astype(np.int64)]
    return offset + chunk["first_row"][ours].astype(np.int64), offset + chunk["last_row"][ours].astype(np.int64)


def _iterations(pool: PoolRecord, weights: NDArray[np.int64] | None) -> Iterator[Progressions]:
    row = 0
    for replica in pool.replicas:
        for chunk in named_chunks(replica.runs):
            rows = len(chunk["decode_seqs"])
            weight = chunk["decode_seqs"] if weights is None else weights[row : row + rows].astype(np.float64)
            row += rows
            busy = weight > 0
            yield Progressions(
                chunk["first_s"][busy], 2 * chunk["bend_s"][busy], chunk["iterations"][busy], weight[busy]
            )


def _preemption_gaps(pool: PoolRecord, class_index: int | None) -> Iterator[Progressions]:
    for replica in pool.replicas:
        for chunk in named_chunks(replica.segments):
            gap: Floats = chunk["gap_end_s"] - chunk["gap_start_s"]
            if class_index is not None:
                gap = gap[chunk["class_index"] == class_index]
            yield Progressions(gap, np.zeros(len(gap)), np.ones(len(gap)), np.ones(len(gap)))
