"""Fed with the iteration times of real vLLM runs, the engine schedules the same batches: every one of them.

The logs (vLLM 0.32, V1 engine, on a CPU) hold for each iteration the prefill chunks, the decoding requests, the
queue lengths, the free KV blocks and the preemptions. The engine gets the arrivals and the iteration times, nothing
else, and must come to the same decisions. A short excerpt of the run that preempts is kept in the tree.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import chain, pairwise, repeat
from pathlib import Path
from typing import Any

import pytest

from servesim.engine.continuous import ContinuousEngine
from servesim.engine.reference import ReferenceEngine
from servesim.engine.settings import EngineSettings
from servesim.policies.scheduling.fcfs import Fcfs
from servesim.request import DECODE, Request
from servesim.service_time.base import IterationTime
from servesim.system.clock import Clock
from tests.data import shared_data

RUNS = (
    "r01_chat_p80",
    "r03_gen_p70_smallkv",
    "r06_prefix_apc_on",
    "r09_chat_p50",
    "r12_chat_closed16",
    "r13_rag_p70_nochunk",
)


@dataclass(frozen=True)
class Logged:
    """A real run: its settings, its requests in order of submission, and what each iteration did."""

    settings: EngineSettings
    requests: list[dict[str, float]]
    iterations: list[dict[str, Any]]
    has_prefix_cache: bool
    is_whole: bool

    @classmethod
    def read(cls, folder: Path) -> Logged:
        with gzip.open(folder / "iters.jsonl.gz", "rt") as file:
            head, *iterations = map(json.loads, file)
        meta = head["meta"]
        summary = json.loads((folder / "summary.json").read_text())
        with (folder / "requests.csv").open() as file:
            rows = [{k: float(v or 0) for k, v in row.items()} for row in csv.DictReader(file)]
        rows.sort(key=lambda row: (row["submit"], row["idx"]))
        settings = EngineSettings(
            max_num_seqs=meta["max_num_seqs"],
            max_num_batched_tokens=meta["max_num_batched_tokens"],
            max_model_len=summary["engine_args"]["max_model_len"],
            enable_chunked_prefill=meta["chunked"],
            scheduler_reserve_full_isl=meta["reserve_full_isl"],
            async_scheduling=meta["async"],
            block_size=meta["block_size"],
            num_gpu_blocks=meta["num_gpu_blocks"],
        )
        return cls(settings, rows, iterations, meta["apc"], is_whole="excerpt" not in summary)

    def first_seen(self) -> list[float]:
        """Return, for each request in order, a time at which the engine has it but the iteration before did not.

        After iteration i the queues hold `run + wait` requests; with those finished so far that is how many the
        engine had been handed when it scheduled iteration i.
        """
        times: list[float] = []
        finished = 0
        previous_start = -1.0
        for record in self.iterations:
            start = record["t0"]
            handed = finished + record["run"] + record["wait"]
            idle = len(times) == finished
            # An idle engine starts the moment a request comes; a busy one sees it at the next boundary.
            when = start if idle else 0.5 * (previous_start + start)
            times += [when] * (handed - len(times))
            finished += len(record["fin"])
            previous_start = start
        return times


class LoggedTimes(IterationTime):
    """The n-th iteration takes as long as the n-th one in the log."""

    def __init__(self, iterations: list[dict[str, Any]]) -> None:
        starts = [record["t0"] for record in iterations]
        self._next = chain((b - a for a, b in pairwise(starts)), repeat(1.0))

    def decode_line(self, decode_seqs: int, context_tokens: int) -> tuple[float, float, float]:
        return next(self._next), 0.0, context_tokens

    def mixed_s(self, *batch: int) -> float:
        return next(self._next)


@dataclass
class Step:
    """What one iteration of the simulated engine did, in the words of the log."""

    prefill: list[list[int]]
    decoding: list[int]
    waiting: int
    free: int
    preempted: list[list[int]]


class Watch:
    """Turns engine state into steps; knows the engines' insides because it must see each decision."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._computed: dict[int, int] = defaultdict(int)
        self._lost: list[list[int]] = []

    def cached(self, request: Request, tokens: int) -> None:
        self._computed[request.request_id] = tokens

    def preempted(self, request: Request, computed: int) -> None:
        self._lost.append([request.request_id, computed])
        self._computed[request.request_id] = 0

    def decided(self, running: list[tuple[Request, int]], waiting: int, free: int) -> None:
        """`running`: requests with their computed tokens after this iteration, in order."""
        prefill = []
        for request, after in running:
            if request.stage != DECODE:
                before = self._computed[request.request_id]
                prefill.append([request.request_id, after - before, before])
                self._computed[request.request_id] = after
        decoding = sorted(r.request_id for r, _ in running if r.stage == DECODE)
        self.steps.append(Step(prefill, decoding, waiting, free, self._lost))
        self._lost = []


