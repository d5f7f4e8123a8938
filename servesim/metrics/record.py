"""What a run leaves behind, before anybody computes a metric from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from servesim.metrics.spool import Spool
from servesim.service_time.base import IterationTime

UNLIMITED_BLOCKS = 1 << 60
"""The number of KV blocks that stands for no limit."""


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


@dataclass(frozen=True, slots=True)
class ClassRecord:
    """One request class: its name, the pool it is served by, and what it asks for."""

    name: str
    pool: str
    slo: Slo = Slo()
    open_loop: bool = True


@dataclass(slots=True)
class ReplicaRecord:
    """One replica's log: `runs` has RUN_COLUMNS, `segments` SEGMENT_COLUMNS (see servesim.engine.settings)."""

    runs: Spool
    segments: Spool
    usable_blocks: int
    block_size: int
    max_num_seqs: int


@dataclass(slots=True)
class PoolRecord:
    """One pool: its replicas (numbered through the whole run by `first_replica`), what they cost, how they compute.

    `times` and `max_num_batched_tokens` say how long a request would compute if it were alone.
    """

    name: str
    first_replica: int
    replicas: list[ReplicaRecord]
    times: IterationTime
    max_num_batched_tokens: int
    gpus_per_replica: int = 1
    usd_per_gpu_hour: float | None = None


@dataclass(slots=True)
class RunRecord:
    """A finished run. `requests` has REQUEST_COLUMNS, in the order in which requests ended; times are absolute.

    `request_network_s` and `response_network_s` are what a client adds to the server's view: with
    `client_clock` they are part of TTFT and E2E, otherwise latencies are the server's.
    """

    scenario: str
    seed: int
    classes: list[ClassRecord]
    pools: list[PoolRecord]
    requests: Spool
    end_s: float
    last_arrival_s: float
    occupancy_s: float
    offered: list[int] = field(default_factory=list)
    client_clock: bool = False
    request_network_s: float = 0.0
    response_network_s: float = 0.0
    provenance: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
