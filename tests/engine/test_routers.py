"""Routers as state machines: each choice, looked at from outside."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servesim.policies.routing.base import Router
from servesim.policies.routing.least_outstanding import LeastOutstanding
from servesim.policies.routing.power_of_d import PowerOfD
from servesim.policies.routing.random import Random
from servesim.policies.routing.round_robin import RoundRobin
from servesim.request import Request


def started(router: Any, replicas: int, seed: int = 0) -> Router:
    live: Router = router.live()
    live.start(replicas, np.random.default_rng(seed))
    return live


def request() -> Request:
    return Request(0, 0, 0.0, 1, 1, 0, lambda ended: None)


def test_round_robin_takes_turns() -> None:
    router = started(RoundRobin(), 3)
    assert [router.choose(request()) for _ in range(7)] == [0, 1, 2, 0, 1, 2, 0]


@pytest.mark.parametrize("router", [Random(), PowerOfD(d=1)])
def test_random_replicas_are_chosen_equally_often(router: Any) -> None:
    live, number, replicas = started(router, 5), 20_000, 5
    counts = np.bincount([live.choose(request()) for _ in range(number)], minlength=replicas)
    expected = number / replicas
    assert len(counts) == replicas
    assert float(((counts - expected) ** 2 / expected).sum()) < 23.5  # chi-square with 4 degrees, 1 in 10,000


@given(st.integers(1, 6), st.lists(st.booleans(), max_size=60), st.integers(0, 99))
def test_the_shortest_of_all_is_chosen(replicas: int, events: list[bool], seed: int) -> None:
    """Looking at every replica, both kinds choose a least loaded one; requests end in any order."""
    for router in (LeastOutstanding(), PowerOfD(d=replicas)):
        live, inside, rng = started(router, replicas, seed), [0] * replicas, np.random.default_rng(seed)
        for comes in events:
            busy = [replica for replica, count in enumerate(inside) if count]
            if comes or not busy:
                chosen = live.choose(request())
                assert inside[chosen] == min(inside)
                inside[chosen] += 1
            else:
                ends = int(rng.choice(busy))
                inside[ends] -= 1
                live.ended(ends)


def test_two_choices_leave_out_only_the_fullest() -> None:
    """With one busy replica of three, two looks always find an idle one; only a random choice would not."""
    for seed in range(20):
        live = started(PowerOfD(d=2), 3, seed)
        busy = live.choose(request())
        assert live.choose(request()) != busy
