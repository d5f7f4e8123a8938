"""What a run's slowest requests waited for, and at which limit each pool's replicas spent their time.

A queued request waits because of what the running batch is at: its token budget, its number of sequences, or the free
KV blocks. The replicas' logs say which it was at any moment, so a wait is split by integrating the states it overlaps.
The last iteration or two before a request is scheduled are nobody's limit: it arrived while they were under way.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from servesim.engine.spec import ContinuousBatching
from servesim.metrics.chunks import Columns, named_chunks
from servesim.metrics.definitions import Floats, e2e_s, ttft_s
from servesim.metrics.latencies import completed_chunks
from servesim.metrics.pools import duration_s
from servesim.metrics.record import PoolRecord, ReplicaRecord, RunRecord
from servesim.metrics.split import network_s

# A state of a replica at any moment is one of these, the first that holds; what is left is "compute".
BATCH_LIMITS = ("max_num_batched_tokens", "max_num_seqs", "num_gpu_blocks")
STATES = (*BATCH_LIMITS, "host", "compute")
ITERATION = "iteration_under_way"
_SAME_TIME_S = 1e-9
_HOST_BOUND = 1 + 1e-9
_ROUNDING = 1e-9  # of a boundary, in iterations


@dataclass(frozen=True, slots=True)
class Limits:
    """What one pool's engines are limited by; blocks and tokens per replica."""

    tokens: int
    seqs: int
    blocks: int
    block_size: int
    reserved_blocks: int
    chunked: bool
    ahead: bool
    host_s: float
    host_per_seq_s: float


def limits_of(pool: PoolRecord, engine: ContinuousBatching) -> Limits:
    """Return the limits of a pool from its record and its resolved engine."""
    one = pool.replicas[0]
    return Limits(
        tokens=(engine.max_num_batched_tokens or 1) * engine.data_parallel_size,
        seqs=int(one.max_num_seqs),
        blocks=one.usable_blocks,
        block_size=one.block_size,
        reserved_blocks=int(engine.watermark * (one.usable_blocks + 1)),
        chunked=bool(engine.enable_chunked_prefill),
        ahead=engine.async_scheduling,
        host_s=engine.host_time_s or 0.0,
        host_per_seq_s=engine.host_time_per_seq_s,
    )


def time_at_limits(
    record: RunRecord, pool: PoolRecord, limits: Limits, ended_s: list[Floats], mean_prompt_tokens: float
) -> dict[str, float]:
    """Return the fractions of the replicas' time spent idle and in each state; they sum to 1.

    Short of KV blocks means: too few free ones for a prompt of mean length. With synchronous scheduling the host's
    part of every iteration counts as host, whatever the state.
    """
    seconds = dict.fromkeys(STATES, 0.0)
    for replica, ended in zip(pool.replicas, ended_s, strict=True):
        for chunk in named_chunks(replica.runs):
            lasts = duration_s(chunk)
            host = np.zeros(len(lasts)) if limits.ahead else np.minimum(_host_s(chunk, limits), chunk["first_s"])
            host_share = np.divide(host, chunk["first_s"], out=np.zeros(len(host)), where=chunk["first_s"] > 0)
            state = _states(chunk, _held_seqs(chunk, limits, ended), limits, mean_prompt_tokens)
            spent = np.bincount(state, lasts * (1 - host_share), minlength=len(STATES))
            for name, value in zip(STATES, spent.tolist(), strict=True):
                seconds[name] += value
            seconds["host"] += float((lasts * host_share).sum())
    available_s = len(pool.replicas) * record.end_s
    if available_s <= 0:
        return {"idle": 1.0, **seconds}
    shares = {name: value / available_s for name, value in seconds.items()}
    return {"idle": max(0.0, 1 - sum(shares.values())), **shares}


def _host_s(chunk: Columns, limits: Limits) -> Floats:
    return limits.host_s + limits.host_per_seq_s * (chunk["decode_seqs"] + chunk["prefill_seqs"])


def last_tokens_s(record: RunRecord, pool: PoolRecord) -> list[Floats]:
    """Return, for each replica of a pool, when its requests completed, sorted."""
    times, replicas = [np.empty(0)], [np.empty(0, np.int32)]
    for done in completed_chunks(record):
        times.append(done["finish_s"].copy())
        replicas.append((done["replica"] - pool.first_replica).astype(np.int32))
    finish_s, replica = np.concatenate(times), np.concatenate(replicas)
    order = np.lexsort((finish_s, replica))
    edges = np.searchsorted(replica[order], np.arange(len(pool.replicas) + 1))
    return [finish_s[order[start:end]] for start, end in pairwise(edges.tolist())]


def _held_seqs(chunk: Columns, limits: Limits, ended_s: Floats) -> Floats:
    """Return how many places of the batch were held when each run was decided.

    One iteration ahead, a batch is decided while the one before it runs, whose last tokens are still to come: a
    sequence that ends there holds its place.
    """
    seqs = chunk["decode_seqs"] + chunk["prefill_seqs"]
    if not limits.ahead:
        return seqs
    start_s = chunk["start_s"]
    after = np.searchsorted(ended_s, start_s + _SAME_TIME_S, side="right")
    return seqs + (after - np.searchsorted(ended_s, start_s - _SAME_TIME_S, side="left"))


