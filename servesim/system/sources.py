"""Request classes at run time: open-loop sources that follow a stream of arrivals, and closed loops of clients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from servesim import rng as random_streams
from servesim.errors import LimitReached
from servesim.request import REJECTED, Request
from servesim.system.clock import ARRIVAL, Alarm
from servesim.system.gateway import Door
from servesim.workload.arrivals.closed_loop import ClosedLoopArrivals
from servesim.workload.base import Block
from servesim.workload.load import OWN_BLOCK, OwnLengths

_MOST_REFUSALS = 100_000


class Source(Protocol):
    """Something that sends requests."""

    offered: int

    def start(self) -> None:
        """Schedule the first request."""


class OpenSource:
    """Sends requests at given times, whatever becomes of them. One pending event, however many requests follow."""

    def __init__(self, door: Door, blocks: Iterator[Block]) -> None:
        self._send, self._leave, self._arm = door.send, door.leave, door.clock.arm
        self._blocks = blocks
        self._rows: Iterator[tuple[float, int, int]] = iter(())
        self._alarm = Alarm(self._ring, ARRIVAL)
        self._prompt_tokens = self._output_tokens = 0
        self.offered = 0

    def start(self) -> None:
        """Schedule the first request."""
        self._wait_for_next()

    def _ring(self) -> None:
        self.offered += 1
        self._send(self._prompt_tokens, self._output_tokens, self._leave)
        row = next(self._rows, None)
        if row is None:
            self._wait_for_next()
        else:
            time_s, self._prompt_tokens, self._output_tokens = row
            self._arm(self._alarm, time_s)

    def _wait_for_next(self) -> None:
        """Take the next block and schedule its first request, if there is one."""
        block = next(self._blocks, None)
        if block is not None:
            self._rows = zip(*block, strict=True)
            time_s, self._prompt_tokens, self._output_tokens = next(self._rows)
            self._arm(self._alarm, time_s)


class ClosedLoop:
    """A fixed number of clients, each sending its next request a think time after its last one ended.

    Lengths and think times are drawn per client, so that two systems compared under one seed see each client ask the
    same and think alike. `round_trip_s` is network time that a
    client's next request comes later by.
    """

    def __init__(
        self,
        door: Door,
        spec: ClosedLoopArrivals,
        lengths: OwnLengths,
        class_name: str,
        seed: int,
        num_requests: int | None,
        duration_s: float | None,
        round_trip_s: float,
    ) -> None:
        self._door = door
        self._spec = spec
        self._lengths = lengths
        self._limit = num_requests
        self._duration_s = duration_s
        self._round_trip_s = round_trip_s
        self._rngs = [
            random_streams.stream(seed, "think", class_name, client)
            for client in range(spec.max_concurrency if spec.think != "constant" else 0)
        ]
        self._ahead: list[Iterator[tuple[int, int]]] = [iter(())] * spec.max_concurrency
        self._sent = [0] * spec.max_concurrency
        self.offered = 0
        self._refused = 0

    def start(self) -> None:
        """Schedule every client's first request."""
        for client in range(self._spec.max_concurrency):
            self._schedule(client, self._spec.first_request_s(client))

    def _schedule(self, client: int, time_s: float) -> None:
        self._door.clock.follow_up(time_s, lambda: self._send(client))

    def _send(self, client: int) -> None:
        clock = self._door.clock
        if self._limit is not None and self.offered >= self._limit:
            return
        if self._duration_s is not None and clock.now_s > self._duration_s:
            return
        self.offered += 1
        prompt_tokens, output_tokens = self._next_lengths(client)

        def ended(request: Request) -> None:
            self._door.leave(request)
            self._refuse_to_spin(request)
            think_s = self._spec.think_s(self._rngs[client]) if self._rngs else self._spec.think_time_s
            self._schedule(client, clock.now_s + think_s + self._round_trip_s)

        self._door.send(prompt_tokens, output_tokens, ended)

    def _next_lengths(self, client: int) -> tuple[int, int]:
        number = self._sent[client]
        self._sent[client] = number + 1
        if number % OWN_BLOCK == 0:
            self._ahead[client] = self._lengths.block(client, number // OWN_BLOCK)
        return next(self._ahead[client])

    def _refuse_to_spin(self, request: Request) -> None:
        """Stop a loop whose requests are all refused at once: its clients would ask for ever at one instant."""
        if request.outcome != REJECTED or self._limit is not None:
            self._refused = 0
            return
        self._refused += 1
        if self._refused > _MOST_REFUSALS:
            raise LimitReached(f"a closed loop's last {self._refused} requests were all rejected: {request.reason}")
