"""The simulation clock: SimPy's environment with a heap of reusable alarms and the caps that stop a runaway model."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

import simpy

from servesim.errors import LimitReached, ServesimError

# What happens at one instant happens in this order, whatever was scheduled first; SimPy's own events (priorities 0
# and 1) come before. Replicas tie-break by index (BOUNDARY + index), so that a span engine and a step-by-step engine
# see the same order.
DEPARTURE = 1
ARRIVAL = 2
BOUNDARY = 3
IDLE_START = 1 << 30
LATE_ARRIVAL = IDLE_START + 1
BATCH_START = LATE_ARRIVAL + 1

_CHECK_EVERY = 2_048
_CHECK_OFTEN = 64


class Alarm:
    """A reusable event: at most one pending ring; arming it again silently cancels the earlier one."""

    __slots__ = ("priority", "ring", "token")

    def __init__(self, ring: Callable[[], None], priority: int) -> None:
        self.ring = ring
        self.priority = priority
        self.token = -1

    def cancel(self) -> None:
        """Make the pending ring, if any, silent."""
        self.token = -1


class Clock(simpy.Environment):
    """SimPy's environment, plus alarms.

    SimPy processes, timeouts and resources work on it as usual. Alarms are what the hot path uses: a heap entry and
    a callback, no event object per occurrence. A ring that was replaced stays in the heap and is skipped when popped.
    `now_s` is the simulated time (a plain attribute: it is read several times per event). `events` counts rings and
    SimPy events. Caps are looked at every so many events, more often where they are tight. When no event is left,
    everyone in `at_rest` is asked in turn to end what waits for something that cannot come any more, and to return
    whether there was anything; the run is over when there was nothing.
    """

    def __init__(
        self,
        max_events: float = float("inf"),
        max_time_s: float = float("inf"),
        max_events_per_instant: float = float("inf"),
        watch: Callable[[float], None] | None = None,
    ) -> None:
        super().__init__()
        self.now_s = 0.0
        self.priority = ARRIVAL
        self.events = 0
        self._max_events = max_events
        self._max_time_s = max_time_s
        self._max_events_per_instant = max_events_per_instant
        self._same_instant = 0
        self.at_rest: list[Callable[[], bool]] = []
        self._watch = watch
        self._check_every = _CHECK_OFTEN if max_events < 1e6 or max_time_s < 1e9 else _CHECK_EVERY

    def arm(self, alarm: Alarm, time_s: float) -> None:
        """Ring `alarm` at `time_s`, instead of when it was armed for before."""
        if not time_s >= self.now_s:  # also catches NaN
            raise ServesimError(f"an event was scheduled at {time_s} s, before the present {self.now_s} s")
        alarm.token = serial = next(self._eid)
        heappush(self._queue, (time_s, alarm.priority, serial, alarm))  # type: ignore[misc]

    def call_at(self, time_s: float, action: Callable[[], None], priority: int = ARRIVAL) -> Alarm:
        """Call `action` once at `time_s`; `cancel` takes it back."""
        alarm = Alarm(action, priority)
        self.arm(alarm, time_s)
        return alarm

    def follow_up(self, time_s: float, action: Callable[[], None]) -> None:
        """Call `action` at `time_s`, because of something that just ended; if now, after all else at this instant."""
        late = time_s == self.now_s and self.priority > ARRIVAL
        self.call_at(time_s, action, LATE_ARRIVAL if late else ARRIVAL)

    def run_until_empty(self) -> None:
        """Process events until none is left; raise LimitReached at a cap."""
        self._run()
        while self._end_at_rest():
            self._same_instant += 1
            self._check()
            self._run()

    def _end_at_rest(self) -> bool:
        ended = [end() for end in self.at_rest]
        return any(ended)

    def _run(self) -> None:
        queue: list[Any] = self._queue
        every = self._check_every
        while queue:
            done = 0
            try:
                for done in range(every):  # noqa: B007 (counts the events of a broken-off round)
                    time_s, priority, serial, event = heappop(queue)
                    if event.__class__ is not Alarm:
                        self._simpy_event(time_s, priority, serial, event)
                    elif event.token == serial:
                        if time_s == self.now_s:
                            self._same_instant += 1
                        else:
                            self._same_instant = 0
                            self._now = self.now_s = time_s
                        self.priority = priority
                        event.ring()
                done = every
            except IndexError as error:
                if error.__traceback__ is None or error.__traceback__.tb_next is not None:
                    raise  # not the empty heap's, but a mistake inside a ring
            self.events += done
            self._check()

    def step(self) -> None:
        """Process the next event, as SimPy's `run(until=...)` does."""
        queue: list[Any] = self._queue
        if not queue:
            raise simpy.core.EmptySchedule
        time_s, priority, serial, event = heappop(queue)
        if event.__class__ is not Alarm:
            self._simpy_event(time_s, priority, serial, event)
        elif event.token == serial:
            self._now_is(time_s, priority)
            event.ring()

    def _simpy_event(self, time_s: float, priority: int, serial: int, event: Any) -> None:
        queue: list[Any] = self._queue
        heappush(queue, (time_s, priority, serial, event))
        self._now_is(time_s, priority)
        super().step()

    def _now_is(self, time_s: float, priority: int) -> None:
        self._same_instant = self._same_instant + 1 if time_s == self.now_s else 0
        self._now = self.now_s = time_s
        self.priority = priority

    def _check(self) -> None:
        if self.events > self._max_events:
            raise LimitReached(f"limits.max_events: stopped at t = {self.now_s:.6g} s after {self.events} events")
        if self.now_s > self._max_time_s:
            raise LimitReached(f"limits.max_time_s: stopped at t = {self.now_s:.6g} s")
        if self._same_instant > self._max_events_per_instant:
            raise LimitReached(
                f"limits.max_events_per_instant: {self._same_instant} events at the one instant "
                f"t = {self.now_s:.6g} s: time does not move on"
            )
        if self._watch is not None:
            self._watch(self.now_s)
