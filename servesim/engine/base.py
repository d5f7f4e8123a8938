"""What every engine kind offers: a specification that a scenario names, a plan made from it, and replicas.

EngineSpec   the `engine:` part of a pool, as written
Plan         the same with every default filled in and every name looked up; knows how to build replicas
Replica      one replica at run time, which serves requests
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol, TypeVar

import numpy as np

from servesim.catalog import Gpu, Model
from servesim.errors import InputError, Problem
from servesim.metrics.record import OwnCompute, PoolRecord, ReplicaRecord
from servesim.metrics.spool import Spool
from servesim.registry import KindSpec, kinds
from servesim.request import Request
from servesim.service_time.base import Origin, ServiceTimeSpec, Validity
from servesim.system.clock import Clock

S = TypeVar("S", bound=ServiceTimeSpec)


@dataclass(frozen=True, slots=True)
class Site:
    """What surrounds an engine: its pool's name (for messages), hardware, model, service time, and who is served."""

    pool: str
    gpu: Gpu | None
    model: Model | None
    backend: str
    service_time: ServiceTimeSpec
    classes: tuple[str, ...]

    def times(self, *wanted: type[S]) -> S:
        """Return the pool's service time if it is one of these; else raise InputError with the kinds that are."""
        if isinstance(self.service_time, wanted):
            return self.service_time
        fitting = ", ".join(name for name, cls in kinds("service_time").items() if issubclass(cls, wanted))
        message = f"this engine cannot use service time {self.service_time.kind!r}; it takes: {fitting}"
        raise InputError(Problem(message, f"pools.{self.pool}.service_time.kind"))


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a running replica touches: the clock, who keeps finished requests, and the pool's random streams.

    `stream(purpose, ...)` returns the pool's generator of that name. `class_names` are all classes of the scenario, by
    index; `deadlines_s` says how long after its arrival each one's SLO wants a whole answer that comes at once (inf: it
    does not say).
    """

    clock: Clock
    record: Callable[[Request], None]
    stream: Callable[..., np.random.Generator]
    class_names: tuple[str, ...]
    deadlines_s: tuple[float, ...] = ()


class Replica(Protocol):
    """One replica of a pool at run time. `outstanding` counts requests it holds; `index` counts through all pools."""

    index: int

    @property
    def outstanding(self) -> int:
        """Requests submitted and not yet released."""

    def submit(self, request: Request, computed_tokens: int = 0) -> None:
        """Accept a request now; its `done` is called when it completes or is rejected."""

    def cancel(self, request: Request, outcome: int) -> None:
        """End a request with `outcome`: its client is gone."""

    def spools(self) -> list[Spool]:
        """Return the logs that grow as the replica works."""

    def log(self) -> ReplicaRecord:
        """Return what the replica did."""


class HostTime(NamedTuple):
    """What a pool's service times say of the host: how it is known, and seconds per iteration."""

    how: str
    seconds: float


class Plan(ABC):
    """An engine with nothing left to look up.

    `engine` is the specification with the found values written in; `request_level`, `forms_batches` and `batched` are
    explained at PoolRecord. `builder` is asked once per run, what it returns once per replica; the replicas of a pool
    may share state through it.
    """

    engine: EngineSpec
    origin: Origin
    semantics: str
    request_level: bool = False
    forms_batches: bool = False
    batched: bool = True
    gpus_per_replica: int = 1
    validity: Validity = Validity()
    warnings: tuple[str, ...] = ()

    @property
    def host_time(self) -> HostTime:
        """How the host's time is known: "included" in the service times, if the engine has nothing to say of it."""
        return HostTime("included", 0.0)

    @abstractmethod
    def builder(self, around: Surroundings, reference: bool) -> Callable[[int], Replica]:
        """Return a function from a replica's index to the replica; `reference` asks for the slow definition."""

    @abstractmethod
    def own_compute(self, pool: PoolRecord) -> OwnCompute:
        """Return what requests of a finished run would have computed alone."""


class EngineSpec(KindSpec):
    """How a replica of a pool batches and schedules. `theory` kinds are for checking against queueing theory."""

    theory: ClassVar[bool] = False

    def resolve(self, site: Site) -> Plan:
        """Fill in and look up everything; raise InputError with all problems found."""
        raise NotImplementedError
