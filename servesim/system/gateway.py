"""Where requests enter and leave: counts them, times them out, and hands their records on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from servesim.metrics.record import RETRY_COLUMNS
from servesim.metrics.spool import Spool
from servesim.request import OUTCOMES, PENDING, REJECTED, REQUEST_COLUMNS, TIMED_OUT, Request
from servesim.system.clock import Clock
from servesim.system.pool import Pool


class Gateway:
    """The books of the whole system: what entered, what left, and a record of each.

    `occupancy_s`, once the system is empty, is the integral over time of the number of requests inside, counted at the
    door; by Little's law it must equal the sum of the times that the records say they spent inside. An attempt to be
    served is a request here; `retries` says which ones are later attempts of an earlier one.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.records = Spool(REQUEST_COLUMNS)
        self.retries = Spool(RETRY_COLUMNS)
        self.reasons: dict[str, int] = {}
        self.entered = 0
        self.last_arrival_s = 0.0
        self.last_end_s = 0.0
        self.entries_s = 0.0
        self.ends_s = 0.0

    @property
    def occupancy_s(self) -> float:
        """The sum of all times of leaving minus that of all times of entering."""
        return self.ends_s - self.entries_s

    def enter(self, now_s: float) -> int:
        """Count a request that enters now and return its number."""
        number = self.entered
        self.entered = number + 1
        self.last_arrival_s = now_s
        self.entries_s += now_s
        return number

    def record(self, request: Request) -> None:
        """Keep what is to be known of a request that nobody works on any more."""
        self.records.add(request.row())

    def rejection_warnings(self) -> list[str]:
        """Return one sentence per reason for which requests were refused."""
        return [f"{OUTCOMES[REJECTED]} {count:,}: {why}" for why, count in sorted(self.reasons.items())]


def nothing() -> None:
    """Do nothing, as a silent alarm."""


MakeRequest = Callable[[int, int, float, int, int, int, Callable[[Request], None]], Request]
"""What makes a request from what `Request` takes."""


class Door:
    """How the requests of one class enter the system and leave it."""

    __slots__ = (
        "_cancel",
        "_ended",
        "_first_replica",
        "_gateway",
        "_submit",
        "_timeout_s",
        "class_index",
        "clock",
        "priority",
    )

    def __init__(self, gateway: Gateway, pool: Pool, class_index: int, priority: int, timeout_s: float | None) -> None:
        self._gateway = gateway
        self.clock = gateway.clock
        self._submit, self._cancel, self._ended = pool.submit, pool.cancel, pool.ended
        self._first_replica = pool.first_replica
        self.class_index = class_index
        self.priority = priority
        self._timeout_s = timeout_s

    @property
    def next_request_id(self) -> int:
        """The number of the next request that enters through any door."""
        return self._gateway.entered

    def send(self, prompt_tokens: int, output_tokens: int, done: Callable[[Request], None]) -> None:
        """Let a request enter now; `done` is called when it has ended for its client, and must call `leave`."""
        self.send_as(Request, prompt_tokens, output_tokens, done)

    def send_as(
        self, make: MakeRequest, prompt_tokens: int, output_tokens: int, done: Callable[[Request], None]
    ) -> Request:
        """Let a request of another class than the usual one enter, and return it; see `send`."""
        gateway = self._gateway
        now_s = self.clock.now_s
        number = gateway.entered  # Gateway.enter, written out: once per request
        gateway.entered = number + 1
        gateway.last_arrival_s = now_s
        gateway.entries_s += now_s
        request = make(number, self.class_index, now_s, prompt_tokens, output_tokens, self.priority, done)
        self._submit(request)
        if self._timeout_s is not None and request.outcome == PENDING:
            alarm = self.clock.call_at(now_s + self._timeout_s, partial(self.give_up, request, TIMED_OUT))
            request.timeout = alarm
        return request

    def leave(self, request: Request) -> None:
        """Close the books on a request that ended for its client."""
        gateway = self._gateway
        gateway.last_end_s = now_s = self.clock.now_s
        gateway.ends_s += now_s
        if self._ended is not None:
            self._ended(request.replica - self._first_replica)
        if request.timeout is not None:
            request.timeout.cancel()
            request.timeout.ring = nothing  # a silent alarm stays queued until its time, its request should not
            request.timeout = None
        if request.reason:
            gateway.reasons[request.reason] = gateway.reasons.get(request.reason, 0) + 1

    def give_up(self, request: Request, outcome: int) -> None:
        """Let the client of a request leave now."""
        self._cancel(request, outcome)
        request.done(request)
