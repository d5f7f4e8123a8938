"""What each pool did: busy time, batches, KV cache, tokens, cost, and whether its service times could be trusted."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from servesim.metrics.chunks import Columns, named_chunks
from servesim.metrics.definitions import Floats
from servesim.metrics.record import UNLIMITED_BLOCKS, PoolRecord, ReplicaRecord, RunRecord
from servesim.service_time.base import Validity

# The counts of a pool; of many replications, their totals are given.
POOL_COUNTS = ("preemptions", "prompt_tokens", "output_tokens")
_LIMITS = {
    "decode_seqs": "decoding sequences",
    "mean_context_tokens": "tokens of mean context",
    "prefill_tokens": "prefill tokens in one iteration",
    "batch_size": "requests in one batch",
}


def duration_s(chunk: Columns) -> Floats:
    """Return how long each run took: the boundary after its last iteration, from its start."""
    iterations = chunk["iterations"]
    return iterations * (chunk["first_s"] + chunk["bend_s"] * (iterations - 1))


class PoolLoad:
    """Sums over the logs of one pool's replicas.

    `busy_s` counts iterations, the device waiting for the host included. `outside_s` is the busy time in runs beyond a
    limit of the service time's range of validity, and `largest` the largest value seen, by the names in _LIMITS.
    """

    def __init__(self, pool: PoolRecord) -> None:
        self.busy_s = self.iterations = self.sequences = self.block_share_s = self.max_share = 0.0
        self.any_outside_s = 0.0
        self.outside_s = dict.fromkeys(_LIMITS, 0.0)
        self.largest = dict.fromkeys(_LIMITS, 0.0)
        self._limits = _limits(pool.validity)
        for replica in pool.replicas:
            for chunk in named_chunks(replica.runs):
                self._add(chunk, replica)

    def _add(self, chunk: Columns, replica: ReplicaRecord) -> None:
        seconds, iterations = duration_s(chunk), chunk["iterations"]
        first, last = chunk["used_blocks_first"], chunk["used_blocks_last"]
        self.busy_s += float(seconds.sum())
        self.iterations += float(iterations.sum())
        self.sequences += float((iterations * (chunk["decode_seqs"] + chunk["prefill_seqs"])).sum())
        self.block_share_s += float((seconds * (first + last)).sum()) / (2 * replica.usable_blocks)
        self.max_share = max(self.max_share, float(last.max()) / replica.usable_blocks)
        if self._limits:
            self._check_validity(chunk, seconds)

    def _check_validity(self, chunk: Columns, seconds: Floats) -> None:
        outside = np.zeros(len(seconds), dtype=np.bool_)
        for name, limit in self._limits.items():
            value = _value(chunk, name)
            beyond = value > limit
            self.largest[name] = max(self.largest[name], float(value.max()))
            self.outside_s[name] += float(seconds[beyond].sum())
            outside |= beyond
        self.any_outside_s += float(seconds[outside].sum())


def _value(chunk: Columns, name: str) -> Floats:
    """Return what one of _LIMITS is a limit of, for each run."""
    if name == "mean_context_tokens":
        return mean_context_tokens(chunk)
    return chunk["decode_seqs"] + chunk["prefill_seqs"] if name == "batch_size" else chunk[name]


def mean_context_tokens(chunk: Columns) -> Floats:
    """Return the context per decoding sequence, half-way through each run; 0 where nothing decodes."""
    seqs = chunk["decode_seqs"]
    context = chunk["context_tokens"] / np.maximum(seqs, 1) + 0.5 * (chunk["iterations"] - 1)
    return np.where(seqs > 0, context, 0.0)


def _limits(validity: Validity) -> dict[str, float]:
    limits = {name: float(getattr(validity, f"max_{name}")) for name in _LIMITS}
    return {name: limit for name, limit in limits.items() if not math.isinf(limit)}


def validity_warning(pool: PoolRecord, load: PoolLoad) -> str | None:
    """Say how much of the busy time the service times had to extrapolate; None if none of it."""
    if not load.any_outside_s:
        return None
    limits = _limits(pool.validity)
    details = ", ".join(
        f"up to {load.largest[name]:.6g} {_LIMITS[name]} (checked to {limits[name]:.6g})"
        for name in limits
        if load.outside_s[name]
    )
    return (
        f"pool {pool.name}: {100 * load.any_outside_s / load.busy_s:.3g} % of busy time is outside the range in which "
        f"service time {pool.origin.name} was checked: {details}"
    )


def pool_counts(record: RunRecord) -> dict[str, dict[str, float]]:
    """Return preemptions, prompt tokens and output tokens of each pool's requests, all outcomes.

    Prompt tokens are those of requests that were prefilled to the end, each counted once however often recomputed;
    output tokens are all that were generated.
    """
    classes = len(record.classes)
    names = ("preemptions", "prompt_tokens", "generated_tokens")
    sums = {name: np.zeros(classes) for name in names}
    for chunk in named_chunks(record.requests):
        which = chunk["class_index"].astype(np.int64)
        for name in names:
            values = chunk[name]
            if name == "prompt_tokens":
                values = np.where(chunk["first_row"] >= 0, values, 0.0)
            sums[name] += np.bincount(which, values, minlength=classes)
    pools = np.array([one.pool for one in record.classes])
    return {pool.name: {name: float(sums[name][pools == pool.name].sum()) for name in names} for pool in record.pools}


def pool_summary(record: RunRecord, pool: PoolRecord, load: PoolLoad, counts: dict[str, float]) -> dict[str, Any]:
    """Return one pool's entry of the summary."""
    replicas = len(pool.replicas)
    gpus = replicas * pool.gpus_per_replica
    available_s = sum(replica.servers for replica in pool.replicas) * record.end_s
    per_hour = None if pool.usd_per_gpu_hour is None else gpus * pool.usd_per_gpu_hour
    tokens = counts["generated_tokens"]
    per_million = math.nan if per_hour is None or not tokens else per_hour * record.end_s / 3600 / tokens * 1e6
    level: dict[str, Any] = {"batches_per_s": _ratio(load.iterations, record.end_s), "padding": _padding(pool)}
    return {
        "replicas": replicas,
        "gpus": gpus,
        "utilisation": _ratio(load.busy_s, available_s),
        "mean_batch_size": _ratio(load.sequences, load.iterations) if pool.batched else None,
        "kv_usage": _kv_usage(pool, load, replicas * record.end_s),
        **(level if pool.request_level and pool.batched else dict.fromkeys(level)),
        "preemptions": int(counts["preemptions"]),
        "prompt_tokens": int(counts["prompt_tokens"]),
        "output_tokens": int(tokens),
        "cost_usd_per_hour": per_hour,
        "cost_usd_per_million_output_tokens": per_million,
    }


def _kv_usage(pool: PoolRecord, load: PoolLoad, available_s: float) -> dict[str, float | None]:
    if any(replica.usable_blocks >= UNLIMITED_BLOCKS - 1 for replica in pool.replicas):
        return {"mean": None, "max": None}
    return {"mean": _ratio(load.block_share_s, available_s), "max": load.max_share}


def _padding(pool: PoolRecord) -> float:
    """Return padding / useful tokens of all batches; NaN where no batch is padded."""
    useful = sum(replica.useful_tokens for replica in pool.replicas)
    return _ratio(sum(replica.computed_tokens for replica in pool.replicas) - useful, useful)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan
