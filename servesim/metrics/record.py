"""What a run leaves behind, before anybody computes a metric from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from servesim.metrics.spool import Spool
from servesim.service_time.base import Origin, Validity

UNLIMITED_BLOCKS = 1 << 60
"""The number of KV blocks that stands for no limit."""

RETRY_COLUMNS = ("first_request_id", "request_id")
"""A later attempt of a request, and the attempt that the request began with."""


@dataclass(frozen=True, slots=True)
class Slo:
    """What a request must meet to count as good, in seconds; None where nothing is asked.

    `attainment` is the fraction of offered requests that should meet all of them. `itl_s` is a target for the class's
    pooled inter-token latency and no part of goodput.
    """

    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None
    itl_s: float | None = None
    attainment: float | None = None
    queue_s: float | None = None


@dataclass(frozen=True, slots=True)
class ClassRecord:
    """One request class: its name, the pool it is served by, and what it asks for."""

    name: str
    pool: str
    slo: Slo = Slo()
    open_loop: bool = True


# Rows of a replica's log: one per run of iterations with an unchanged batch (see servesim.engine.timing). A
# request-level server logs one row per batch, all of it prefill; rows of parallel servers overlap.
RUN_COLUMNS = (
    "start_s",
    "decode_seqs",
    "context_tokens",
    "prefill_seqs",
    "prefill_tokens",
    "first_s",
    "bend_s",
    "used_blocks_first",
    "iterations",
    "used_blocks_last",
)

# Decode intervals that ended in a preemption, and the gap until the next token of the same request.
SEGMENT_COLUMNS = ("request_id", "class_index", "replica", "first_row", "last_row", "gap_start_s", "gap_end_s")


@dataclass(slots=True)
class ReplicaRecord:
    """One replica's log: `runs` has RUN_COLUMNS, `segments` SEGMENT_COLUMNS.

    `max_num_seqs` is the most requests in one batch, `servers` the number of batches that can run at once (inf: any).
    `works` has columns request_id and work_s where that cannot be told from a request's times. `computed_tokens` counts
    what batches computed, padding included, `useful_tokens` without; both 0 where nothing is ever padded.
    """

    runs: Spool
    segments: Spool
    usable_blocks: int = UNLIMITED_BLOCKS
    block_size: int = 16
    max_num_seqs: float = 1
    servers: float = 1
    works: Spool | None = None
    computed_tokens: int = 0
    useful_tokens: int = 0


class Own(NamedTuple):
    """Seconds that completed requests would have computed alone, up to and after the first token; shape (n,) each."""

    prefill_s: NDArray[np.float64]
    decode_s: NDArray[np.float64]


OwnCompute = Callable[[dict[str, NDArray[np.float64]]], Own]
"""From completed requests of one pool, as REQUEST_COLUMNS of shape (n,), to what was their own."""


@dataclass(slots=True)
class PoolRecord:
    """One pool: its replicas (numbered through the whole run by `first_replica`), what they cost, how they compute.

    `request_level` servers give all tokens of a request at its end; those that `forms_batches` may let requests wait
    though a server is idle. The log of servers that are not `batched` has one row per stay of a request.
    """

    name: str
    first_replica: int
    replicas: list[ReplicaRecord]
    own_compute: Callable[[PoolRecord], OwnCompute]
    origin: Origin
    validity: Validity = field(default_factory=Validity)
    request_level: bool = False
    forms_batches: bool = False
    batched: bool = True
    gpus_per_replica: int = 1
    usd_per_gpu_hour: float | None = None


@dataclass(frozen=True, slots=True)
class WarmupRule:
    """How a warm-up is left out: `method` is "none" (with the reason), "auto", "mser5", "requests" or "time_s".

    `value` is the number of requests, or the time in seconds, where the method wants one.
    """

    method: str = "none"
    value: float = 0.0
    reason: str = ""


@dataclass(slots=True)
class RunRecord:
    """A finished run. `requests` has REQUEST_COLUMNS, in the order in which requests ended; times are absolute.

    A row of `requests` is one attempt. Where clients try again, `retries` has a row (RETRY_COLUMNS) for each attempt
    after the first; `offered` counts what the clients wanted, by class, and so the first attempts only.
    `session_turns` has request_id, session_id and turn of the requests that are part of a session, in order of
    request_id; None where no class has sessions.

    `request_network_s` and `response_network_s` are what a client adds to the server's view: with
    `client_clock` they are part of TTFT and E2E, otherwise latencies are the server's. A `partial`
    record leaves out requests of the warm-up, which ended at `start_s` (see servesim.metrics.warmup).
    """

    scenario: str
    seed: int
    classes: list[ClassRecord]
    pools: list[PoolRecord]
    requests: Spool
    end_s: float
    last_arrival_s: float
    occupancy_s: float
    session_turns: Spool | None = None
    offered: list[int] = field(default_factory=list)
    warmup: WarmupRule = WarmupRule()
    start_s: float = 0.0
    partial: bool = False
    client_clock: bool = False
    request_network_s: float = 0.0
    response_network_s: float = 0.0
    provenance: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    retries: Spool = field(default_factory=lambda: Spool(RETRY_COLUMNS))

    def answered_at_once(self) -> NDArray[np.bool_]:
        """Say for each class, shape (classes,), whether its pool gives all tokens of a request at its end."""
        whole = {pool.name for pool in self.pools if pool.request_level}
        return np.array([one.pool in whole for one in self.classes], dtype=np.bool_)
