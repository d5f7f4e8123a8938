"""Plans of the stations of queueing theory: a law of service times, and a function that makes replicas."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from servesim.engine.base import EngineSpec, Plan, Replica, Site, Surroundings
from servesim.errors import InputError, Problem
from servesim.metrics.chunks import Columns
from servesim.metrics.record import Own, OwnCompute, PoolRecord
from servesim.service_time.by_class import ByClass
from servesim.service_time.law import Sampler, ServiceLaw

MakeReplica = Callable[[Surroundings, int, Sampler], Replica]


class StationPlan(Plan):
    """A station, ready to be built; all replicas of a pool draw their work from the same streams."""

    semantics = "queueing theory"
    request_level = True
    batched = False
    gpus_per_replica = 0

    def __init__(self, engine: EngineSpec, law: ServiceLaw, make: MakeReplica) -> None:
        self.engine = engine
        self.origin = law.origin
        self._law = law
        self._make = make

    def builder(self, around: Surroundings, reference: bool) -> Callable[[int], Replica]:
        """Return what makes replicas; a station is its own definition, so `reference` changes nothing."""
        work_s = self._law.sampler(around.stream, around.class_names)
        return lambda index: self._make(around, index, work_s)

    def own_compute(self, pool: PoolRecord) -> OwnCompute:
        """Return each request's work: logged where requests share a server, else its time in service."""
        works = [replica.works for replica in pool.replicas if replica.works is not None]
        if not works:
            return _time_in_service
        request_id, work_s = (
            np.concatenate(parts) for parts in zip(*(w.column(*w.columns) for w in works), strict=True)
        )
        order = np.argsort(request_id)
        request_id, work_s = request_id[order], work_s[order]

        def own(done: Columns) -> Own:
            found = work_s[np.searchsorted(request_id, done["request_id"])]
            return Own(found, np.zeros(len(found)))

        return own


def _time_in_service(done: Columns) -> Own:
    seconds = done["finish_s"] - done["first_scheduled_s"] - done["preempted_s"]
    return Own(seconds, np.zeros(len(seconds)))


def station_plan(engine: EngineSpec, site: Site, make: MakeReplica) -> StationPlan:
    """Return the plan; raise InputError unless the service time is a law for every class that is served."""
    law: ServiceLaw = site.times(ServiceLaw)  # type: ignore[type-abstract]
    if isinstance(law, ByClass):
        where = f"pools.{site.pool}.service_time.laws"
        problems = [
            Problem(f"no law for class {name!r}, which this pool serves", where)
            for name in site.classes
            if name not in law.laws
        ]
        served = ", ".join(site.classes)
        problems += [
            Problem(f"this pool serves no class {name!r}; it serves {served}", f"{where}.{name}")
            for name in law.laws
            if name not in site.classes
        ]
        if problems:
            raise InputError(problems)
    return StationPlan(engine, law, make)
