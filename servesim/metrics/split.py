"""Where a request's time went: TTFT and E2E as exact sums of their parts.

    network_s       to the server and back, where latencies are the client's
    retry_s         before the attempt that completed arrived: earlier attempts and the waits after them
    admission_s     before the scheduler's queue: tokenisation, front end
    queue_s         in the queue until first scheduled, while every server was busy
    formation_s     in the queue while a server was idle: waiting for a batch to form
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

from servesim.metrics.chunks import Columns
from servesim.metrics.definitions import Floats, e2e_s, ttft_s
from servesim.metrics.record import Own, RunRecord
from servesim.metrics.waiting import Waiting

PARTS = (
    "network_s",
    "retry_s",
    "admission_s",
    "queue_s",
    "formation_s",
    "own_compute_s",
    "preemption_s",
    "host_s",
    "interference_s",
)


@dataclass(frozen=True, slots=True)
class Split:
    """Parts of TTFT and of E2E by name, each of shape (n,), for n completed requests; they sum to the latency."""

    ttft_s: dict[str, Floats]
    e2e_s: dict[str, Floats]


class Splitter:
    """Splits requests of a record; holds what every pool's requests would compute alone."""

    def __init__(self, record: RunRecord) -> None:
        self._network_s = network_s(record)
        self._waiting = Waiting(record)
        self._own_in = [pool.own_compute(pool) for pool in record.pools]
        names = [pool.name for pool in record.pools]
        self._pool_of_class = np.array([names.index(one.pool) for one in record.classes], dtype=np.int64)

    def split(self, done: Columns) -> Split:
        """Split completed requests, given as REQUEST_COLUMNS or with the columns of `logical_chunks`."""
        arrival = done["arrival_s"]
        last_arrival = done.get("attempt_arrival_s", arrival)
        ttft = ttft_s(arrival, done["first_token_s"], self._network_s)
        e2e = e2e_s(arrival, done["finish_s"], self._network_s)
        own = self._own(done)
        queue, formation = self._waiting.of(done)
        prefill, decode = own.prefill_s, own.decode_s
        waits = {
            "network_s": np.full(len(arrival), self._network_s),
            "retry_s": last_arrival - arrival,
            "admission_s": done["admission_s"],
            "queue_s": queue,
            "formation_s": formation,
        }
        early = done["preempted_ttft_s"]
        if early.any():
            left = ttft - sum(waits.values()) - early - done["host_ttft_s"]
            prefill = np.where(early > 0, np.minimum(prefill, np.maximum(left, 0.0)), prefill)
        return Split(
            _with_rest(ttft, waits, prefill, early, done["host_ttft_s"]),
            _with_rest(e2e, waits, prefill + decode, done["preempted_s"], done["host_s"]),
        )

    def _own(self, done: Columns) -> Own:
        """Return what was each request's own, asking the pool that served it."""
        if len(self._own_in) == 1:
            return self._own_in[0](done)
        count = len(done["class_index"])
        own = Own(np.empty(count), np.empty(count))
        pool_of = self._pool_of_class[done["class_index"].astype(np.int64)]
        for pool, own_in in enumerate(self._own_in):
            ours = pool_of == pool
            if ours.any():
                found = own_in({name: column[ours] for name, column in done.items()})
                for whole, part in zip(own, found, strict=True):
                    whole[ours] = part
        return own


def network_s(record: RunRecord) -> float:
    """Return what the network adds to every TTFT and E2E of this run."""
    return record.request_network_s + record.response_network_s if record.client_clock else 0.0


def _with_rest(
    latency: Floats, waits: dict[str, Floats], own: Floats, preempted: Floats, host: Floats
) -> dict[str, Floats]:
    parts = {**waits, "own_compute_s": own, "preemption_s": preempted, "host_s": host}
    return {**parts, "interference_s": latency - sum(parts.values())}
