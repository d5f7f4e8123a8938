"""The live server schedules as the simulated engine does, whatever computes for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from servesim.calibrate.torch_clock import Arrival, ProcessorClock, WallClock
from servesim.calibrate.torch_server import Part, Served, Server, ServerSettings
from servesim.engine.reference import ReferenceEngine
from servesim.engine.settings import EngineSettings
from servesim.policies.scheduling.fcfs import Fcfs
from servesim.policies.scheduling.shortest_prompt import ShortestPrompt
from servesim.request import Request
from servesim.service_time.base import IterationTime
from servesim.system.clock import Clock

SETTINGS = ServerSettings(max_num_seqs=4, max_num_batched_tokens=24, max_model_len=128)


MADE = 1000  # the vocabulary of prompts is smaller


class MadeUpTimes(IterationTime):
    """Dyadic seconds, so that sums are exact and ties fall the same way."""

    def decode_line(self, decode_seqs: int, context_tokens: int) -> tuple[float, float, float]:
        return 1.0 + decode_seqs / 16 + context_tokens / 4096, 0.0, context_tokens

    def mixed_s(self, b: int, context: int, prompts: int, tokens: int, pairs: int) -> float:
        return 1.0 + (b + tokens) / 16 + context / 4096 + pairs / 8192


@dataclass
class StillClock:
    """A clock that the computer moves."""

    time_s: float = 0.0
    to_come: list[Arrival] = field(default_factory=list)

    def start(self, trace: Sequence[Arrival]) -> None:
        self.to_come = list(trace)

    def now_s(self) -> float:
        return self.time_s

    def arrived(self, wait: bool) -> list[Arrival]:
        if wait:
            self.time_s = max(self.time_s, self.to_come[0].time_s)
        found = [one for one in self.to_come if one.time_s <= self.time_s]
        self.to_come = self.to_come[len(found) :]
        return found


@dataclass
class MadeUpComputer:
    """Takes the time that the made-up law says; every token it makes is one that no prompt has."""

    clock: StillClock
    batches: list[list[tuple[int, int]]] = field(default_factory=list)

    def compute(self, parts: Sequence[Part]) -> list[int]:
        times = MadeUpTimes()
        decoding = [p for p in parts if list(p.tokens) == [MADE]]
        chunks = [p for p in parts if p not in decoding]
        b, context = len(decoding), sum(p.before for p in decoding)
        if chunks:
            tokens = sum(len(p.tokens) for p in chunks)
            pairs = sum(len(p.tokens) * p.before + len(p.tokens) * (len(p.tokens) + 1) // 2 for p in chunks)
            seconds = times.mixed_s(b, context, len(chunks), tokens, pairs)
        else:
            seconds = times.decode_line(b, context)[0]
        self.clock.time_s += seconds
        self.batches.append([(p.before, len(p.tokens)) for p in parts])
        return [MADE for p in parts if p.emits]


def trace(seed: int, count: int = 60) -> list[Arrival]:
    rng = np.random.default_rng(seed)
    times = np.cumsum(np.round(rng.exponential(5.0, count) * 64) / 64)
    return [Arrival(float(t), int(rng.integers(1, 60)), int(rng.integers(1, 20))) for t in times]


def serve(arrivals: Sequence[Arrival], scheduler: type[Fcfs] = Fcfs) -> tuple[Served, MadeUpComputer]:
    clock = StillClock()
    computer = MadeUpComputer(clock)
    return Server(computer, SETTINGS, scheduler().live(), clock, 100).serve(arrivals), computer


def simulate(arrivals: Sequence[Arrival], scheduler: type[Fcfs] = Fcfs) -> list[Request]:
    clock, ended = Clock(), []
    settings = EngineSettings(max_num_seqs=4, max_num_batched_tokens=24, max_model_len=128)
    engine = ReferenceEngine(clock, 0, settings, scheduler().live(), MadeUpTimes(), ended.append)
    for i, one in enumerate(arrivals):
        request = Request(i, 0, one.time_s, one.prompt_tokens, one.output_tokens, 0, done=lambda request: None)
        clock.call_at(one.time_s, lambda request=request: engine.submit(request))
    clock.run_until_empty()
    return sorted(ended, key=lambda request: request.request_id)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("scheduler", [Fcfs, ShortestPrompt])
def test_first_and_last_tokens_fall_when_the_reference_engine_says(seed: int, scheduler: type[Fcfs]) -> None:
    arrivals = trace(seed)
    served, _ = serve(arrivals, scheduler)
    simulated = simulate(arrivals, scheduler)
    assert served.ttft_s.tolist() == pytest.approx([r.first_token_s - r.arrival_s for r in simulated], abs=1e-9)
    assert served.e2e_s.tolist() == pytest.approx([r.finish_s - r.arrival_s for r in simulated], abs=1e-9)


def test_another_scheduler_would_be_noticed() -> None:
    served, _ = serve(trace(0))
    simulated = simulate(trace(0), ShortestPrompt)
    assert served.ttft_s.tolist() != pytest.approx([r.first_token_s - r.arrival_s for r in simulated], abs=1e-3)


def test_the_log_adds_up() -> None:
    arrivals = trace(1)
    served, computer = serve(arrivals)
    rows = served.iterations
    assert rows.prefill_tokens.sum() == sum(one.prompt_tokens for one in arrivals)
    assert rows.decode_seqs.sum() == sum(one.output_tokens - 1 for one in arrivals)
    assert (rows.tokens <= SETTINGS.max_num_batched_tokens).all()
    assert (rows.decode_seqs + rows.prefill_seqs <= SETTINGS.max_num_seqs).all()
    whole = sum(one.prompt_tokens * (one.prompt_tokens + 1) // 2 for one in arrivals)
    assert rows.prefill_pairs.sum() == whole
    assert len(computer.batches) == len(rows)
    assert (rows.host_s == 0).all()


class Busy:
    """Computes for a while on the processor."""

    def compute(self, parts: Sequence[Part]) -> list[int]:
        sum(range(2000))
        return [0 for part in parts if part.emits]


@pytest.mark.parametrize("clock", [WallClock, ProcessorClock])
def test_real_clocks_serve_everything(clock: type) -> None:
    arrivals = [Arrival(0.002 * i, 5 + i % 7, 1 + i % 4) for i in range(40)]
    served = Server(Busy(), SETTINGS, Fcfs().live(), clock(), 100).serve(arrivals)
    assert (served.ttft_s > 0).all()
    assert (served.e2e_s >= served.ttft_s).all()
    assert served.iterations.device_s.min() > 0
    assert served.admission_s >= 0
