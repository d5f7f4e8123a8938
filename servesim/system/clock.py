"""The simulation clock: SimPy's environment with a heap of reusable alarms and the caps that stop a runaway model."""

from __future__ import annotations

from collections.abc import Callable, Generator
from heapq import heappop, heappush
from typing import Any

import simpy

from servesim.errors import LimitReached, ServesimError

# What happens at one instant happens in this order, whatever was scheduled first. Replicas tie-break by index
# (BOUNDARY + index), so that a span engine and a step-by-step engine see the same order.
ARRIVAL = 0
BOUNDARY = 1
IDLE_START = 1 << 30
LATE_ARRIVAL = IDLE_START + 1

_CHECK_EVERY = 2_048
_MAX_EVENTS_PER_INSTANT = 10_000_000


class Alarm:
    """A reusable event: at most one pending ring; arming it again silently cancels the earlier one."""

    __slots__ = ("priority", "ring", "token")

    def __init__(self, ring: Callable[[], None], priority: int) -> None:
        self.ring = ring
        self.priority = priority
        self.token = 0


class Clock(simpy.Environment):
    """SimPy's environment, plus alarms.

    SimPy processes, timeouts and resources work on it as usual. Alarms are what the hot path uses: a heap entry and
    a callback, no event object per occurrence. A ring that was replaced stays in the heap and is skipped when popped.
    `now_s` is the simulated time (a plain attribute: it is read several times per event).
    """

    def __init__(
        self,
        max_events: float = float("inf"),
        max_time_s: float = float("inf"),
        watch: Callable[[float], None] | None = None,
    ) -> None:
        super().__init__()
        self.now_s = 0.0
        self.priority = ARRIVAL
        self.events = 0
        self._serial = 0
        self._max_events = max_events
        self._max_time_s = max_time_s
        self._watch = watch

    def arm(self, alarm: Alarm, time_s: float) -> None:
        """Ring `alarm` at `time_s`, instead of when it was armed for before."""
        if not time_s >= self.now_s:  # also catches NaN
            raise ServesimError(f"an event was scheduled at {time_s} s, before the present {self.now_s} s")
        self._serial = serial = self._serial + 1
        alarm.token = serial
        heappush(self._queue, (time_s, alarm.priority, serial, alarm))  # type: ignore[misc]

    def call_at(self, time_s: float, action: Callable[[], None], priority: int = ARRIVAL) -> Alarm:
        """Call `action` once at `time_s`; set the returned alarm's token to 0 to cancel."""
        alarm = Alarm(action, priority)
        self.arm(alarm, time_s)
        return alarm

    def process_later(self, process: Generator[Any, Any, Any]) -> simpy.Process:
        """Run a SimPy process; for components that are easier to read as one."""
        return self.process(process)

    def run_until_empty(self) -> None:
        """Process events until none is left; raise LimitReached at a cap."""
        queue: list[Any] = self._queue
        same = 0
        while queue:
            try:
                for _ in range(_CHECK_EVERY):
                    time_s, priority, serial, event = heappop(queue)
                    if event.__class__ is not Alarm:
                        self._simpy_step(time_s, priority, serial, event)
                    elif event.token == serial:
                        if time_s == self.now_s:
                            same += 1
                        else:
                            same = 0
                            self._now = self.now_s = time_s
                        self.priority = priority
                        event.ring()
            except IndexError:
                if queue:  # not the empty heap's: a mistake inside a ring
                    raise
            self._check(_CHECK_EVERY, same)

    def _simpy_step(self, time_s: float, priority: int, serial: int, event: Any) -> None:
        heappush(self._queue, (time_s, priority, serial, event))  # type: ignore[misc]
        self.now_s = time_s
        self.priority = priority
        self.step()

    def _check(self, events: int, same: int) -> None:
        self.events += events
        if self.events > self._max_events:
            raise LimitReached(f"limits.max_events: stopped at t = {self._now:.6g} s after {self.events} events")
        if self._now > self._max_time_s:
            raise LimitReached(f"limits.max_time_s: stopped at t = {self._now:.6g} s")
        if same > _MAX_EVENTS_PER_INSTANT:
            raise LimitReached(f"{same} events at the one instant t = {self._now:.6g} s: the model does not move on")
        if self._watch is not None:
            self._watch(self._now)
