"""Where a request's time went: TTFT and E2E as exact sums of their parts.

    network_s       to the server and back, where latencies are the client's
    admission_s     before the scheduler's queue: tokenisation, front end
    queue_s         in the queue until first scheduled
    own_compute_s   device time the request would need alone: its prefill in chunks of the whole token budget, then
                    every decode step as a batch of one
    preemption_s    from losing its KV cache to having its next token, recomputation included
    host_s          the device waiting for the host during the request's iterations
    interference_s  the rest: what the others in the batch cost it, smaller prefill chunks included

Own compute leaves out the tokens that a recomputation emits, whose time is part of the preemption. A request that was
preempted before its first token prefilled within the preemption; its own compute is what time is left, at most.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from servesim.metrics.alone import Alone, Ints
from servesim.metrics.chunks import Columns, named_chunks
from servesim.metrics.definitions import Floats, e2e_s, queue_s, ttft_s
from servesim.metrics.record import PoolRecord, RunRecord

PARTS = ("network_s", "admission_s", "queue_s", "own_compute_s", "preemption_s", "host_s", "interference_s")


@dataclass(frozen=True, slots=True)
class Split:
    """Parts of TTFT and of E2E by name, each of shape (n,), for n completed requests; they sum to the latency."""

    ttft_s: dict[str, Floats]
    e2e_s: dict[str, Floats]


class Splitter:
    """Splits requests of a record; holds what every pool's requests would compute alone."""

    def __init__(self, record: RunRecord) -> None:
        self._network_s = network_s(record)
        self._alone = [Alone(pool.times, pool.max_num_batched_tokens) for pool in record.pools]
        self._recomputed = [_Recomputed(pool) for pool in record.pools]
        names = [pool.name for pool in record.pools]
        self._pool_of_class = np.array([names.index(one.pool) for one in record.classes], dtype=np.int64)

    def split(self, done: Columns) -> Split:
        """Split completed requests, given as REQUEST_COLUMNS."""
        arrival = done["arrival_s"]
        ttft = ttft_s(arrival, done["first_token_s"], self._network_s)
        e2e = e2e_s(arrival, done["finish_s"], self._network_s)
        prefill, decode = self._own_compute(done)
        waits = {
            "network_s": np.full(len(arrival), self._network_s),
            "admission_s": done["admission_s"],
            "queue_s": queue_s(arrival, done["admission_s"], done["first_scheduled_s"]),
        }
        early = done["preempted_ttft_s"]
        if early.any():
            left = ttft - sum(waits.values()) - early - done["host_ttft_s"]
            prefill = np.where(early > 0, np.minimum(prefill, np.maximum(left, 0.0)), prefill)
        return Split(
            _with_rest(ttft, waits, prefill, early, done["host_ttft_s"]),
            _with_rest(e2e, waits, prefill + decode, done["preempted_s"], done["host_s"]),
        )

    def _own_compute(self, done: Columns) -> tuple[Floats, Floats]:
        """Return the device seconds alone of (prefill, decoding) of each request."""
        prompt = done["prompt_tokens"].astype(np.int64)
        steps = done["output_tokens"].astype(np.int64) - 1
        if len(self._alone) == 1:
            return self._in_pool(0, done, prompt, steps)
        prefill, decode = np.empty(len(prompt)), np.empty(len(prompt))
        pool_of = self._pool_of_class[done["class_index"].astype(np.int64)]
        for pool in range(len(self._alone)):
            ours = pool_of == pool
            part = {name: done[name][ours] for name in ("request_id", "preemptions")}
            prefill[ours], decode[ours] = self._in_pool(pool, part, prompt[ours], steps[ours])
        return prefill, decode

    def _in_pool(self, pool: int, done: Columns, prompt: Ints, steps: Ints) -> tuple[Floats, Floats]:
        alone, recomputed = self._alone[pool], self._recomputed[pool]
        decode = alone.decode_s(prompt, steps)
        preempted = np.flatnonzero(done["preemptions"])
        if len(preempted):
            ids = done["request_id"][preempted]
            decode[preempted] -= recomputed.decode_s(alone, ids, prompt[preempted])
        return alone.prefill_s(prompt), decode


class _Recomputed:
    """Which decode steps of preempted requests never ran, because the recomputation emitted their token."""

    def __init__(self, pool: PoolRecord) -> None:
        ids, generated = [np.empty(0)], [np.empty(0)]
        for replica in pool.replicas:
            if len(replica.segments):
                upto = np.concatenate([[0], np.cumsum(replica.runs.column("iterations")[0])])
                for chunk in named_chunks(replica.segments):
                    rows = [chunk[name].astype(np.int64) for name in ("first_row", "last_row")]
                    ids.append(chunk["request_id"].copy())
                    generated.append(upto[rows[1]] - upto[rows[0]] + 1)
        # A request stays on its replica, whose segments are in order of time.
        request_id, tokens = np.concatenate(ids), np.concatenate(generated)
        order = np.argsort(request_id, kind="stable")
        self._request_id = request_id[order]
        total = np.cumsum(tokens[order])
        start = np.searchsorted(self._request_id, self._request_id, side="left")
        self._generated = (total - (total - tokens[order])[start]).astype(np.int64)

    def decode_s(self, alone: Alone, request_id: Floats, prompt_tokens: Ints) -> Floats:
        """Return the device seconds alone of the steps that never ran, summed for each of these requests."""
        first = np.searchsorted(self._request_id, request_id, side="left")
        count = np.searchsorted(self._request_id, request_id, side="right") - first
        owner = np.repeat(np.arange(len(first)), count)
        index = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count) + np.repeat(first, count)
        context = prompt_tokens[owner] + self._generated[index] - 1
        seconds = alone.decode_s(context, np.ones(len(context), dtype=np.int64))
        return np.bincount(owner, seconds, minlength=len(first)).astype(np.float64, copy=False)


def network_s(record: RunRecord) -> float:
    """Return what the network adds to every TTFT and E2E of this run."""
    return record.request_network_s + record.response_network_s if record.client_clock else 0.0


def _with_rest(
    latency: Floats, waits: dict[str, Floats], own: Floats, preempted: Floats, host: Floats
) -> dict[str, Floats]:
    parts = {**waits, "own_compute_s": own, "preemption_s": preempted, "host_s": host}
    return {**parts, "interference_s": latency - sum(parts.values())}
