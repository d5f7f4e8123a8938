"""The readable definition of continuous batching: one iteration and one sequence at a time.

Slow on purpose. It follows the rules of docs/engine.md in the order in which vLLM's scheduler applies them, keeps the
context, blocks and tokens of every sequence explicitly, and wakes at every iteration boundary. The span engine in
`servesim.engine.continuous` must give the same records; `tests/engine/test_spans.py` holds them to it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from servesim.engine.block_queue import BlockQueue
from servesim.engine.kv import blocks_for
from servesim.engine.settings import EngineSettings, refuse_too_many
from servesim.engine.timing import Shape, Timing, boundary_s
from servesim.metrics.record import RUN_COLUMNS, SEGMENT_COLUMNS, ReplicaRecord
from servesim.metrics.spool import Spool
from servesim.policies.scheduling.base import Scheduler
from servesim.request import (
    ADMISSION,
    COMPLETED,
    DECODE,
    GONE,
    LEAVING,
    PENDING,
    PREFILL,
    WAITING,
    Request,
)
from servesim.service_time.base import IterationTime
from servesim.service_time.noise import IterationNoise
from servesim.system.clock import BOUNDARY, IDLE_START, Alarm, Clock


@dataclass(slots=True, eq=False)
class Sequence:
    """What the engine knows of an admitted request.

    `length` counts the tokens whose KV entries are wanted: the prompt and everything generated, tokens on the way
    included. It is `finished` at `final_length`, though its last token may still be on the way.
    """

    request: Request
    length: int
    final_length: int
    computed: int
    blocks: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, request: Request) -> Sequence:
        """Return the sequence of a request that is admitted for the first time or again."""
        prompt = request.prompt_tokens
        return cls(request, prompt + request.generated_tokens, prompt + request.output_tokens, request.computed_tokens)

    @property
    def generated_tokens(self) -> int:
        """Output tokens so far, those on the way included."""
        return self.length - self.request.prompt_tokens


def sequence_tokens(request: Request) -> int:
    """Return the tokens of a waiting request: its prompt, and what it generated before it was preempted."""
    return request.prompt_tokens + request.generated_tokens


@dataclass
class Batch:
    """One decided iteration: who emits a token at its end, and when it ends."""

    emitting: list[Sequence]
    end_s: float


@dataclass
class Run:
    """The open run of iterations with an unchanged decode-only batch, or a single iteration with prefill."""

    start_s: float
    shape: Shape
    decoding: list[Sequence]
    context_tokens: int
    prefill_seqs: int
    prefill_tokens: int
    used_blocks_first: int
    used_blocks_last: int
    iterations: int = 0

    def boundary_s(self) -> float:
        """Return the end of the last iteration counted."""
        first_s, bend_s, *_ = self.shape
        return boundary_s(self.start_s, first_s, bend_s, self.iterations)

    def exposed_s(self) -> float:
        """Return the host time not hidden by the device so far."""
        _, _, first_s, bend_s, _ = self.shape
        return self.iterations * (first_s + bend_s * (self.iterations - 1))

    def limit_tokens(self) -> float:
        """Return the summed context up to which the shape holds."""
        return self.shape[4]


class ReferenceEngine:
    """One replica with the interface of `ContinuousEngine`, one event per iteration."""

    def __init__(
        self,
        clock: Clock,
        index: int,
        settings: EngineSettings,
        scheduler: Scheduler,
        times: IterationTime,
        record: Callable[[Request], None],
        noise: IterationNoise | None = None,
    ) -> None:
        self._clock = clock
        self.index = index
        self.settings = settings
        self._scheduler = scheduler
        scheduler.start()
        self._record = record
        self._timing = Timing(
            times, settings.host_time_s, settings.host_time_per_seq_s, settings.async_scheduling, noise
        )
        self._iteration = 0
        self.usable = self.free = settings.num_gpu_blocks - 1
        self._block_queue = BlockQueue(self.usable)
        self._watermark_blocks = int(settings.watermark * settings.num_gpu_blocks)
        self.runs = Spool(RUN_COLUMNS)
        self.segments = Spool(SEGMENT_COLUMNS)
        self._rows = 0
        self.running: dict[Request, Sequence] = {}
        self._waiting_requests: list[Request] = []
        self.waiting = 0
        self.preemptions = 0
        self._queue: deque[Batch] = deque()
        self._aborted: list[Request] = []
        self._run: Run | None = None
        self._emitting: list[Sequence] = []
        self._exposed_before_run_s = 0.0
        self._held_iterations = 0
        self._depth = 2 if settings.async_scheduling else 1
        self._idle = True
        self._alarm = Alarm(self._boundary, BOUNDARY + index)
        self._start_alarm = Alarm(self._turn, IDLE_START)

    # ---- what the outside calls -------------------------------------------------------------------------------

    def submit(self, request: Request, computed_tokens: int = 0) -> None:
        """Accept a request at the present time; the KV entries of its first `computed_tokens` are there already."""
        request.replica = self.index
        request.computed_tokens = computed_tokens
        refuse_too_many(computed_tokens, request)
        delay = self.settings.admission_time_s + self.settings.admission_time_per_token_s * request.prompt_tokens
        if delay > 0:
            request.admission_s = delay
            request.stage = ADMISSION
            self._clock.call_at(self._clock.now_s + delay, partial(self._enqueue, request))
        else:
            self._enqueue(request)

    def cancel(self, request: Request, outcome: int) -> None:
        """End a request with `outcome` now; see `ContinuousEngine.cancel`."""
        if request.stage == GONE:
            return
        request.outcome = outcome
        request.cancelled_s = self._clock.now_s
        if request.stage == WAITING:
            self._scheduler.remove(request)
            self._waiting_requests.remove(request)
            self.waiting -= 1
            self._end_cancelled(request)
        elif request.stage == ADMISSION:
            self._end_cancelled(request)
        elif request.stage != LEAVING:
            self._aborted.append(request)

    @property
    def outstanding(self) -> int:
        """Requests submitted to the scheduler and not yet released."""
        return self.waiting + len(self.running)

    def spools(self) -> list[Spool]:
        """Return the logs that grow as the replica works."""
        return [self.runs, self.segments]

    def log(self) -> ReplicaRecord:
        """Return what the replica did."""
        settings = self.settings
        return ReplicaRecord(
            self.runs, self.segments, settings.num_gpu_blocks - 1, settings.block_size, settings.max_num_seqs
        )

    def _enqueue(self, request: Request) -> None:
        if request.stage == GONE:
            return
        tokens = request.prompt_tokens + request.output_tokens
        if tokens > self.settings.max_model_len:
            self._reject(request, "exceeds max_model_len")
        elif blocks_for(tokens - 1, self.settings.block_size) > self.usable:
            self._reject(request, "needs more KV blocks than the replica has")
        else:
            request.stage = WAITING
            self._scheduler.add(request)
            self._waiting_requests.append(request)
            self.waiting += 1
            if self._idle:
                self._idle = False
                self._clock.arm(self._start_alarm, self._clock.now_s)

    def _reject(self, request: Request, reason: str) -> None:
        request.refuse(reason, self._clock.now_s)
        request.done(request)
        self._record(request)

    def _end_cancelled(self, request: Request) -> None:
        request.end_cancelled()
        self._record(request)

    # ---- the loop ---------------------------------------------------------------------------------------------

    def _boundary(self) -> None:
        batch = self._queue.popleft()
        if not self._queue:
            self._mark_progress(batch.end_s)
        self._finish(batch)
        self._turn()

    def _turn(self) -> None:
        """Fill the queue of decided batches (one, or two in one-ahead mode), then sleep until the first one ends."""
        while len(self._queue) < self._depth:
            start_s = self._queue[-1].end_s if self._queue else self._clock.now_s
            batch = self._schedule(start_s, cold=not self._queue)
            if batch is None:
                break
            self._queue.append(batch)
        self._idle = not self._queue
        if self._queue:
            self._clock.arm(self._alarm, self._queue[0].end_s)

    def _finish(self, batch: Batch) -> None:
        """Release the sequences whose last token this batch emitted."""
        for sequence in batch.emitting:
            request = sequence.request
            if request.stage != LEAVING or request.finish_s > batch.end_s:
                continue  # not its last token, or the last one is still on the way
            if self.running.pop(request, None) is not None:
                self._give_back(sequence)
            request.generated_tokens = request.output_tokens
            if request.outcome == PENDING:
                request.stage = GONE
                request.outcome = COMPLETED
                request.done(request)
                self._record(request)
            else:
                self._end_cancelled(request)

    def _drop_aborted(self) -> None:
        for request in self._aborted:
            if request.stage in (PREFILL, DECODE):
                self._close_run()
                sequence = self.running.pop(request)
                self._give_back(sequence)
                request.generated_tokens = sequence.generated_tokens
                if request.stage == DECODE:
                    request.last_row = self._rows
                self._end_cancelled(request)
        self._aborted.clear()

    # ---- one decision -----------------------------------------------------------------------------------------

    def _schedule(self, start_s: float, cold: bool) -> Batch | None:
        """Decide the iteration that starts at `start_s`: running requests first, then the waiting queue."""
        self._mark_progress(start_s)
        self._drop_aborted()
        settings = self.settings
        budget, block_size = settings.max_num_batched_tokens, settings.block_size
        decoding: list[Sequence] = []
        chunks: list[tuple[Sequence, int]] = []
        order = list(self.running.values())
        index = 0
        preempted = False
        while index < len(order) and budget > 0:
            sequence = order[index]
            index += 1
            if sequence.length == sequence.final_length:
                continue
            tokens = min(sequence.length - sequence.computed, budget)
            needed = blocks_for(sequence.computed + tokens, block_size) - len(sequence.blocks)
            while needed > self.free:
                preempted = True
                victim = self.running[self._scheduler.victim(self.running)]  # type: ignore[arg-type]
                position = order.index(victim)
                order.remove(victim)
                if position < index:
                    index -= 1
                    budget += self._unschedule(victim, decoding, chunks)
                self._evict(victim, start_s)
                if victim is sequence:
                    break
            else:
                self._allocate(sequence, needed)
                budget -= tokens
                if sequence.request.stage == DECODE:
                    decoding.append(sequence)
                else:
                    chunks.append((sequence, tokens))
        if not preempted and not (decoding and self._holds(budget, len(decoding))):
            self._admit(start_s, budget, chunks)
        return self._commit(start_s, decoding, chunks, cold)

    def _allocate(self, sequence: Sequence, blocks: int) -> None:
        sequence.blocks += self._block_queue.take(blocks)
        self.free -= blocks

    def _give_back(self, sequence: Sequence) -> None:
        self.free += len(sequence.blocks)
        self._block_queue.give_back(sequence.blocks)
        sequence.blocks = []

    def _claim(self, sequence: Sequence) -> None:
        """Give a resuming request the blocks with its tokens that are still there."""
        blocks = sequence.computed // self.settings.block_size
        sequence.blocks = self._block_queue.claim(sequence.request, blocks)
        self.free -= blocks

    def _unschedule(self, victim: Sequence, decoding: list[Sequence], chunks: list[tuple[Sequence, int]]) -> int:
        """Take a sequence that was already served in this step out again; return its tokens."""
        if victim in decoding:
            decoding.remove(victim)
            return 1
        for entry in chunks:
            if entry[0] is victim:
                chunks.remove(entry)
                return entry[1]
        return 0

    def _evict(self, victim: Sequence, start_s: float) -> None:
        """Preempt: drop the KV cache; everything will be recomputed."""
        self.preemptions += 1
        request = victim.request
        del self.running[request]
        full = victim.blocks[: victim.computed // self.settings.block_size]
        self._give_back(victim)
        if request.stage == LEAVING:
            return
        self._close_run()
        if self.settings.resume_from_cache:
            self._block_queue.remember(request, full)
        if request.stage == DECODE:
            request.last_row = self._rows
            request.last_token_s = start_s
        request.generated_tokens = victim.generated_tokens
        request.computed_tokens = 0
        if request.stage == DECODE or request.preemptions == 0:  # else it was still recomputing
            request.mark_s = start_s
            request.mark_host_s = self._exposed_s()
        request.preemptions += 1
        request.stage = WAITING
        self._scheduler.requeue(request)
        self._waiting_requests.append(request)
        self.waiting += 1

    def _holds(self, budget: int, decoding: int) -> bool:
        """Return whether the waiting requests wait one iteration more, for company.

        They do while fewer than `batch_wait_tokens` tokens would be scheduled, but not for ever, and only if the first
        of them could be admitted.
        """
        settings = self.settings
        if settings.batch_wait_timeout_iters == 0 or not self._could_admit(budget):
            return False
        tokens = sum(sequence_tokens(request) for request in self._waiting_requests)
        enough = min(tokens, budget) + decoding >= settings.batch_wait_tokens
        if enough or self._held_iterations >= settings.batch_wait_timeout_iters:
            self._held_iterations = 0
            return False
        self._held_iterations += 1
        return True

    def _could_admit(self, budget: int) -> bool:
        settings = self.settings
        if budget <= 0 or not self.waiting or len(self.running) >= settings.max_num_seqs:
            return False
        request = self._scheduler.head()
        blocks = blocks_for(request.prompt_tokens + request.generated_tokens, settings.block_size)
        fits = blocks <= self.free - self._watermark_blocks and self._can_finish(request)
        return sequence_tokens(request) <= budget and fits

    def _can_finish(self, request: Request) -> bool:
        """Return whether the blocks are enough for it and everything that runs to finish, where that is asked."""
        if not self.settings.guaranteed_no_evict:
            return True
        reserved = sum(self._final_blocks(running) for running in self.running)
        return reserved + self._final_blocks(request) <= self.usable

    def _final_blocks(self, request: Request) -> int:
        return blocks_for(request.prompt_tokens + request.output_tokens - 1, self.settings.block_size)

    def _admit(self, start_s: float, budget: int, chunks: list[tuple[Sequence, int]]) -> None:
        settings = self.settings
        while budget > 0 and self.waiting and len(self.running) < settings.max_num_seqs:
            request = self._scheduler.head()
            sequence = Sequence.of(request)
            if request.preemptions:
                sequence.computed = self._block_queue.found(request) * settings.block_size
            tokens = sequence.length - sequence.computed
            if tokens > budget and not settings.enable_chunked_prefill:
                return
            tokens = min(tokens, budget)
            free = self.free - (self._watermark_blocks if self.running else 0)
            needed = blocks_for(sequence.computed + tokens, settings.block_size)
            must_fit = sequence.length if settings.scheduler_reserve_full_isl else sequence.computed + tokens
            if blocks_for(must_fit, settings.block_size) > free or not self._can_finish(request):
                return
            self._scheduler.pop()
            self._waiting_requests.remove(request)
            self.waiting -= 1
            self.running[request] = sequence
            if request.preemptions:
                self._claim(sequence)
            self._allocate(sequence, needed - len(sequence.blocks))
            budget -= tokens
            chunks.append((sequence, tokens))
            request.stage = PREFILL
            if request.preemptions == 0:
                request.first_scheduled_s = start_s
                request.start_host_s = self._exposed_s()

    def _commit(
        self, start_s: float, decoding: list[Sequence], chunks: list[tuple[Sequence, int]], cold: bool
    ) -> Batch | None:
        """Turn the decision into a batch with an end, continuing the open run if nothing changed."""
        if not decoding and not chunks:
            self._close_run()
            return None
        used = self.usable - self.free
        context = sum(sequence.computed for sequence in decoding)
        if chunks:
            self._close_run()
            tokens = sum(count for _, count in chunks)
            pairs = sum(count * sequence.computed + count * (count + 1) // 2 for sequence, count in chunks)
            shape = self._timing.mixed(len(decoding), context, len(chunks), tokens, pairs, cold, self._iteration)
            self._run = Run(start_s, shape, decoding, context, len(chunks), tokens, used, used)
        elif (
            self._run is None
            or self._run.prefill_seqs
            or self._run.decoding != decoding
            or context > self._run.limit_tokens()
        ):
            self._close_run()
            shape = self._timing.decode(len(decoding), context, self._iteration)
            self._run = Run(start_s, shape, decoding, context, 0, 0, used, used)
        self._run.iterations += 1
        self._iteration += 1
        self._run.used_blocks_last = used
        for sequence in decoding:
            sequence.computed += 1
            sequence.length += 1
        self._emitting = list(decoding)
        for sequence, tokens in chunks:
            sequence.computed += tokens
            if sequence.computed == sequence.length:
                sequence.length += 1
                self._emitting.append(sequence)
        return Batch(self._emitting, self._run.boundary_s())

    def _mark_progress(self, now_s: float) -> None:
        """Note first tokens, resumptions and last tokens of the iteration that ends at `now_s`."""
        emitted, self._emitting = self._emitting, []
        for sequence in emitted:
            request = sequence.request
            if request.stage == PREFILL:
                self._close_run()
                self._joined(sequence, now_s)
            if sequence.length == sequence.final_length:
                self._close_run()
                request.stage = LEAVING
                request.finish_s = now_s
                request.host_s = self._exposed_s() - request.start_host_s
                request.last_row = self._rows

    def _joined(self, sequence: Sequence, now_s: float) -> None:
        """A sequence's prefill ended with its first token, or with its next one if it was preempted before."""
        request = sequence.request
        request.stage = DECODE
        if request.preemptions:
            request.preempted_s += now_s - request.mark_s
            request.start_host_s += self._exposed_s() - request.mark_host_s
        if sequence.generated_tokens == 1:
            request.first_token_s = now_s
            request.preempted_ttft_s = request.preempted_s
            request.host_ttft_s = self._exposed_s() - request.start_host_s
        else:
            self.segments.add(
                (
                    request.request_id,
                    request.class_index,
                    self.index,
                    request.first_row,
                    request.last_row,
                    request.last_token_s,
                    now_s,
                )
            )
        request.first_row = self._rows

    # ---- runs -------------------------------------------------------------------------------------------------

    def _exposed_s(self) -> float:
        return self._exposed_before_run_s + (self._run.exposed_s() if self._run else 0.0)

    def _close_run(self) -> None:
        run = self._run
        if run is None:
            return
        self._exposed_before_run_s = self._exposed_s()
        first_s, bend_s, *_ = run.shape
        batch = (run.start_s, len(run.decoding), run.context_tokens, run.prefill_seqs, run.prefill_tokens)
        self.runs.add((*batch, first_s, bend_s, run.used_blocks_first, run.iterations, run.used_blocks_last))
        self._rows += 1
        self._run = None
