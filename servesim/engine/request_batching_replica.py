"""A replica that computes batches of whole requests."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING

from servesim.engine.base import Surroundings
from servesim.engine.whole_requests import Holding
from servesim.metrics.record import ReplicaRecord
from servesim.policies.batching.base import BatchServer
from servesim.request import GONE, LEAVING, PENDING, WAITING, Request
from servesim.service_time.base import BatchTime
from servesim.system.clock import BATCH_START, BOUNDARY, Alarm

if TYPE_CHECKING:
    from servesim.engine.request_batching import RequestBatching

# Seconds of a batch from its size, longest prompt and longest output.
Seconds = Callable[[int, int, int], float]


_QUEUE_FULL = "max_queue_size requests wait"


class _Instance:
    """One instance: the batch it computes and the alarm for its end."""

    __slots__ = ("alarm", "batch", "prompt_tokens", "seconds", "start_s")

    batch: list[Request]
    start_s: float
    seconds: float
    prompt_tokens: int

    def __init__(self, ended: Callable[[_Instance], None], priority: int) -> None:
        self.alarm = Alarm(lambda: ended(self), priority)


class BatchingReplica(Holding):
    """One replica at run time.

    It looks for batches to start at the end of every instant at which one might: simultaneous arrivals, and what closed
    loops send at the end of a batch, are seen together.
    """

    def __init__(
        self, spec: RequestBatching, around: Surroundings, index: int, seconds: Seconds, times: BatchTime | None
    ) -> None:
        servers = inf if spec.instances == "unlimited" else spec.instances
        super().__init__(around, index, servers=servers, max_batch=spec.batcher.largest)
        self._seconds = seconds
        self._batcher = spec.batcher.live()
        self._batcher.start(BatchServer(self._predict_s if times else None, around.deadlines_s))
        self._pads_prompts = times is not None and times.pads_prompts
        self._pads_outputs = times is not None and times.pads_outputs
        self._contention = spec.instance_contention
        self._running = 0
        self._most_waiting = inf if spec.max_queue_size is None else spec.max_queue_size
        self._can_start = servers
        self._idle: list[_Instance] = []
        self._look_alarm = Alarm(self._look, BATCH_START + index)
        self._looks = False
        self._newcomers: list[Request] = []
        self._waiting = self._inside = 0
        self._computed_tokens = self._useful_tokens = 0
        self._clock.at_rest.append(self._give_up)

    @property
    def outstanding(self) -> int:
        """Requests waiting or in a batch."""
        return self._inside

    def _predict_s(self, batch_size: int, prompt_tokens: int, output_tokens: int) -> float:
        """Return how long a batch would take that starts now, beside those that run."""
        return self._seconds(batch_size, prompt_tokens, output_tokens) * (1 + self._contention * self._running)

    def log(self) -> ReplicaRecord:
        """Return what the replica did."""
        record = super().log()
        record.computed_tokens, record.useful_tokens = self._computed_tokens, self._useful_tokens
        return record

    def submit(self, request: Request, computed_tokens: int = 0) -> None:
        """Queue a request, or reject it."""
        request.replica = self.index
        now_s = self._clock.now_s
        # While an instance is idle it is asked first: who goes into a batch at this instant does not wait.
        if self._waiting >= self._most_waiting and not self._can_start:
            self.refuse(request, _QUEUE_FULL)
            return
        if reason := self._batcher.add(request, now_s):
            self.refuse(request, reason)
            return
        request.stage = WAITING
        self._waiting += 1
        self._inside += 1
        if self._can_start:
            if self._most_waiting < inf:
                self._newcomers.append(request)
            if not self._looks:
                self._look_soon()

    def cancel(self, request: Request, outcome: int) -> None:
        """End a request with `outcome` now for its client; if it is in a batch, the batch goes on as it is."""
        if request.stage == GONE:
            return
        request.outcome = outcome
        request.cancelled_s = self._clock.now_s
        self._inside -= 1
        if request.stage == WAITING:
            self._batcher.remove(request)
            self._waiting -= 1
            self.left(request)
        else:
            request.end_cancelled()  # nothing of the answer will have been given

    def _look_soon(self) -> None:
        self._looks = True
        self._clock.arm(self._look_alarm, self._clock.now_s)

    def _look(self) -> None:
        """Start what can start now, and set the timer if something may become ready by itself."""
        self._looks = False
        self._start_batches()
        while self._newcomers:
            request = self._newcomers.pop()
            if self._waiting > self._most_waiting and request.stage == WAITING:
                self._batcher.remove(request)
                self._reject(request, _QUEUE_FULL)
        self._newcomers.clear()

    def _start_batches(self) -> None:
        batcher, now_s = self._batcher, self._clock.now_s
        while self._can_start and self._waiting:
            batch = batcher.next_batch(now_s)
            for request, reason in batcher.take_rejected():
                self._reject(request, reason)
            if not batch:
                self._set_timer(batcher.timer_s())
                return
            self._start(batch, now_s)

    def _set_timer(self, time_s: float) -> None:
        """Look again at `time_s`; an arrival or the end of a batch before then replaces it."""
        if time_s < inf and self._waiting:
            self._clock.arm(self._look_alarm, time_s)

    def _start(self, batch: list[Request], now_s: float) -> None:
        longest_prompt = longest_output = prompts = outputs = 0
        for request in batch:
            request.stage = LEAVING
            request.first_scheduled_s = now_s
            prompt, output = request.prompt_tokens, request.output_tokens
            prompts += prompt
            outputs += output
            if prompt > longest_prompt:
                longest_prompt = prompt
            if output > longest_output:
                longest_output = output
        size = len(batch)
        if self._pads_prompts:
            self._computed_tokens += size * longest_prompt
            self._useful_tokens += prompts
        if self._pads_outputs:
            self._computed_tokens += size * longest_output
            self._useful_tokens += outputs
        instance = self._idle.pop() if self._idle else _Instance(self._ended, BOUNDARY + self.index)
        self._waiting -= size
        self._can_start -= 1
        instance.batch, instance.start_s, instance.prompt_tokens = batch, now_s, prompts
        seconds = self._seconds(size, longest_prompt, longest_output)
        if self._contention:
            seconds *= 1 + self._contention * self._running
        self._running += 1
        instance.seconds = seconds
        self._clock.arm(instance.alarm, now_s + seconds)

    def _ended(self, instance: _Instance) -> None:
        batch, now_s = instance.batch, self._clock.now_s
        self.log_service(instance.start_s, instance.seconds, len(batch), instance.prompt_tokens)
        self._idle.append(instance)
        self._can_start += 1
        self._running -= 1
        for request in batch:
            if request.outcome == PENDING:
                self._inside -= 1
                self.answer(request, now_s)
            else:
                self.computed_in_vain(request)
        self._batcher.completed(batch, instance.seconds, now_s)
        if self._waiting and not self._looks:
            self._look_soon()

    def _reject(self, request: Request, reason: str) -> None:
        self._waiting -= 1
        self._inside -= 1
        self.refuse(request, reason)

    def _give_up(self) -> bool:
        """Reject who waits for company although nothing is left that could happen."""
        left = self._batcher.waiting()
        for request in left:
            self._batcher.remove(request)
            self._reject(request, f"the {self._batcher.kind} batcher waited for a batch that nothing more could fill")
        return bool(left)
