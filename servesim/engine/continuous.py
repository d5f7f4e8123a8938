"""Continuous batching of one replica, a span at a time.

The semantics are those of vLLM's V1 scheduler (read at 0.32 and 0.33; see docs/engine.md for each rule and where it
comes from). At most iteration boundaries nothing is decided, so the engine does not stop there: it plans a *run* of
iterations with an unchanged batch up to the first boundary at which something can happen (a sequence ends, KV blocks
run out, a request arrives that could be admitted) and sleeps until then. All per-batch quantities are counters.
`servesim.engine.reference` says the same one iteration and one sequence at a time; a property test holds them equal.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush

from servesim.engine.kv import BlockCounter, blocks_for
from servesim.engine.resume_cache import ResumeCache
from servesim.engine.settings import EngineSettings, refuse_too_many
from servesim.engine.timing import Shape, Timing, boundary_s, iterations_until
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

_IDLE, _STARTING, _RUNNING, _ENDING = range(4)


class ContinuousEngine:
    """One replica.

    `submit` takes a request; its `done` is called once, when it completes or is rejected, and `record` once, when the
    engine holds nothing of it any more, however it ended.

    `iteration` is the next iteration to be decided; every counter is true as of its beginning. In one-ahead mode the
    batch of an iteration is decided when the iteration before it starts, so a sequence in its last iteration is no
    longer decoding but still holds its slot and blocks: it is LEAVING.
    """

    __slots__ = (
        "_aborted",
        "_add_waiting",
        "_admissions",
        "_ahead",
        "_alarm",
        "_batch",
        "_bend_s",
        "_budget",
        "_cache",
        "_clock",
        "_context_tokens",
        "_decided",
        "_decode_seqs",
        "_ends",
        "_exposed_before_run_s",
        "_exposed_bend_s",
        "_exposed_first_s",
        "_exposed_s",
        "_first_s",
        "_fresh",
        "_has_admission",
        "_has_host",
        "_held_iterations",
        "_leaving",
        "_limit_tokens",
        "_max_seqs",
        "_max_tokens",
        "_no_evict",
        "_partial",
        "_phase",
        "_planned",
        "_record",
        "_reserved_blocks",
        "_rows",
        "_run_start_s",
        "_scheduler",
        "_start_alarm",
        "_timing",
        "_used_blocks",
        "_wait_iterations",
        "_waiting_tokens",
        "_watermark_blocks",
        "index",
        "iteration",
        "kv",
        "preemptions",
        "running",
        "runs",
        "segments",
        "settings",
        "waiting",
    )

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
        self._record = record
        self._scheduler = scheduler
        scheduler.start()
        self._add_waiting = scheduler.add
        self._timing = Timing(
            times, settings.host_time_s, settings.host_time_per_seq_s, settings.async_scheduling, noise
        )
        self._ahead = settings.async_scheduling
        self.kv = BlockCounter(settings.num_gpu_blocks, settings.block_size)
        self._cache = ResumeCache() if settings.resume_from_cache else None
        self._watermark_blocks = int(settings.watermark * settings.num_gpu_blocks)
        self._max_tokens = min(settings.max_model_len, self.kv.usable * settings.block_size + 1)
        self._max_seqs = settings.max_num_seqs
        self._budget = settings.max_num_batched_tokens
        self._no_evict = settings.guaranteed_no_evict
        self._wait_iterations = settings.batch_wait_timeout_iters
        self._has_admission = settings.admission_time_s > 0 or settings.admission_time_per_token_s > 0

        self.runs = Spool(RUN_COLUMNS)
        self.segments = Spool(SEGMENT_COLUMNS)
        self._rows = 0

        self.running: dict[Request, None] = {}
        self.waiting = 0
        self.preemptions = 0
        self.iteration = 0
        self._admissions = 0
        self._reserved_blocks = 0
        self._held_iterations = 0
        self._waiting_tokens = 0
        self._decode_seqs = 0
        self._context_tokens = 0
        self._ends: list[tuple[int, int, Request]] = []
        self._partial: Request | None = None
        self._fresh: list[Request] = []
        self._leaving: list[Request] = []
        self._aborted: list[Request] = []
        self._exposed_s = self._exposed_before_run_s = 0.0

        self._has_host = settings.host_time_s > 0 or settings.host_time_per_seq_s > 0
        self._alarm = Alarm(self._ring_ahead if self._ahead else self._ring, BOUNDARY + index)
        self._start_alarm = Alarm(self._alarm.ring, IDLE_START)
        self._phase = _IDLE
        self._decided = self._planned = 0
        self._batch: tuple[float, ...] = ()
        self._run_start_s = self._first_s = self._bend_s = 0.0
        self._exposed_first_s = self._exposed_bend_s = 0.0
        self._used_blocks = 0
        self._limit_tokens: float = -1.0

    # ---- what the outside calls -------------------------------------------------------------------------------

    def submit(self, request: Request, computed_tokens: int = 0) -> None:
        """Accept a request at the present time; the KV entries of its first `computed_tokens` are there already."""
        if self._has_admission and request.stage != ADMISSION:
            self._delay(request, computed_tokens)
            return
        request.replica = self.index
        request.computed_tokens = computed_tokens
        if computed_tokens:
            refuse_too_many(computed_tokens, request)
        tokens = request.prompt_tokens + request.output_tokens
        if tokens > self._max_tokens:
            self._reject(request, tokens)
            return
        request.stage = WAITING
        is_head = self._add_waiting(request)
        self.waiting += 1
        if self._wait_iterations:
            self._waiting_tokens += request.prompt_tokens
        phase = self._phase
        if phase == _RUNNING:
            # Look again only if the head could be admitted before the planned end of the run. Free blocks and slots
            # only shrink until then, so that a no is certain.
            if self._wait_iterations:
                self._poke()  # anyone may be the one that others wait for
            elif is_head and self._planned > self._decided + 1 and len(self.running) < self._max_seqs:
                needed = request.prompt_tokens if self.settings.scheduler_reserve_full_isl else 1
                if needed <= self.kv.free * self.kv.block_size:
                    self._poke()
        elif phase == _IDLE:
            self._phase = _STARTING
            self._clock.arm(self._start_alarm, self._clock.now_s)

    def _delay(self, request: Request, computed_tokens: int) -> None:
        """Let a request pass the front end before it is queued."""
        settings = self.settings
        request.replica = self.index
        request.stage = ADMISSION
        request.admission_s = settings.admission_time_s + settings.admission_time_per_token_s * request.prompt_tokens
        self._clock.call_at(
            self._clock.now_s + request.admission_s, partial(self._admission_over, request, computed_tokens)
        )

    def _admission_over(self, request: Request, computed_tokens: int) -> None:
        if request.stage == ADMISSION:  # not cancelled meanwhile
            self.submit(request, computed_tokens)

    def cancel(self, request: Request, outcome: int) -> None:
        """End a request with `outcome` now: its client is gone.

        A waiting request leaves at once; a running one at the next iteration boundary, until when it costs as before.
        """
        stage = request.stage
        if stage == GONE:
            return
        request.outcome = outcome
        request.cancelled_s = self._clock.now_s
        if stage == WAITING:
            was_head = self._scheduler.head() is request
            self._scheduler.remove(request)
            self.waiting -= 1
            self._waiting_tokens -= request.prompt_tokens + request.generated_tokens
            if self._cache is not None:
                self._cache.forget(request)
            if was_head and self.waiting:
                self._poke()
            self._cancelled(request)
        elif stage == ADMISSION:
            self._cancelled(request)
        elif stage != LEAVING:
            self._aborted.append(request)
            self._poke()

    def _cancelled(self, request: Request) -> None:
        request.end_cancelled()
        self._record(request)

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

    def _reject(self, request: Request, tokens: int) -> None:
        limit = self.settings.max_model_len
        reason = "exceeds max_model_len" if tokens > limit else "needs more KV blocks than the replica has"
        request.refuse(reason, self._clock.now_s)
        request.done(request)
        self._record(request)

    def _poke(self) -> None:
        """Look again at the next boundary: cut the planned run there."""
        if self._phase != _RUNNING:
            return
        # In one-ahead mode a decision lies one iteration before the batch it is about.
        lookahead = 1 if self._ahead else 0
        planned = self._planned - lookahead
        first = self._decided + 1 - lookahead
        if planned <= first:
            return
        clock = self._clock
        inclusive = clock.priority < self._alarm.priority  # this instant's boundary is still to come
        j = iterations_until(self._run_start_s, self._first_s, self._bend_s, clock.now_s, inclusive)
        j = max(j, first)
        if j < planned:
            self._planned = j + lookahead
            clock.arm(self._alarm, boundary_s(self._run_start_s, self._first_s, self._bend_s, j))

    # ---- boundaries -------------------------------------------------------------------------------------------

    def _ring(self) -> None:
        """Synchronous mode: a run ends, or an idle engine wakes; the next iteration is decided and starts."""
        now_s = self._clock.now_s
        if self._phase == _RUNNING:
            self._advance(now_s)
            if self._leaving:
                self._release()
        if self._aborted:
            self._abort()
        if self._decide(now_s, True):
            self._phase = _RUNNING
            planned = self._planned
            # boundary_s, written out: this is every second event of a run
            self._clock.arm(self._alarm, self._run_start_s + planned * (self._first_s + self._bend_s * (planned - 1)))
        else:
            self._phase = _IDLE

    def _ring_ahead(self) -> None:
        """One-ahead mode: time to look ahead, or the end of a run whose successor, if any, is already decided."""
        if self._phase != _RUNNING:
            if self._leaving:
                self._release()
            if not self._planned:
                if self._aborted:
                    self._abort()
                if not self._decide(self._clock.now_s, True):
                    self._phase = _IDLE
                    return
            self._phase = _RUNNING
        self._look_ahead()

    def _look_ahead(self) -> None:
        """One-ahead mode, at the start of the run's last planned iteration: decide the iteration after it."""
        end_s = boundary_s(self._run_start_s, self._first_s, self._bend_s, self._planned)
        planned = self._planned
        self._advance(end_s)
        if self._aborted:
            self._abort()
        self._decide(end_s, False)
        if self._decided == planned and self._planned > planned:
            # The same run goes on: sleep until the start of its last planned iteration.
            time_s = boundary_s(self._run_start_s, self._first_s, self._bend_s, self._planned - 1)
            self._clock.arm(self._alarm, time_s)
        else:
            self._phase = _ENDING
            self._clock.arm(self._alarm, end_s)

    def _advance(self, end_s: float) -> None:
        """Bring the counters to the end of the planned iterations, which is at `end_s`."""
        decided, planned = self._decided, self._planned
        steps = planned - decided
        decoding = self._decode_seqs
        iteration = self.iteration
        if decoding:
            kv = self.kv
            if planned == 1:
                kv.free -= kv.due[iteration % kv.block_size]
            else:
                kv.free -= kv.needed(iteration, steps, decoding)
                self._used_blocks = kv.usable - kv.free
            self._context_tokens += decoding * steps
        self.iteration = iteration = iteration + steps
        self._decided = planned
        if self._has_host:
            self._exposed_s = self._exposed_before_run_s + planned * (
                self._exposed_first_s + self._exposed_bend_s * (planned - 1)
            )
        if self._fresh:
            self._join(end_s)
        ends = self._ends
        if ends and ends[0][0] <= iteration:
            self._retire(end_s)

    def _join(self, now_s: float) -> None:
        """Turn the sequences whose prefill just ended into decoding ones; their token is out at `now_s`."""
        self._close_run()
        iteration, ends, kv = self.iteration, self._ends, self.kv
        due, size = kv.due, kv.block_size
        for request in self._fresh:
            if request.preemptions:
                self._resumed(request, now_s)
            else:
                request.first_token_s = now_s
                request.host_ttft_s = self._exposed_s - request.start_host_s
            request.first_row = self._rows
            left = request.output_tokens - request.generated_tokens
            request.end_iteration = end = iteration + left - 1
            context = request.prompt_tokens + request.generated_tokens
            request.tail = tail = context - iteration
            request.stage = DECODE
            self._decode_seqs += 1
            self._context_tokens += context
            residue = -tail % size  # the opposite of BlockCounter.leave, in place: once per request
            due[residue] += 1
            due[residue + size] += 1
            heappush(ends, (end, request.order, request))
        self._fresh.clear()

    def _resumed(self, request: Request, now_s: float) -> None:
        """Account for a preempted request that has its state back and emits its next token."""
        request.preempted_s += now_s - request.mark_s
        request.start_host_s += self._exposed_s - request.mark_host_s
        if request.generated_tokens == 0:
            request.first_token_s = now_s
            request.preempted_ttft_s = request.preempted_s
            request.host_ttft_s = self._exposed_s - request.start_host_s
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

    def _retire(self, now_s: float) -> None:
        """Take the sequences whose last token is out at `now_s` out of the batch."""
        iteration, ends, kv = self.iteration, self._ends, self.kv
        due, size = kv.due, kv.block_size
        while ends and ends[0][0] <= iteration:
            end, _, request = heappop(ends)
            if request.end_iteration != end:
                continue  # preempted or cancelled since
            if self._decided:
                self._close_run()
            tail = request.tail  # _forget_decoding, written out: once per request
            self._decode_seqs -= 1
            self._context_tokens -= tail + iteration
            residue = -tail % size
            due[residue] -= 1
            due[residue + size] -= 1
            request.end_iteration = -1
            request.stage = LEAVING
            request.finish_s = now_s
            request.host_s = self._exposed_s - request.start_host_s
            request.last_row = self._rows
            self._leaving.append(request)

    def _forget_decoding(self, request: Request) -> int:
        """Take a decoding sequence out of the counters and return its context."""
        tail = request.tail
        context = tail + self.iteration
        self._decode_seqs -= 1
        self._context_tokens -= context
        self.kv.leave(tail)
        return context

    def _release(self) -> None:
        """Give back slots and blocks of the sequences that left, and report them."""
        leaving, self._leaving = self._leaving, []
        kv, running, record = self.kv, self.running, self._record
        size = kv.block_size
        free_before = kv.free
        for request in leaving:
            if running.pop(request, self) is not self:  # not evicted since
                blocks = -(-(request.prompt_tokens + request.output_tokens - 1) // size)
                kv.free += blocks
                self._reserved_blocks -= blocks
            request.generated_tokens = request.output_tokens
            if request.outcome == PENDING:
                request.stage = GONE
                request.outcome = COMPLETED
                request.done(request)
                record(request)
            else:  # cancelled while its last token was on the way
                self._cancelled(request)
        if self._cache is not None:
            self._cache.freed_blocks += kv.free - free_before

    def _abort(self) -> None:
        """Drop the running requests cancelled since the last decision."""
        aborted, self._aborted = self._aborted, []
        for request in aborted:
            if request.stage in (DECODE, PREFILL):
                self._close_run()
                self._drop(request)
                self._cancelled(request)

    def _drop(self, request: Request) -> None:
        """Free everything a running request holds and count the tokens it got."""
        size = self.kv.block_size
        free_before = self.kv.free
        if request.stage == DECODE:
            left = request.end_iteration - self.iteration
            request.generated_tokens = request.output_tokens - left
            request.end_iteration = -1
            request.last_row = self._rows
            self.kv.free += blocks_for(self._forget_decoding(request), size)
        else:
            self._partial = None
            self.kv.free += blocks_for(request.computed_tokens, size)
        if self._cache is not None:
            self._cache.freed_blocks += self.kv.free - free_before
        del self.running[request]
        self._reserved_blocks -= blocks_for(request.prompt_tokens + request.output_tokens - 1, size)

    # ---- decisions --------------------------------------------------------------------------------------------

    def _decide(self, start_s: float, cold: bool) -> bool:
        """Choose the batch of the next iteration, which starts at `start_s`, and plan how long it stays as it is.

        Returns False, with no run planned, if there is nothing to do.
        """
        kv = self.kv
        preempted = held = False
        decoding = self._decode_seqs
        due = kv.due[self.iteration % kv.block_size] if decoding else 0
        tokens = blocks = 0
        if self._partial is not None:
            tokens, blocks = self._next_chunk(self._partial)
        if due + blocks > kv.free:
            preempted = True
            tokens, blocks = self._preempt(start_s)
            decoding = self._decode_seqs
            due = kv.due[self.iteration % kv.block_size]

        seqs = pairs = 0
        request = self._partial
        if request is not None:
            seqs = 1
            computed = request.computed_tokens
            pairs = tokens * computed + tokens * (tokens + 1) // 2
            kv.free -= blocks
            request.computed_tokens = computed = computed + tokens
            if computed == request.prompt_tokens + request.generated_tokens:
                self._partial = None
                self._fresh.append(request)
        if self.waiting and not preempted and tokens + decoding < self._budget:
            if decoding and self._wait_iterations and self._hold(due):
                held = True
            else:
                new_seqs, new_tokens, new_pairs = self._admit(start_s, due, tokens)
                seqs += new_seqs
                tokens += new_tokens
                pairs += new_pairs

        context_tokens = self._context_tokens
        shape: Shape | None
        if seqs:
            shape = self._timing.mixed(decoding, context_tokens, seqs, tokens, pairs, cold, self.iteration)
        elif not decoding:
            self._close_run()
            self._planned = 0
            return False
        elif self._decided == 0 or context_tokens > self._limit_tokens:
            shape = self._timing.decode(decoding, context_tokens, self.iteration)
        else:
            shape = None
        if shape is not None:
            if self._decided:
                self._close_run()
            self._first_s, self._bend_s, self._exposed_first_s, self._exposed_bend_s, self._limit_tokens = shape
            self._run_start_s = start_s
            self._used_blocks = used = kv.usable - kv.free + due
            self._batch = (start_s, decoding, context_tokens, seqs, tokens, shape[0], shape[1], used)
            self._decided = 0
            if seqs or self._ahead:
                self._planned = 1
                return True
        steps = self._ends[0][0] - self.iteration
        if context_tokens + decoding * (steps - 1) > self._limit_tokens:
            steps = int((self._limit_tokens - context_tokens) // decoding) + 1
        if preempted or held:
            steps = 1  # admission stopped for this iteration only
        if steps > 1 and (steps // kv.block_size + 1) * decoding > kv.free:
            steps = kv.affordable(self.iteration, steps, decoding)
        self._planned = self._decided + steps
        return True

    def _admit(self, start_s: float, due: int, tokens: int) -> tuple[int, int, int]:
        """Admit from the head of the queue while budget, slots and blocks last; return (seqs, tokens, pairs)."""
        scheduler, running, kv, cache = self._scheduler, self.running, self.kv, self._cache
        size, max_seqs, waiting = kv.block_size, self._max_seqs, self.waiting
        available = free = kv.free - due
        budget = self._budget - self._decode_seqs - tokens
        seqs = total = pairs = 0
        while budget > 0 and waiting and len(running) < max_seqs:
            request = scheduler.head()
            computed = request.computed_tokens
            if cache is not None and request.preemptions:
                computed = size * cache.found(request, available)
            length = request.prompt_tokens + request.generated_tokens
            spare = available - self._watermark_blocks if running else available
            blocks = -(-length // size)
            whole = -(-(request.prompt_tokens + request.output_tokens - 1) // size)
            if self._no_evict and whole > kv.usable - self._reserved_blocks:
                break
            chunk = length - computed
            if chunk > budget:
                if not self.settings.enable_chunked_prefill:
                    break
                if blocks > spare and self.settings.scheduler_reserve_full_isl:
                    break
                chunk = budget
                blocks = -(-(computed + chunk) // size)
            if blocks > spare:
                break
            scheduler.pop()
            waiting -= 1
            if cache is not None and request.preemptions:
                cache.claim(request, computed // size)
            running[request] = None
            self._admissions = request.order = self._admissions + 1
            available -= blocks
            self._reserved_blocks += whole
            budget -= chunk
            if self._wait_iterations:
                self._waiting_tokens -= length
            seqs += 1
            total += chunk
            pairs += chunk * computed + chunk * (chunk + 1) // 2
            request.stage = PREFILL
            request.computed_tokens = computed = computed + chunk
            if not request.preemptions:
                request.first_scheduled_s = start_s
                request.start_host_s = self._exposed_s
            if computed == length:
                self._fresh.append(request)
            else:
                self._partial = request
        kv.free -= free - available
        self.waiting = waiting
        return seqs, total, pairs

    def _hold(self, due: int) -> bool:
        """Return whether prefill waits for company in this iteration, and count it; see `EngineSettings`.

        Where the head could not be admitted anyway, nothing is held and the count stands still.
        """
        kv, request = self.kv, self._scheduler.head()
        length = request.prompt_tokens + request.generated_tokens
        room = self._budget - self._decode_seqs
        if len(self.running) >= self._max_seqs or length > room:
            return False
        if blocks_for(length, kv.block_size) > kv.free - due - self._watermark_blocks:
            return False
        whole = blocks_for(request.prompt_tokens + request.output_tokens - 1, kv.block_size)
        if self._no_evict and whole > kv.usable - self._reserved_blocks:
            return False
        tokens = min(self._waiting_tokens, room) + self._decode_seqs
        if tokens >= self.settings.batch_wait_tokens or self._held_iterations >= self._wait_iterations:
            self._held_iterations = 0
            return False
        self._held_iterations += 1
        return True

    def _next_chunk(self, request: Request) -> tuple[int, int]:
        """Return the tokens a partly prefilled request gets next and the new blocks they need."""
        size = self.kv.block_size
        computed = request.computed_tokens
        left = request.prompt_tokens + request.generated_tokens - computed
        tokens = min(left, self._budget - self._decode_seqs)
        return tokens, blocks_for(computed + tokens, size) - blocks_for(computed, size)

    def _preempt(self, start_s: float) -> tuple[int, int]:
        """Go through the running requests in order, as the real scheduler does, and preempt until the rest fits.

        The only decision that looks at every sequence; it happens once per exhaustion, not per iteration. Returns the
        next chunk (tokens, blocks) of the partly prefilled request if it is still there: it was sized before others
        gave way.
        """
        free = self.kv.free
        order = list(self.running)
        index = 0
        chunk = (0, 0)
        while index < len(order):
            request = order[index]
            if request is self._partial:
                chunk = self._next_chunk(request)
                needed = chunk[1]
            else:
                needed = self._block_due(request)
            while needed > free:
                victim = self._scheduler.victim(self.running)
                position = order.index(victim)
                del order[position]
                served_blocks = 0
                if position < index:  # already served in this step: its new blocks come back too
                    index -= 1
                    served_blocks = self._block_due(victim)
                free += served_blocks + self._evict(victim, start_s, served_blocks)
                if victim is request:
                    break
            else:
                free -= needed
                index += 1
        return chunk if self._partial is not None else (0, 0)

    def _block_due(self, request: Request) -> int:
        """Return 1 if a decoding request needs a new block for the next iteration, else 0."""
        return int(request.stage == DECODE and (request.tail + self.iteration) % self.kv.block_size == 0)

    def _evict(self, victim: Request, start_s: float, served_blocks: int) -> int:
        """Preempt one request: its KV cache is dropped and will be recomputed.

        Returns the blocks freed, without the `served_blocks` it was given in this very step.
        """
        size = self.kv.block_size
        self.preemptions += 1
        del self.running[victim]
        self._reserved_blocks -= blocks_for(victim.prompt_tokens + victim.output_tokens - 1, size)
        if victim.stage == LEAVING:  # its last token is on the way: only its blocks go early
            blocks = blocks_for(victim.prompt_tokens + victim.output_tokens - 1, size)
            self.kv.free += blocks
            if self._cache is not None:
                self._cache.freed_blocks += blocks
            return blocks
        self._close_run()
        if victim.stage == DECODE:
            victim.generated_tokens = victim.output_tokens - (victim.end_iteration - self.iteration)
            computed = self._forget_decoding(victim)
            victim.last_row = self._rows
            victim.last_token_s = start_s
            victim.end_iteration = -1
        else:
            computed = victim.computed_tokens
            self._partial = None
        blocks = blocks_for(computed, size)
        self.kv.free += blocks
        if self._cache is not None:
            self._cache.leave(victim, blocks + served_blocks, computed // size)
        if victim.stage == DECODE or not victim.preemptions:  # else it was still recomputing: the same stretch goes on
            victim.mark_s = start_s
            victim.mark_host_s = self._exposed_s
        victim.computed_tokens = 0
        victim.preemptions += 1
        victim.stage = WAITING
        self._scheduler.requeue(victim)
        self.waiting += 1
        self._waiting_tokens += victim.prompt_tokens + victim.generated_tokens
        return blocks

    # ---- runs -------------------------------------------------------------------------------------------------

    def _close_run(self) -> None:
        """Write the run down, if one is open: the batch is about to change."""
        iterations = self._decided
        if iterations:
            add = self.runs.add
            add(self._batch)
            add((iterations, self._used_blocks))
            self._exposed_before_run_s = self._exposed_s
            self._rows += 1
            self._decided = 0
