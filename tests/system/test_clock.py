"""The clock orders events, runs SimPy beside alarms, stops what does not end, and hides no mistakes."""

from __future__ import annotations

import math

import pytest

from servesim.errors import LimitReached, ServesimError
from servesim.system.clock import ARRIVAL, BOUNDARY, LATE_ARRIVAL, Alarm, Clock


def test_one_instant_has_an_order_whatever_was_scheduled_first() -> None:
    clock, seen = Clock(), []
    for name, priority in (("late", LATE_ARRIVAL), ("second", BOUNDARY + 1), ("first", BOUNDARY), ("arrival", ARRIVAL)):
        clock.call_at(1.0, lambda name=name: seen.append(name), priority)
    clock.run_until_empty()
    assert seen == ["arrival", "first", "second", "late"]


def test_arming_again_replaces_and_cancelling_silences() -> None:
    clock, seen = Clock(), []
    alarm = Alarm(lambda: seen.append(clock.now_s), BOUNDARY)
    for time_s in (5.0, 2.0, 3.0):
        clock.arm(alarm, time_s)
    clock.call_at(1.0, lambda: seen.append("never")).cancel()
    clock.run_until_empty()
    assert seen == [3.0]


def simpy_process(clock: Clock, seen: list[float], every_s: float, times: int):
    for _ in range(times):
        yield clock.timeout(every_s)
        seen.append(clock.now)


def test_simpy_processes_and_alarms_share_one_heap_in_order() -> None:
    clock, seen = Clock(), []
    for i in range(200):
        clock.call_at(i * 0.5, lambda: seen.append(clock.now_s), BOUNDARY)
        clock.timeout(i * 0.5)
    clock.process(simpy_process(clock, seen, 0.5, 100))
    clock.run_until_empty()
    assert seen == sorted(seen)
    assert len(seen) == 300
    assert clock.now == clock.now_s == 99.5


def test_simpys_own_run_knows_alarms() -> None:
    clock, seen = Clock(), []
    clock.call_at(1.0, lambda: seen.append(clock.now))
    clock.call_at(3.0, lambda: seen.append(clock.now))
    clock.run(until=2.0)
    assert seen == [1.0]


@pytest.mark.parametrize("time_s", [math.nan, -1.0, 0.5])
def test_no_event_lies_in_the_past_or_nowhere(time_s: float) -> None:
    clock = Clock()
    clock.call_at(1.0, lambda: clock.call_at(time_s, lambda: None))
    with pytest.raises(ServesimError, match="before the present"):
        clock.run_until_empty()


def test_a_mistake_in_the_last_ring_is_not_taken_for_the_end() -> None:
    clock = Clock()
    clock.call_at(1.0, lambda: [][0])
    with pytest.raises(IndexError):
        clock.run_until_empty()


def forever(clock: Clock, step_s: float) -> None:
    alarm = Alarm(lambda: clock.arm(alarm, clock.now_s + step_s), BOUNDARY)
    clock.arm(alarm, 0.0)


def test_a_cap_on_events_counts_the_real_ones() -> None:
    enough = Clock(max_events=50)
    for i in range(50):
        enough.call_at(i, lambda: None)
    enough.run_until_empty()
    assert enough.events == 50
    clock = Clock(max_events=5000)
    forever(clock, 1.0)
    with pytest.raises(LimitReached, match="max_events"):
        clock.run_until_empty()
    assert clock.events < 5200


def test_a_cap_on_time_stops_soon_after_it() -> None:
    clock = Clock(max_time_s=1000.0)
    forever(clock, 1.0)
    with pytest.raises(LimitReached, match="max_time_s"):
        clock.run_until_empty()
    assert clock.now_s < 1200


def test_time_that_stands_still_is_noticed_for_alarms_and_simpy_alike() -> None:
    clock = Clock(max_events_per_instant=10_000)
    forever(clock, 0.0)
    with pytest.raises(LimitReached, match="one instant"):
        clock.run_until_empty()
    clock = Clock(max_events_per_instant=10_000)
    clock.process(simpy_process(clock, [], 0.0, 1_000_000))
    with pytest.raises(LimitReached, match="one instant"):
        clock.run_until_empty()
