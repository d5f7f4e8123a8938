"""Make complete run records: real engines fed by hand, counted at the door by the test itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from servesim.engine.continuous import ContinuousEngine
from servesim.engine.settings import EngineSettings
from servesim.metrics.alone import AloneInPool
from servesim.metrics.record import ClassRecord, PoolRecord, RunRecord, Slo
from servesim.metrics.spool import Spool
from servesim.policies.scheduling.fcfs import Fcfs
from servesim.request import PENDING, REQUEST_COLUMNS, TIMED_OUT, Request
from servesim.service_time.affine import Affine
from servesim.service_time.base import Deployment, IterationTime
from servesim.system.clock import Clock

AFFINE = Affine(base_s=0.004, per_seq_s=2e-5, per_token_s=3e-5, per_context_token_s=4e-8, per_prefill_pair_s=1e-9)
TIMES = AFFINE.build(Deployment())


@dataclass(frozen=True)
class Job:
    """One request to send; `timeout_s` makes its client give up."""

    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    class_index: int = 0
    timeout_s: float | None = None


@dataclass
class _Door:
    """Integrates the number of requests inside, step by step."""

    inside: int = 0
    occupancy_s: float = 0.0
    last_s: float = 0.0
    last_arrival_s: float = 0.0

    def step(self, now_s: float, change: int) -> None:
        self.occupancy_s += self.inside * (now_s - self.last_s)
        self.last_s = now_s
        self.inside += change
        if change > 0:
            self.last_arrival_s = now_s


def record_of(
    jobs: Sequence[Job],
    settings: EngineSettings | None = None,
    times: IterationTime = TIMES,
    replicas: int = 1,
    classes: Sequence[ClassRecord] = (ClassRecord("chat", "main", Slo()),),
) -> RunRecord:
    """Serve `jobs` round-robin on `replicas` for every pool the classes name, and return the record."""
    settings = settings or EngineSettings()
    clock, door = Clock(max_events=5_000_000), _Door()
    requests = Spool(REQUEST_COLUMNS)
    pools = list(dict.fromkeys(one.pool for one in classes))

    def keep(request: Request) -> None:
        requests.add(request.row())

    engines = [
        ContinuousEngine(clock, index, settings, Fcfs().live(), times, keep) for index in range(replicas * len(pools))
    ]

    def left(_: Request) -> None:
        door.step(clock.now_s, -1)

    def send(index: int, job: Job) -> None:
        door.step(clock.now_s, 1)
        request = Request(
            index, job.class_index, clock.now_s, job.prompt_tokens, job.output_tokens, priority=0, done=left
        )
        engine = engines[pools.index(classes[job.class_index].pool) * replicas + index % replicas]
        engine.submit(request)
        if job.timeout_s is not None:
            clock.call_at(clock.now_s + job.timeout_s, lambda: give_up(engine, request))

    def give_up(engine: ContinuousEngine, request: Request) -> None:
        if request.outcome == PENDING:
            engine.cancel(request, TIMED_OUT)
            left(request)

    for index, job in enumerate(jobs):
        clock.call_at(job.arrival_s, lambda index=index, job=job: send(index, job))
    clock.run_until_empty()
    assert door.inside == 0
    logs = [engine.log() for engine in engines]
    offered = np.bincount([job.class_index for job in jobs], minlength=len(classes)).tolist()
    return RunRecord(
        scenario="by hand",
        seed=1,
        classes=list(classes),
        pools=[
            PoolRecord(
                name,
                i * replicas,
                logs[i * replicas :][:replicas],
                partial(AloneInPool, times, settings.max_num_batched_tokens),
                times.origin,
                times.validity,
            )
            for i, name in enumerate(pools)
        ],
        requests=requests,
        end_s=door.last_s,
        last_arrival_s=door.last_arrival_s,
        occupancy_s=door.occupancy_s,
        offered=offered,
    )


def poisson_jobs(
    count: int, rate_rps: float, prompt_tokens: int, output_tokens: int, seed: int = 1, classes: int = 1
) -> list[Job]:
    """Return Poisson arrivals with lognormal lengths of these medians."""
    rng = np.random.default_rng(seed)
    arrival_s = np.cumsum(rng.exponential(1 / rate_rps, count))
    prompts = np.maximum(1, rng.lognormal(math.log(prompt_tokens), 0.6, count).astype(int))
    outputs = np.maximum(1, rng.lognormal(math.log(output_tokens), 0.6, count).astype(int))
    which = rng.integers(0, classes, count)
    columns = zip(arrival_s.tolist(), prompts.tolist(), outputs.tolist(), which.tolist(), strict=True)
    return [Job(*row) for row in columns]


def with_timeouts(jobs: Sequence[Job], every: int, timeout_s: float) -> list[Job]:
    """Give every n-th job a client that gives up."""
    return [replace(job, timeout_s=timeout_s) if i % every == 0 else job for i, job in enumerate(jobs)]


def rows(spool: Spool) -> dict[str, np.ndarray]:
    """Return all columns of a spool by name."""
    return dict(zip(spool.columns, spool.column(*spool.columns), strict=True))


def slow_token_times(record: RunRecord) -> dict[int, list[float]]:
    """Return when every token of every request came out, one iteration and one request at a time."""
    out: dict[int, list[float]] = {}
    requests = rows(record.requests)
    for pool in record.pools:
        for number, replica in enumerate(pool.replicas):
            runs, segments = rows(replica.runs), rows(replica.segments)

            def ends(first: float, last: float, runs: dict[str, np.ndarray] = runs) -> list[float]:
                found = []
                for row in range(int(first), int(last)):
                    start, bend = runs["start_s"][row], runs["bend_s"][row]
                    for j in range(1, int(runs["iterations"][row]) + 1):
                        found.append(float(start + j * (runs["first_s"][row] + bend * (j - 1))))
                return found

            for i in np.flatnonzero(requests["replica"] == pool.first_replica + number):
                if requests["first_row"][i] < 0:
                    continue
                times = [float(requests["first_token_s"][i])]
                for s in np.flatnonzero(segments["request_id"] == requests["request_id"][i]):
                    times += ends(segments["first_row"][s], segments["last_row"][s])
                    times.append(float(segments["gap_end_s"][s]))
                times += ends(requests["first_row"][i], requests["last_row"][i])
                out[int(requests["request_id"][i])] = times
    return out
