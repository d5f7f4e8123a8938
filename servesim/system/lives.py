"""Clients that lose patience, interrupt an answer, or try again.

A *logical request* is what a client wants; it may take several *attempts*, each of them a request to the engines. A
class without any of this uses the plain `Door` and pays nothing for it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf

from servesim import rng as random_streams
from servesim.request import (
    ABANDONED,
    CANCELLED,
    COMPLETED,
    NEVER_FITS,
    PENDING,
    REJECTED,
    REQUEST_COLUMNS,
    TIMED_OUT,
    Request,
)
from servesim.system.clock import Alarm
from servesim.system.gateway import Door, Gateway, nothing
from servesim.system.pool import Pool
from servesim.workload.lives import Clients, Nature, Natures, RetryBudget

_OUTPUT_TOKENS = REQUEST_COLUMNS.index("output_tokens")


class Life:
    """A logical request: what is wanted, what its client is like, and how often it was tried."""

    __slots__ = ("attempts", "done", "first_request_id", "nature", "ordinal", "output_tokens", "prompt_tokens")

    def __init__(
        self, ordinal: int, prompt_tokens: int, output_tokens: int, nature: Nature, done: Callable[[Request], None]
    ) -> None:
        self.ordinal = ordinal
        self.prompt_tokens = prompt_tokens
        self.output_tokens = output_tokens
        self.nature = nature
        self.done = done
        self.attempts = 0
        self.first_request_id = -1


class Attempt(Request):
    """One attempt. The engine is given the tokens that will be made, the record those that were asked for.

    A client that stops after n tokens is, to the engine, a request of n tokens: it leaves at the very boundary at which
    the n-th is out, as if the server were told at once.
    """

    __slots__ = ("alarms", "asked_tokens")

    alarms: list[Alarm]
    asked_tokens: int

    def row(self) -> tuple[float, ...]:
        """Return the values of REQUEST_COLUMNS."""
        row = super().row()
        return (*row[:_OUTPUT_TOKENS], self.asked_tokens, *row[_OUTPUT_TOKENS + 1 :])


class LivelyDoor(Door):
    """How the requests of a class enter and leave whose clients have patience, interrupt, or retry.

    Times that clients measure are shortened by the network both ways, as time-outs are; a retry comes a round trip
    later than its wait. `timeout_s` and patience hold for each attempt.
    """

    __slots__ = ("_budget", "_clients", "_jitter", "_natures", "_ordinal", "_round_trip_s")

    def __init__(
        self,
        gateway: Gateway,
        pool: Pool,
        class_index: int,
        priority: int,
        timeout_s: float | None,
        clients: Clients,
        round_trip_s: float,
    ) -> None:
        super().__init__(gateway, pool, class_index, priority, timeout_s)
        self._clients = clients
        self._natures = Natures(clients)
        retry = clients.retry
        self._budget = None if retry is None or retry.budget is None else RetryBudget(retry.budget)
        self._jitter = random_streams.KeyedUniform(clients.seed, "retry", clients.class_name)
        self._round_trip_s = round_trip_s
        self._ordinal = 0

    def warnings(self) -> list[str]:
        """Return a sentence if the budget refused retries."""
        refused = 0 if self._budget is None else self._budget.refused
        return [f"class {self._clients.class_name}: its retry budget refused {refused:,} retries"] if refused else []

    def send(self, prompt_tokens: int, output_tokens: int, done: Callable[[Request], None]) -> None:
        """Let a logical request enter now; `done` gets its last attempt when that has ended, and must call `leave`."""
        life = Life(self._ordinal, prompt_tokens, output_tokens, self._natures.take(), done)
        self._ordinal += 1
        if self._budget is not None:
            self._budget.first_attempt(self.clock.now_s)
        self._try(life)

    def _try(self, life: Life) -> None:
        now_s = self.clock.now_s
        number = self._gateway.enter(now_s)
        if life.attempts:
            self._gateway.retries.add((life.first_request_id, number))
        else:
            life.first_request_id = number
        life.attempts += 1
        made_tokens = int(min(life.output_tokens, life.nature.stop_tokens))
        done = partial(self._ended_one, life)
        request = Attempt(number, self.class_index, now_s, life.prompt_tokens, made_tokens, self.priority, done)
        request.asked_tokens = life.output_tokens
        request.alarms = []
        self._submit(request)
        if request.outcome == PENDING:
            self._watch(request, life.nature)

    def _watch(self, request: Attempt, nature: Nature) -> None:
        """Set the alarms at which the client of a request leaves."""
        arm, alarms, now_s = self.clock.call_at, request.alarms, self.clock.now_s
        if self._timeout_s is not None:
            alarms.append(arm(now_s + self._timeout_s, partial(self.give_up, request, TIMED_OUT)))
        if nature.patience_s < inf:
            assert self._clients.patience is not None
            of_token = self._clients.patience.until == "first_token"
            wait_s = max(nature.patience_s - self._round_trip_s, 0.0) if of_token else nature.patience_s
            lose = self._lose_patience_for_a_token if of_token else self._lose_patience_in_the_queue
            alarms.append(arm(now_s + wait_s, partial(lose, request)))
        if nature.stop_s < inf:
            alarms.append(
                arm(now_s + max(nature.stop_s - self._round_trip_s, 0.0), partial(self.give_up, request, CANCELLED))
            )

    def _lose_patience_for_a_token(self, request: Request) -> None:
        # An engine may know of a first token before it is out.
        first_token_s = getattr(request, "first_token_s", inf)
        if not first_token_s < self.clock.now_s:
            self.give_up(request, ABANDONED)

    def _lose_patience_in_the_queue(self, request: Request) -> None:
        if not request.in_service():
            self.give_up(request, ABANDONED)

    def _ended_one(self, life: Life, request: Request) -> None:
        """Deal with the end of an attempt: the client tries again, or the logical request has ended."""
        assert isinstance(request, Attempt)
        for alarm in request.alarms:
            alarm.cancel()
            alarm.ring = nothing  # a silent alarm stays queued until its time, its request should not
        request.alarms.clear()
        if request.outcome == COMPLETED and request.output_tokens < life.output_tokens:
            request.outcome = CANCELLED
        if self._tries_again(life, request):
            self.leave(request)
            self._wait_and_try(life)
        else:
            life.done(request)

    def _tries_again(self, life: Life, request: Request) -> bool:
        retry = self._clients.retry
        if retry is None or request.outcome not in retry.outcomes or life.attempts >= retry.attempts:
            return False
        if request.outcome == REJECTED and request.reason in NEVER_FITS:
            return False
        return self._budget is None or self._budget.allows(self.clock.now_s)

    def _wait_and_try(self, life: Life) -> None:
        assert self._clients.retry is not None
        wait_s = self._clients.retry.wait_s(life.attempts, self._jitter.at(life.ordinal, life.attempts))
        self.clock.follow_up(self.clock.now_s + wait_s + self._round_trip_s, partial(self._try, life))
