"""Schedulers as state machines: who is next, and where the preempted go."""

from __future__ import annotations

from typing import Any

import pytest

from servesim.policies.scheduling.fcfs import Fcfs
from servesim.policies.scheduling.priority import Priority
from servesim.policies.scheduling.shortest_prompt import ShortestPrompt
from servesim.request import Request


def requests() -> list[Request]:
    """Return three requests in order of arrival: (prompt tokens, priority) are (5, 1), (9, 0), (2, 2)."""
    return [
        Request(number, 0, float(number), prompt, 1, priority, lambda ended: None)
        for number, (prompt, priority) in enumerate([(5, 1), (9, 0), (2, 2)])
    ]


@pytest.mark.parametrize(
    ("scheduler", "order"),
    [(Fcfs(), [0, 1, 2]), (Priority(), [1, 0, 2]), (ShortestPrompt(), [2, 0, 1])],
    ids=["fcfs", "priority", "shortest_prompt"],
)
def test_order_of_admission_and_of_the_preempted(scheduler: Any, order: list[int]) -> None:
    """The first one admitted and preempted comes before all who still wait."""
    live = scheduler.live()
    live.start()
    for request in requests():
        live.add(request)
    admitted = live.pop()
    assert admitted.request_id == order[0]
    admitted.preemptions = 1
    live.requeue(admitted)
    assert [live.pop().request_id for _ in range(3)] == order


def test_who_left_is_not_admitted() -> None:
    for scheduler in (Fcfs(), Priority(), ShortestPrompt()):
        live = scheduler.live()
        live.start()
        three = requests()
        for request in three:
            live.add(request)
        live.remove(three[1])
        assert {live.pop().request_id for _ in range(2)} == {0, 2}


def test_the_last_admitted_gives_way() -> None:
    """First come, first served: the newest. By priority: the least urgent, whenever it was admitted."""
    running = dict.fromkeys(requests())
    first, *_, last = running
    assert Fcfs().live().victim(running) is last
    running = dict.fromkeys([last, first])
    assert Fcfs().live().victim(running) is first
    assert Priority().live().victim(running) is last
