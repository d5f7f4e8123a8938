"""Conversations at run time: sessions start as they will, and each waits for its answers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import chain, repeat

from servesim import rng as random_streams
from servesim.metrics.spool import Spool
from servesim.request import CANCELLED, COMPLETED, PENDING, Request, SessionRequest
from servesim.system.clock import ARRIVAL, LATE_ARRIVAL, Alarm, Clock
from servesim.system.gateway import Door
from servesim.workload.arrivals.sessions import SessionsArrivals
from servesim.workload.load import OWN_BLOCK, OwnLengths

SESSION_COLUMNS = ("request_id", "session_id", "turn")


class SessionLog:
    """Which request was which turn of which session, over all classes, in the order of sending.

    Sessions are numbered from 0 in the order in which they start, and turns from 1.
    """

    def __init__(self) -> None:
        self.turns = Spool(SESSION_COLUMNS)
        self._sessions = 0

    def new_session(self) -> int:
        """Return the number of a session that starts."""
        number = self._sessions
        self._sessions += 1
        return number


class Sessions:
    """Starts the sessions of one class and counts its requests.

    Everything random about a session is drawn by its number in the class and the turn, so that two systems compared
    under one seed see the same sessions, however fast they answer. `round_trip_s` is network time that an answer and
    the next turn take on the way.
    """

    def __init__(
        self,
        door: Door,
        spec: SessionsArrivals,
        lengths: OwnLengths,
        class_name: str,
        seed: int,
        num_requests: int | None,
        duration_s: float | None,
        round_trip_s: float,
        log: SessionLog,
    ) -> None:
        self.door = door
        self.spec = spec
        self.draws = _Draws(spec, lengths, class_name, seed)
        self.round_trip_s = round_trip_s
        self.log = log
        self.offered = 0
        self._limit = num_requests
        self._duration_s = duration_s
        blocks = spec.starts.times(random_streams.stream(seed, "arrivals", class_name))
        self._starts = chain.from_iterable(block.tolist() for block in blocks)
        self._alarm = Alarm(self._ring, ARRIVAL)
        self._started = 0

    def start(self) -> None:
        """Schedule the first session's start."""
        self._wait_for_next()

    def may_send(self) -> bool:
        """Return whether neither limit has been reached."""
        within = self._duration_s is None or self.door.clock.now_s <= self._duration_s
        return within and (self._limit is None or self.offered < self._limit)

    def _ring(self) -> None:
        number = self._started
        self._started = number + 1
        _Session(self, number).send()
        self._wait_for_next()

    def _wait_for_next(self) -> None:
        if self._started == self.spec.num_sessions or not self.may_send():
            return
        time_s = next(self._starts, None)
        if time_s is not None and (self._duration_s is None or time_s <= self._duration_s):
            self.door.clock.arm(self._alarm, time_s)


class _Draws:
    """The random part of sessions, by session and block of turns."""

    def __init__(self, spec: SessionsArrivals, lengths: OwnLengths, class_name: str, seed: int) -> None:
        self._spec = spec
        self.lengths = lengths.block
        self._turns, self._think, self._stop, self._after = (
            random_streams.NumberedStreams(seed, purpose, class_name)
            for purpose in ("turns", "think", "interrupt", "interrupt-after")
        )

    def turns(self, session: int) -> int:
        """Return how many turns a session has."""
        return int(self._spec.turns.draw(self._turns.at(session), 1)[0])

    def thinks_s(self, session: int, block: int) -> Iterator[float]:
        """Return the seconds between a turn's answer and the next message, turn by turn."""
        if self._spec.think == "constant":
            return repeat(self._spec.think_time_s)
        return iter(self._think.at(session, block).exponential(self._spec.think_time_s, OWN_BLOCK).tolist())

    def stops(self, session: int, block: int) -> Iterator[float]:
        """Return after how many seconds, or tokens, each answer is stopped; 0 where it is not."""
        rule = self._spec.interrupt
        if rule is None:
            return repeat(0.0)
        stopped = self._stop.at(session, block).random(OWN_BLOCK) < rule.probability
        if rule.after_tokens is not None:
            after = rule.after_tokens.draw(self._after.at(session, block), OWN_BLOCK).tolist()
        else:
            mean_s = rule.after_s or 0.0
            spread = self._after.at(session, block).standard_exponential(OWN_BLOCK)
            after = (mean_s * spread).tolist() if rule.after == "exponential" else [mean_s] * OWN_BLOCK
        return iter([float(amount) if stop else 0.0 for stop, amount in zip(stopped.tolist(), after, strict=True)])