class WatchedSpans(ContinuousEngine):
    watch: Watch

    def _decide(self, start_s: float, cold: bool) -> bool:
        decided = super()._decide(start_s, cold)
        if decided:
            running = [(r, r.computed_tokens) for r in self.running]
            due = self.kv.due[self.iteration % self.kv.block_size]
            self.watch.decided(running, self.waiting, self.kv.free - due)
        return decided

    def _evict(self, victim: Request, start_s: float, served_blocks: int) -> int:
        computed = victim.tail + self.iteration if victim.stage == DECODE else victim.computed_tokens
        self.watch.preempted(victim, computed)
        return super()._evict(victim, start_s, served_blocks)


class WatchedSteps(ReferenceEngine):
    watch: Watch

    def _commit(self, start_s, decoding, chunks, cold):
        batch = super()._commit(start_s, decoding, chunks, cold)
        if batch is not None:
            running = [(r, s.computed) for r, s in self.running.items()]
            self.watch.decided(running, self.waiting, self.free)
        return batch

    def _evict(self, victim, start_s: float) -> None:
        self.watch.preempted(victim.request, victim.computed)
        super()._evict(victim, start_s)


def simulate(engine_type: Any, log: Logged, scheduler: type[Fcfs] = Fcfs) -> tuple[list[Step], Any]:
    clock = Clock()
    times = LoggedTimes(log.iterations)
    engine = engine_type(clock, 0, log.settings, scheduler().live(), times, lambda request: None)
    engine.watch = Watch()

    def send(request: Request, cached: int) -> None:
        engine.watch.cached(request, cached)
        engine.submit(request, cached)

    for row, when in zip(log.requests, log.first_seen(), strict=log.is_whole):
        request = Request(
            int(row["idx"]), 0, when, int(row["prompt"]), int(row["output"]), 0, done=lambda request: None
        )
        cached = int(row["cached_tokens"])
        clock.call_at(when, lambda request=request, cached=cached: send(request, cached))
    clock.run_until_empty()
    return engine.watch.steps, engine


def differences(log: Logged, steps: list[Step]) -> list[str]:
    found = []
    if len(steps) != len(log.iterations) and log.is_whole:
        found.append(f"{len(steps)} iterations, the log has {len(log.iterations)}")
    for number, (record, step) in enumerate(zip(log.iterations, steps, strict=False)):
        expected = Step(
            [chunk[:3] for chunk in record["pf"]],
            sorted(record["dec"]),
            record["wait"],
            step.free if log.has_prefix_cache else record["free"],
            record["pre"],
        )
        if expected != step:
            found.append(f"iteration {number}: real {expected}, simulated {step}")
    return found


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("engine", [WatchedSpans, WatchedSteps])
def test_every_batch_of_a_real_vllm_run_is_reproduced(run: str, engine: Any) -> None:
    log = Logged.read(shared_data("validation", "vllm_cpu", "runs", run))
    steps, _ = simulate(engine, log)
    assert differences(log, steps)[:3] == []


EXCERPT = Path(__file__).parent / "vllm_cpu_excerpt"


@pytest.mark.parametrize("engine", [WatchedSpans, WatchedSteps])
def test_the_excerpt_kept_in_the_tree_is_reproduced_with_its_preemptions(engine: Any) -> None:
    log = Logged.read(EXCERPT)
    steps, _ = simulate(engine, log)
    assert differences(log, steps) == []
    assert sum(len(step.preempted) for step in steps[: len(log.iterations)]) == 66


class NewestFirst(Fcfs):
    def add(self, request: Request) -> bool:
        self._queue.appendleft(request)
        return True


class PreemptsTheOldest(Fcfs):
    def victim(self, running: dict[Request, None]) -> Request:
        return next(iter(running))


class ForgetsItsPlace(Fcfs):
    def requeue(self, request: Request) -> None:
        self._queue.append(request)


@pytest.mark.parametrize(
    ("change", "scheduler"),
    [
        ({"num_gpu_blocks": 91}, Fcfs),  # as if there were no null block
        ({"block_size": 16, "num_gpu_blocks": 179}, Fcfs),
        ({"max_num_batched_tokens": 64}, Fcfs),
        ({"max_num_seqs": 16}, Fcfs),
        ({"scheduler_reserve_full_isl": False, "max_num_batched_tokens": 80}, Fcfs),
        ({"watermark": 0.05}, Fcfs),
        ({"async_scheduling": True}, Fcfs),
        ({}, NewestFirst),
        ({}, PreemptsTheOldest),
        ({}, ForgetsItsPlace),
    ],
)
def test_a_wrong_engine_does_not_reproduce_it(change: dict[str, Any], scheduler: type[Fcfs]) -> None:
    log = Logged.read(EXCERPT)
    steps, _ = simulate(WatchedSpans, replace(log, settings=replace(log.settings, **change)), scheduler)
    assert differences(log, steps)