def _states(chunk: Columns, held_seqs: Floats, limits: Limits, sequence_tokens: float) -> NDArray[np.int64]:
    """Return the index in STATES of every run; short of blocks means that so many tokens do not fit."""
    needed = -(-sequence_tokens // limits.block_size) + limits.reserved_blocks
    tokens = chunk["decode_seqs"] + chunk["prefill_tokens"] >= limits.tokens
    seqs = held_seqs >= limits.seqs
    blocks = chunk["used_blocks_first"] + needed > limits.blocks
    host_s = _host_s(chunk, limits)
    host = limits.ahead & (host_s > 0) & (chunk["first_s"] <= host_s * _HOST_BOUND)
    state: NDArray[np.int64] = np.select([tokens, seqs, blocks, host], [0, 1, 2, 3], len(STATES) - 1)
    return state


@dataclass(frozen=True, slots=True)
class Waits:
    """Requests that waited on the replicas of one pool: when they entered the queue, were scheduled, and where."""

    replica: NDArray[np.int64]
    queued_s: Floats
    scheduled_s: Floats


def slowest(record: RunRecord, kind: str, least_s: float) -> dict[str, Waits]:
    """Return, by pool, the completed requests whose `kind` ("ttft_s" or "e2e_s") is at least `least_s`."""
    network, latency = network_s(record), ttft_s if kind == "ttft_s" else e2e_s
    end = "first_token_s" if kind == "ttft_s" else "finish_s"
    parts = []
    for done in completed_chunks(record):
        slow = latency(done["arrival_s"], done[end], network) >= least_s
        queued = (done["attempt_arrival_s"] + done["admission_s"])[slow]
        parts.append(np.stack([done["replica"][slow], queued, done["first_scheduled_s"][slow]]))
    replica, queued_s, scheduled_s = np.concatenate(parts, axis=1) if parts else np.empty((3, 0))
    found = {}
    for pool in record.pools:
        ours = (replica >= pool.first_replica) & (replica < pool.first_replica + len(pool.replicas))
        where = replica[ours].astype(np.int64) - pool.first_replica
        found[pool.name] = Waits(where, queued_s[ours], scheduled_s[ours])
    return found


def waited_for(
    pool: PoolRecord, limits: Limits, ended_s: list[Floats], waits: Waits, longest_tokens: float
) -> dict[str, float]:
    """Return the summed seconds of these waits by BATCH_LIMITS and ITERATION; they sum to the waits.

    The token budget and the number of sequences show in the batch itself. Short of blocks means that a sequence of
    `longest_tokens` does not fit: a preempted one comes back with all it has. Where prompts are not chunked, what is
    left is put down to the budget, which a prompt must fit as a whole.
    """
    total = dict.fromkeys((*BATCH_LIMITS, ITERATION), 0.0)
    for index in np.unique(waits.replica).tolist():
        ours = waits.replica == index
        one = Waits(waits.replica[ours], waits.queued_s[ours], waits.scheduled_s[ours])
        found = _on_replica(pool.replicas[index], limits, ended_s[index], one, longest_tokens)
        for name, seconds in found.items():
            total[name] += seconds
    return total


def _on_replica(
    replica: ReplicaRecord, limits: Limits, ended_s: Floats, waits: Waits, longest_tokens: float
) -> dict[str, float]:
    queued_s, scheduled_s = waits.queued_s, waits.scheduled_s
    start_s, first_s, bend_s = replica.runs.column("start_s", "first_s", "bend_s")
    lasts_parts, state_parts = [], []
    for chunk in named_chunks(replica.runs):  # never the whole log at once
        lasts_parts.append(duration_s(chunk))
        state_parts.append(_states(chunk, _held_seqs(chunk, limits, ended_s), limits, longest_tokens).astype(np.int8))
    lasts_s, state = np.concatenate(lasts_parts), np.concatenate(state_parts)
    looked_at_s = queued_s
    for _ in range(1 + limits.ahead):  # one iteration ahead, the next batch is decided already
        looked_at_s = _iteration_end_s(looked_at_s, start_s, lasts_s, first_s, bend_s)
    looked_at_s = np.minimum(looked_at_s, scheduled_s)
    edges_s = np.stack([start_s, start_s + lasts_s], axis=1).ravel()
    seconds = {}
    for index, name in enumerate(BATCH_LIMITS):
        spent = np.stack([np.zeros(len(lasts_s)), np.where(state == index, lasts_s, 0.0)], axis=1).ravel()
        upto = np.cumsum(spent)
        waited = np.interp(scheduled_s, edges_s, upto) - np.interp(looked_at_s, edges_s, upto)
        seconds[name] = float(waited.sum())
    rest_s = float((scheduled_s - queued_s).sum()) - sum(seconds.values())
    if not limits.chunked:
        under_way_s = float((looked_at_s - queued_s).sum())
        seconds["max_num_batched_tokens"] += max(0.0, rest_s - under_way_s)
        rest_s = min(rest_s, under_way_s)
    return {**seconds, ITERATION: rest_s}


def _iteration_end_s(time_s: Floats, start_s: Floats, lasts_s: Floats, first_s: Floats, bend_s: Floats) -> Floats:
    """Return when the iteration under way at each time ends; the time itself where the replica is idle.

    The j-th boundary of a run lies at start + j * (first + bend * (j - 1)) (see servesim.engine.timing), solved for j.
    """
    row = np.maximum(np.searchsorted(start_s, time_s, side="right") - 1, 0)
    elapsed_s = time_s - start_s[row]
    busy = (elapsed_s >= 0) & (elapsed_s < lasts_s[row])
    linear, bend = first_s[row] - bend_s[row], bend_s[row]
    root = linear + np.sqrt(linear * linear + 4 * bend * np.maximum(elapsed_s, 0.0))
    done = np.divide(2 * elapsed_s, root, out=np.zeros(len(root)), where=root > 0)
    j = np.floor(done + _ROUNDING) + 1
    return np.where(busy, start_s[row] + np.minimum(j * (linear + bend * j), lasts_s[row]), time_s)
