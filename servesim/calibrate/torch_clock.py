"""The clocks a live server can run on, and how requests reach it."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request that a client sends: when, in seconds from the start, and its lengths in tokens."""

    time_s: float
    prompt_tokens: int
    output_tokens: int


class LiveClock(Protocol):
    """Time for a server, and the requests that have come by then; `name` is what people call it."""

    name: str

    def start(self, trace: Sequence[Arrival]) -> None:
        """Begin at time 0, with these requests to come in order of time."""

    def now_s(self) -> float:
        """Return the seconds since the start."""

    def arrived(self, wait: bool) -> list[Arrival]:
        """Return the requests that have come since the last call; with `wait`, wait for the next one if none has."""


class WallClock:
    """Real time. A thread of its own sends the requests, as clients would, whatever the server does."""

    name = "real time"

    def start(self, trace: Sequence[Arrival]) -> None:
        """Begin, and start the client."""
        self._inbox: queue.SimpleQueue[Arrival] = queue.SimpleQueue()
        self._start_s = time.perf_counter()
        threading.Thread(target=self._send, args=(list(trace),), daemon=True, name="clients").start()

    def _send(self, trace: Sequence[Arrival]) -> None:
        for arrival in trace:
            left_s = arrival.time_s - self.now_s()
            if left_s > 0:
                time.sleep(left_s)
            self._inbox.put(arrival)

    def now_s(self) -> float:
        """Return real seconds since the start."""
        return time.perf_counter() - self._start_s

    def arrived(self, wait: bool) -> list[Arrival]:
        """Return what the client has sent."""
        found = [self._inbox.get()] if wait else []
        while True:
            try:
                found.append(self._inbox.get_nowait())
            except queue.Empty:
                return found


class ProcessorClock:
    """The processor time of the one thread that serves; while it idles, time jumps to the next arrival.

    On a machine that other programs use as well, what they take does not count: the server lives as if it had its
    core alone. Shared caches and clock frequencies still let neighbours be felt.
    """

    name = "processor time"

    def start(self, trace: Sequence[Arrival]) -> None:
        """Begin."""
        self._to_come = list(reversed(trace))
        self._skipped_s = -time.thread_time()

    def now_s(self) -> float:
        """Return the seconds computed plus the seconds idled."""
        return time.thread_time() + self._skipped_s

    def arrived(self, wait: bool) -> list[Arrival]:
        """Return what is due by now."""
        if wait and self._to_come:
            self._skipped_s += max(0.0, self._to_come[-1].time_s - self.now_s())
        found = []
        while self._to_come and self._to_come[-1].time_s <= self.now_s():
            found.append(self._to_come.pop())
        return found


CLOCKS: dict[str, type[LiveClock]] = {"wall": WallClock, "cpu": ProcessorClock}
"""Clocks by the name that the command line gives them."""
