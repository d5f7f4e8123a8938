"""A small real server with continuous batching: a transformer, a KV cache, and the simulator's own scheduling policy.

It makes the decisions of docs/engine.md in the same order as `servesim.engine.reference`, for an engine whose KV cache
has room for `max_num_seqs` sequences of `max_model_len` tokens, so that nobody is preempted; and it computes every
iteration for real. What it does not share with the simulator is what is to be predicted: time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from servesim.calibrate.iterations import Iterations
from servesim.calibrate.torch_clock import Arrival, LiveClock
from servesim.policies.scheduling.base import Scheduler
from servesim.request import Request

Progress = Callable[[str, int, int], None]
"""Told what is being served, and how many of how many requests have ended."""


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Limits under vLLM's names; chunked prefill is on, scheduling is synchronous."""

    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int


@dataclass(frozen=True, slots=True)
class Part:
    """One sequence's share of an iteration: its slot in the cache, tokens there already, tokens to compute."""

    slot: int
    before: int
    tokens: Sequence[int]
    emits: bool


class Computer(Protocol):
    """What computes an iteration: a transformer, or in tests something that only passes time."""

    def compute(self, parts: Sequence[Part]) -> list[int]:
        """Return the next token of each part that emits one, in order."""


@dataclass(slots=True, eq=False)
class _Live:
    """A request being served."""

    request: Request
    slot: int
    tokens: list[int]
    computed: int = 0
    first_token_s: float = -1.0

    @property
    def is_decoding(self) -> bool:
        return self.first_token_s >= 0


@dataclass
class _Log:
    """One list per column of `Iterations`."""

    rows: list[tuple[float, ...]] = field(default_factory=list)

    def iterations(self) -> Iterations:
        return Iterations.of_rows(self.rows)


@dataclass(frozen=True, slots=True)
class Served:
    """What a server did: one entry per request in order of arrival, and its iterations.

    `ttft_s` and `e2e_s` count from the time at which the client meant to send (a client that is late counts against
    the server, as for a user). `admission_s` is how late an idle server saw a request, in the median.
    """

    arrival_s: np.ndarray
    prompt_tokens: np.ndarray
    output_tokens: np.ndarray
    ttft_s: np.ndarray
    e2e_s: np.ndarray
    iterations: Iterations
    admission_s: float


class Server:
    """Serves one trace."""

    def __init__(
        self, computer: Computer, settings: ServerSettings, scheduler: Scheduler, clock: LiveClock, vocab: int
    ) -> None:
        self._computer, self._settings, self._clock, self._vocab = computer, settings, clock, vocab
        self._scheduler = scheduler

    def serve(self, trace: Sequence[Arrival], progress: Callable[[int, int], None] | None = None) -> Served:
        """Return what happened to the requests of `trace`, which must be in order of time and fit `max_model_len`."""
        self._scheduler.start()
        self._running: dict[Request, _Live] = {}
        self._free = list(reversed(range(self._settings.max_num_seqs)))
        self._waiting = self._sent = self._ended = 0
        self._log = _Log()
        self._woken_s: list[float] = []
        self._first_s = np.full(len(trace), np.nan)
        self._last_s = np.full(len(trace), np.nan)
        self._rng = np.random.default_rng(0)
        self._clock.start(trace)
        boundary_s = 0.0
        while self._ended < len(trace):
            boundary_s = self._iterate(self._receive(boundary_s))
            if progress is not None:
                progress(self._ended, len(trace))
        arrival_s = np.array([one.time_s for one in trace])
        return Served(
            arrival_s,
            np.array([one.prompt_tokens for one in trace]),
            np.array([one.output_tokens for one in trace]),
            self._first_s - arrival_s,
            self._last_s - arrival_s,
            self._log.iterations(),
            max(0.0, float(np.median(self._woken_s))),
        )

    def _receive(self, boundary_s: float) -> float:
        """Queue what has come; return when the iteration to follow began: now, or when the first request came."""
        idle = not self._running and not self._waiting
        found = self._clock.arrived(wait=idle)
        if idle:
            self._woken_s.append(self._clock.now_s() - found[0].time_s)
            boundary_s = self._clock.now_s()
        for one in found:
            request = Request(
                self._sent, 0, one.time_s, one.prompt_tokens, one.output_tokens, 0, done=lambda request: None
            )
            self._sent += 1
            self._scheduler.add(request)
            self._waiting += 1
        return boundary_s

    def _iterate(self, start_s: float) -> float:
        """Decide an iteration that began at `start_s`, compute it, and hand out its tokens; return when it ended."""
        chosen = self._schedule()
        parts = [
            Part(live.slot, live.computed, live.tokens[live.computed : live.computed + count],
                 live.computed + count == len(live.tokens))
            for live, count in chosen
        ]  # fmt: skip
        work = _work(chosen)
        begun_s = self._clock.now_s()
        tokens = iter(self._computer.compute(parts))
        computed_s = self._clock.now_s()
        emitted = []
        for (live, count), part in zip(chosen, parts, strict=True):
            live.computed += count
            if part.emits:
                live.tokens.append(next(tokens))
                emitted.append(live)
        end_s = self._clock.now_s()
        for live in emitted:
            self._deliver(live, end_s)
        device_s = computed_s - begun_s
        self._log.rows.append((*work, device_s, end_s - start_s - device_s))
        return end_s

    def _schedule(self) -> list[tuple[_Live, int]]:
        """Return who computes how many tokens: running requests in order of admission, then the waiting queue."""
        budget = self._settings.max_num_batched_tokens
        chosen: list[tuple[_Live, int]] = []
        for live in self._running.values():
            count = min(len(live.tokens) - live.computed, budget)
            if count:
                chosen.append((live, count))
                budget -= count
        while budget > 0 and self._waiting and len(self._running) < self._settings.max_num_seqs:
            request = self._scheduler.pop()
            self._waiting -= 1
            prompt = self._rng.integers(self._vocab, size=request.prompt_tokens).tolist()
            live = self._running[request] = _Live(request, self._free.pop(), prompt)
            count = min(len(prompt), budget)
            chosen.append((live, count))
            budget -= count
        return chosen

    def _deliver(self, live: _Live, now_s: float) -> None:
        request = live.request
        if not live.is_decoding:
            live.first_token_s = self._first_s[request.request_id] = now_s
        if len(live.tokens) == request.prompt_tokens + request.output_tokens:
            self._last_s[request.request_id] = now_s
            del self._running[request]
            self._free.append(live.slot)
            self._ended += 1


def _work(chosen: Sequence[tuple[_Live, int]]) -> tuple[float, ...]:
    """Return (prefill tokens, prompts, pairs, decoding sequences, their summed context) of an iteration."""
    tokens = prompts = pairs = seqs = context = 0
    for live, count in chosen:
        if live.is_decoding:
            seqs += 1
            context += live.computed
        else:
            tokens += count
            prompts += 1
            pairs += count * live.computed + count * (count + 1) // 2
    return tokens, prompts, pairs, seqs, context
