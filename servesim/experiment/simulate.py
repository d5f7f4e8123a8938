"""One run of one scenario."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from servesim import rng as random_streams
from servesim.engine.base import Replica, Surroundings
from servesim.engine.timing import boundary_s
from servesim.errors import InputError, LimitReached
from servesim.experiment.result import Result
from servesim.metrics.record import ClassRecord, PoolRecord, RunRecord, Slo
from servesim.metrics.spool import Spool
from servesim.provenance import provenance
from servesim.scenario.measurement import warmup_rule
from servesim.scenario.resolve import Resolved, ResolvedPool, resolve
from servesim.scenario.schema import ClassSpec, Scenario
from servesim.system.clock import Clock
from servesim.system.gateway import Door, Gateway
from servesim.system.lives import LivelyDoor
from servesim.system.memory import resident_bytes
from servesim.system.pool import Pool
from servesim.system.sessions import SessionLog, Sessions
from servesim.system.sources import ClosedLoop, OpenSource, Source
from servesim.workload.arrivals.closed_loop import ClosedLoopArrivals
from servesim.workload.arrivals.sessions import SessionsArrivals
from servesim.workload.base import IndependentLengths
from servesim.workload.lives import Clients
from servesim.workload.load import ClassLoad, Lengths, OwnLengths

Progress = Callable[[float, int], None]


def simulate(
    scenario: Scenario | str | Path,
    seed: int | None = None,
    progress: Progress | None = None,
    reference: bool = False,
) -> Result:
    """Run a scenario once and return what happened.

    `seed` replaces the scenario's; the same scenario and seed give the same result. `progress(now_s, requests)` is
    called now and then with the simulated time and the requests that have entered. `reference` runs the slow
    step-by-step definition of an engine that has one instead, for checking. Raises InputError for a scenario that
    cannot be run and LimitReached when one of its `limits` stops it.
    """
    scenario = checked_scenario(scenario)
    seed = scenario.seed if seed is None else checked_seed(seed)
    resolved = resolve(scenario.model_copy(update={"seed": seed}))
    return _Run(resolved, seed, progress, reference).result()


def checked_scenario(scenario: Scenario | str | Path) -> Scenario:
    """Return the scenario, loaded if it is a path; raises InputError for anything else."""
    if isinstance(scenario, str | Path):
        from servesim.scenario.load import load

        scenario = load(scenario)
    if not isinstance(scenario, Scenario):
        raise InputError(f"expected a Scenario or the path of one, not {type(scenario).__name__}")
    return scenario


class _Run:
    """Everything built fresh for one run."""

    def __init__(
        self,
        resolved: Resolved,
        seed: int,
        progress: Progress | None,
        reference: bool,
    ) -> None:
        self._resolved = resolved
        self._seed = seed
        self._progress = progress
        self._reference = reference
        limits = resolved.scenario.limits
        self._clock = Clock(limits.max_events, limits.max_time_s, limits.max_events_per_instant, self._watch)
        self._gateway = Gateway(self._clock)
        self._spools: list[Spool] = [self._gateway.records, self._gateway.retries]
        self._replicas: list[Replica] = []
        self._pools = {pool.name: self._build_pool(pool) for pool in resolved.pools}
        self._loads: list[ClassLoad] = []
        self._lively: list[LivelyDoor] = []
        self._sessions: SessionLog | None = None
        classes = resolved.scenario.workload.classes
        self._sources = [self._build_source(i, name, spec) for i, (name, spec) in enumerate(classes.items())]

    def _build_pool(self, pool: ResolvedPool) -> Pool:
        first = len(self._replicas)
        stream = partial(random_streams.stream, self._seed, "pool", pool.name)
        names = tuple(self._resolved.scenario.workload.classes)
        scenario = self._resolved.scenario
        client = scenario.client
        network_s = client.request_network_s + client.response_network_s if client.clock == "client" else 0.0
        deadlines_s = tuple(spec.slo.deadline_s - network_s for spec in scenario.workload.classes.values())
        around = Surroundings(self._clock, self._gateway.record, stream, names, deadlines_s)
        build = pool.plan.builder(around, self._reference)
        replicas = [build(first + number) for number in range(pool.spec.replicas)]
        self._replicas += replicas
        self._spools += [spool for replica in replicas for spool in replica.spools()]
        router = pool.spec.router.live()
        router.start(pool.spec.replicas, random_streams.stream(self._seed, "router", pool.name))
        return Pool(replicas, router, first)

    def _build_source(self, index: int, name: str, spec: ClassSpec) -> Source:
        scenario = self._resolved.scenario
        pool = self._pools[scenario.pool_of(name)]
        client = scenario.client
        round_trip_s = client.request_network_s + client.response_network_s
        # The client's patience runs from when it sends to when it has the whole answer; the server is told at once.
        timeout_s = None if spec.timeout_s is None else max(spec.timeout_s - round_trip_s, 0.0)
        door = Door(self._gateway, pool, index, spec.priority, timeout_s)
        if spec.patience or spec.cancel or spec.retry:
            clients = Clients(self._seed, name, spec.patience, spec.cancel, spec.retry)
            lively = LivelyDoor(self._gateway, pool, index, spec.priority, timeout_s, clients, round_trip_s)
            self._lively.append(lively)
            door = lively
        num_requests = spec.num_requests or (None if spec.duration_s else scenario.workload.num_requests)
        duration_s = spec.duration_s or (None if spec.num_requests else scenario.workload.duration_s)
        lengths = lengths_of(spec)
        if isinstance(spec.arrivals, ClosedLoopArrivals):
            assert lengths is not None
            own = OwnLengths(lengths, self._seed, name)
            return ClosedLoop(door, spec.arrivals, own, name, self._seed, num_requests, duration_s, round_trip_s)
        if isinstance(spec.arrivals, SessionsArrivals):
            assert lengths is not None
            own, log = OwnLengths(lengths, self._seed, name), self._session_log()
            return Sessions(door, spec.arrivals, own, name, self._seed, num_requests, duration_s, round_trip_s, log)
        load = ClassLoad(
            name, spec.arrivals, lengths, seed=self._seed, num_requests=num_requests, duration_s=duration_s
        )
        self._loads.append(load)
        return OpenSource(door, load.blocks())

    def _session_log(self) -> SessionLog:
        if self._sessions is None:
            self._sessions = SessionLog()
            self._spools.append(self._sessions.turns)
        return self._sessions

    def _watch(self, now_s: float) -> None:
        for spool in self._spools:
            spool.settle()
        if self._progress is not None:
            self._progress(now_s, self._gateway.entered)
        cap = self._resolved.scenario.limits.max_memory_bytes
        if cap is not None:
            used = resident_bytes()
            if used > cap:
                raise LimitReached(f"limits.max_memory_bytes: the process uses {used} bytes at t = {now_s:.6g} s")

    def result(self) -> Result:
        """Run to the end."""
        for source in self._sources:
            source.start()
        self._clock.run_until_empty()
        gateway, scenario = self._gateway, self._resolved.scenario
        client = scenario.client
        record = RunRecord(
            scenario=scenario.name,
            seed=self._seed,
            classes=[_class_record(scenario, name, spec) for name, spec in scenario.workload.classes.items()],
            pools=[self._pool_record(pool) for pool in self._resolved.pools],
            requests=gateway.records,
            session_turns=None if self._sessions is None else self._sessions.turns,
            end_s=max(gateway.last_end_s, *(_last_boundary_s(replica) for replica in self._replicas)),
            last_arrival_s=gateway.last_arrival_s,
            occupancy_s=gateway.occupancy_s,
            offered=[source.offered for source in self._sources],
            warmup=warmup_rule(
                scenario.measurement, {name: spec.arrivals for name, spec in scenario.workload.classes.items()}
            ),
            client_clock=client.clock == "client",
            request_network_s=client.request_network_s,
            response_network_s=client.response_network_s,
            retries=gateway.retries,
            provenance=provenance(self._resolved, self._seed),
            warnings=[
                *(warning for pool in self._resolved.pools for warning in pool.plan.warnings),
                *gateway.rejection_warnings(),
                *(warning for door in self._lively for warning in door.warnings()),
                *(
                    f"class {load.class_name}: left out {load.dropped_zero_output} rows of the trace without output"
                    for load in self._loads
                    if load.dropped_zero_output
                ),
            ],
        )
        return Result(record, scenario)

    def _pool_record(self, pool: ResolvedPool) -> PoolRecord:
        replicas, plan = self._pools[pool.name].replicas, pool.plan
        return PoolRecord(
            name=pool.name,
            first_replica=replicas[0].index,
            replicas=[replica.log() for replica in replicas],
            own_compute=plan.own_compute,
            origin=plan.origin,
            validity=plan.validity,
            request_level=plan.request_level,
            forms_batches=plan.forms_batches,
            batched=plan.batched,
            gpus_per_replica=plan.gpus_per_replica,
            usd_per_gpu_hour=pool.usd_per_gpu_hour,
        )


def checked_seed(seed: int) -> int:
    """Return `seed` as a plain integer; numpy's integers are welcome, truth values and fractions are not."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise InputError(f"a seed is a whole number, 0 or larger, not {seed!r}")
    return int(seed)


def _last_boundary_s(replica: Replica) -> float:
    """Return when a replica's last iteration ended; 0 if it had none."""
    last = replica.spools()[0].last()
    if last is None:
        return 0.0
    iterations = int(last["iterations"])
    return boundary_s(last["start_s"], last["first_s"], last["bend_s"], iterations)


def lengths_of(spec: ClassSpec) -> Lengths | None:
    """Return the law of a class's lengths; None where a trace brings them."""
    if spec.lengths is not None:
        if spec.max_total_tokens is None:
            return spec.lengths
        return spec.lengths.model_copy(update={"max_total_tokens": spec.max_total_tokens})
    if spec.prompt_tokens is None or spec.output_tokens is None:
        return None
    return IndependentLengths(spec.prompt_tokens, spec.output_tokens, spec.max_total_tokens)


def _class_record(scenario: Scenario, name: str, spec: ClassSpec) -> ClassRecord:
    slo = spec.slo
    return ClassRecord(
        name,
        scenario.pool_of(name),
        Slo(slo.ttft_s, slo.tpot_s, slo.e2e_s, slo.itl_s, slo.attainment, slo.queue_s),
        open_loop=not isinstance(spec.arrivals, ClosedLoopArrivals),
    )