class _Session:
    """One conversation. `context_tokens` is all that was said in it."""

    __slots__ = (
        "_alarm",
        "_answer_tokens",
        "_context_tokens",
        "_id",
        "_left",
        "_lengths",
        "_number",
        "_source",
        "_stops",
        "_think_s",
        "_thinks",
        "_turn",
    )

    def __init__(self, source: Sessions, number: int) -> None:
        self._source = source
        self._number = number
        self._id = source.log.new_session()
        self._left = source.draws.turns(number)
        self._turn = 0
        self._context_tokens = 0
        self._alarm: Alarm | None = None

    def send(self) -> None:
        """Send the next turn now, unless a limit ends the session."""
        source = self._source
        if not source.may_send():
            return
        if self._turn % OWN_BLOCK == 0:
            draws, block = source.draws, self._turn // OWN_BLOCK
            self._lengths = draws.lengths(self._number, block)
            self._thinks = draws.thinks_s(self._number, block)
            self._stops = draws.stops(self._number, block)
        message_tokens, answer_tokens = next(self._lengths)
        self._think_s, stop_after = next(self._thinks), next(self._stops)
        fitting = _fitted(source.spec, self._context_tokens, message_tokens, answer_tokens)
        if fitting is None:
            return
        prompt_tokens, answer_tokens = fitting
        self._turn += 1
        self._left -= 1
        self._answer_tokens = answer_tokens
        by_time = source.spec.interrupt is not None and source.spec.interrupt.after_s is not None
        if stop_after and not by_time:  # who has seen enough tokens closes the stream: no more are made
            answer_tokens = min(answer_tokens, int(stop_after))
        door = source.door
        source.offered += 1
        source.log.turns.add((door.next_request_id, self._id, self._turn))
        make = partial(SessionRequest, self._id, self._turn, self._let_go)
        request = door.send_as(make, prompt_tokens, answer_tokens, self._ended)
        if stop_after and by_time and request.outcome == PENDING:
            stop_s = door.clock.now_s + max(stop_after - source.round_trip_s, 0.0)
            self._alarm = door.clock.call_at(stop_s, partial(door.give_up, request, CANCELLED))

    def _ended(self, request: Request) -> None:
        """The answer is over for the user."""
        source = self._source
        source.door.leave(request)
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if request.outcome == COMPLETED:
            stopped = request.output_tokens < self._answer_tokens
            if stopped:
                request.outcome = CANCELLED
                request.output_tokens = self._answer_tokens
            self._go_on(request, source.door.clock.now_s + source.round_trip_s, stopped)

    def _let_go(self, request: Request) -> None:
        """The engine dropped a stopped answer, so it is known how far that came."""
        if request.outcome == CANCELLED:
            self._go_on(request, request.cancelled_s, True)

    def _go_on(self, request: Request, from_s: float, stopped: bool) -> None:
        """Schedule the next turn, if there is one; what was said of the answer, whole or not, is part of it."""
        self._context_tokens = request.prompt_tokens + request.generated_tokens
        if self._left == 0:
            return
        rule = self._source.spec.interrupt
        at_once = stopped and rule is not None and rule.then == "at_once"
        clock = self._source.door.clock
        _schedule(clock, self, max(clock.now_s, from_s if at_once else from_s + self._think_s))


def _schedule(clock: Clock, session: _Session, time_s: float) -> None:
    # A request sent the instant another ends comes after everything else at that instant.
    priority = LATE_ARRIVAL if time_s == clock.now_s and clock.priority > ARRIVAL else ARRIVAL
    clock.call_at(time_s, session.send, priority)


def _fitted(spec: SessionsArrivals, context: int, message: int, answer: int) -> tuple[int, int] | None:
    """Return (prompt, answer) tokens of a turn under the context's cap; None if the session ends instead."""
    cap = spec.max_context_tokens
    if cap is None:
        return context + message, answer
    message = min(message, cap - 1)
    answer = min(answer, cap - message)
    room = cap - message - answer
    if context > room:
        if spec.at_max_context == "end":
            return None
        context = room
    return context + message, answer
