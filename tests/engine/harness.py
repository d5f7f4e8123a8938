"""Run one or more replicas of an engine on a hand-written workload and look at everything they recorded."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import numpy as np

from servesim.engine.continuous import ContinuousEngine
from servesim.engine.reference import ReferenceEngine
from servesim.engine.settings import EngineSettings
from servesim.policies.scheduling.base import Scheduler
from servesim.policies.scheduling.fcfs import Fcfs
from servesim.request import PENDING, REQUEST_COLUMNS, TIMED_OUT, Request
from servesim.service_time.base import IterationTime
from servesim.service_time.noise import IterationNoise, NoiseLaw
from servesim.system.clock import LATE_ARRIVAL, Clock

Engine = ContinuousEngine | ReferenceEngine
ENGINES = (ContinuousEngine, ReferenceEngine)


class BentTimes(IterationTime):
    """Affine iteration time whose context slope doubles beyond `bend_tokens` of summed context."""

    def __init__(
        self,
        base_s: float = 0.01,
        per_seq_s: float = 0.0,
        per_token_s: float = 0.0,
        slope_s: float = 0.0,
        pair_s: float = 0.0,
        bend_tokens: float = math.inf,
    ) -> None:
        self.base_s, self.per_seq_s, self.per_token_s = base_s, per_seq_s, per_token_s
        self.slope_s, self.pair_s, self.bend_tokens = slope_s, pair_s, bend_tokens

    def decode_line(self, decode_seqs: int, context_tokens: int) -> tuple[float, float, float]:
        base = self.base_s + (self.per_seq_s + self.per_token_s) * decode_seqs
        if context_tokens <= self.bend_tokens:
            return base, self.slope_s, self.bend_tokens
        return base - self.slope_s * self.bend_tokens, 2 * self.slope_s, math.inf

    def mixed_s(
        self, decode_seqs: int, context_tokens: int, prefill_seqs: int, prefill_tokens: int, prefill_pairs: int
    ) -> float:
        seqs = decode_seqs + prefill_seqs
        tokens = decode_seqs + prefill_tokens
        attention = self.slope_s * context_tokens + self.pair_s * prefill_pairs
        return self.base_s + self.per_seq_s * seqs + self.per_token_s * tokens + attention


@dataclass(frozen=True)
class Job:
    """One request of a hand-written workload.

    `cancel_after_s` makes its client give up. When it ends, so many `follow_ups` like it are sent one after the other,
    each to the next replica at the very instant the one before ended, as a pipeline of stages would.
    """

    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    cancel_after_s: float | None = None
    priority: int = 0
    computed_tokens: int = 0
    follow_ups: int = 0


@dataclass
class Outcome:
    """Everything a run left behind."""

    requests: dict[str, np.ndarray]
    runs: list[dict[str, np.ndarray]]
    segments: list[list[tuple[float, ...]]]
    engines: list[Any] = field(default_factory=list)
    events: int = 0


def play(
    engine_type: type[Engine],
    jobs: list[Job],
    settings: EngineSettings,
    times: IterationTime | None = None,
    replicas: int = 1,
    closed_loop: int = 0,
    scheduler: type[Scheduler] = Fcfs,
    noise: NoiseLaw | None = None,
) -> Outcome:
    """Feed `jobs` in order, round-robin over `replicas`.

    With `closed_loop` clients the jobs' arrival times are ignored: each client sends the next job when its last ended.
    """
    clock = Clock(max_events=5_000_000)
    recorded: list[Request] = []

    def noise_of(replica: int) -> IterationNoise | None:
        return None if noise is None else IterationNoise(noise, np.random.default_rng(replica))

    engines = [
        engine_type(clock, i, settings, scheduler().live(), times or BentTimes(), recorded.append, noise_of(i))
        for i in range(replicas)
    ]
    pending = iter(enumerate(jobs))

    numbers = count(len(jobs))

    def send(index: int, job: Job, number: int | None = None) -> None:
        def ended(request: Request) -> None:
            if job.follow_ups:
                send(index + 1, replace(job, follow_ups=job.follow_ups - 1), next(numbers))
            else:
                answered(request)

        engine = engines[index % replicas]
        number = index if number is None else number
        request = Request(
            number, index % 2, clock.now_s, job.prompt_tokens, job.output_tokens, job.priority, done=ended
        )
        engine.submit(request, min(job.computed_tokens, job.prompt_tokens - 1))
        if job.cancel_after_s is not None:
            clock.call_at(clock.now_s + job.cancel_after_s, lambda: give_up(engine, request))

    def give_up(engine: Any, request: Request) -> None:
        if request.outcome == PENDING:
            engine.cancel(request, TIMED_OUT)
            request.done(request)

    def answered(request: Request) -> None:
        if closed_loop:
            clock.call_at(clock.now_s, send_next, LATE_ARRIVAL)

    def send_next() -> None:
        entry = next(pending, None)
        if entry is not None:
            send(*entry)

    if closed_loop:
        for _ in range(closed_loop):
            clock.call_at(0.0, send_next)
    else:
        for index, job in pending:
            clock.call_at(job.arrival_s, lambda index=index, job=job: send(index, job))
    clock.run_until_empty()
    recorded.sort(key=lambda r: r.request_id)
    return Outcome(
        {name: np.array([getattr(r, name) for r in recorded], dtype=float) for name in REQUEST_COLUMNS},
        [dict(zip(e.runs.columns, e.runs.column(*e.runs.columns), strict=True)) for e in engines],
        [sorted(map(tuple, np.vstack([*e.segments.chunks(), np.empty((0, 7))]).tolist())) for e in engines],
        engines,
        clock.events,
    )
