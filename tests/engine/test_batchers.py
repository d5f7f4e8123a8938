"""What every batcher must do, whoever wrote it, and the rules of each one by hand."""

from __future__ import annotations

from math import inf
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from servesim.policies.batching.base import Batcher, BatchServer
from servesim.registry import Kind, kinds
from servesim.request import Request

BATCHERS: dict[str, list[dict[str, Any]]] = {
    "adaptive": [{"max_batch_size": 5, "latency_target_s": 2.0, "max_queue_delay_s": 0.5, "initial_batch_size": 3}],
    "deadline": [{"max_batch_size": 3}, {"max_batch_size": 4, "late": "reject"}],
    "dynamic": [
        {"max_batch_size": 4},
        {"max_batch_size": 6, "preferred_batch_size": [2, 4], "max_queue_delay_s": 1.5},
        {
            "max_batch_size": 4,
            "max_queue_delay_s": 3.0,
            "priority_levels": 3,
            "default_priority_level": 2,
            "default_queue_policy": {"default_timeout_s": 2.0, "max_queue_size": 4},
            "priority_queue_policy": {"3": {"timeout_action": "delay", "default_timeout_s": 1.0}},
        },
    ],
    "length_bucketed": [
        {"max_batch_size": 3, "boundaries_tokens": [2, 4], "max_queue_delay_s": 1.0},
        {"max_batch_size": 3, "boundaries_tokens": [3], "max_queue_delay_s": None},
    ],
    "static": [{"batch_size": 3}, {"batch_size": 4, "timeout_s": 1.0}],
    "take_all": [{}, {"min_batch_size": 2, "max_batch_size": 4}],
    "timeout": [{"max_batch_size": 3, "timeout_s": 1.0}],
}
CASES = [{"kind": kind, **fields} for kind, examples in BATCHERS.items() for fields in examples]
READ = TypeAdapter(Annotated[Batcher, Kind("batcher")])


def batcher(fields: dict[str, Any]) -> Batcher:
    """Return a live batcher of a server that takes 1 s and 0.1 s per item, with answers due after 3 s."""
    found: Batcher = READ.validate_python(fields)
    live = found.live()
    live.start(BatchServer(lambda size, prompt, output: 1 + 0.1 * size, (3.0, inf)))
    return live


def request(number: int, at_s: float, prompt: int = 1, priority: int = 0, class_index: int = 0) -> Request:
    return Request(number, class_index, at_s, prompt, 1, priority, lambda _: None)


def test_every_batcher_of_this_package_is_tested() -> None:
    own = {kind for kind, cls in kinds("batcher").items() if cls.__module__.startswith("servesim.")}
    assert own == set(BATCHERS)


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "add", "remove", "look", "look", "wait"]),
        st.integers(1, 6),
        st.integers(0, 4),
    ),
    max_size=60,
)


@pytest.mark.parametrize("fields", CASES, ids=str)
@given(events=EVENTS)
@settings(max_examples=60, deadline=None)
def test_contract(fields: dict[str, Any], events: list[tuple[str, int, int]]) -> None:
    """Nobody is lost, invented or served twice; no batch is too large; a timer lies ahead."""
    one = batcher(fields)
    now_s, number = 0.0, 0
    inside: dict[Request, None] = {}
    started: list[Request] = []
    for what, prompt, priority in events:
        if what == "add":
            newcomer = request(number, now_s, prompt, priority, number % 2)
            number += 1
            reason = one.add(newcomer, now_s)
            assert isinstance(reason, str)
            if not reason:
                inside[newcomer] = None
        elif what == "remove" and inside:
            leaver = list(inside)[prompt % len(inside)]
            del inside[leaver]
            one.remove(leaver)
        elif what == "wait":
            now_s += 0.25 * prompt
        elif inside:
            batch = one.next_batch(now_s)
            rejected = one.take_rejected()
            for gone in [*batch, *(refused for refused, _ in rejected)]:
                del inside[gone]  # raises if it was never there, or is there twice
            assert all(reason for _, reason in rejected)
            assert one.take_rejected() == []
            assert len(batch) <= one.largest
            started += batch
            if batch:
                one.completed(batch, 0.5 * prompt, now_s)
            elif inside:
                assert one.timer_s() > now_s
        assert sorted(left.request_id for left in one.waiting()) == sorted(left.request_id for left in inside)
    for level in range(5) if fields["kind"] == "dynamic" else [None]:
        same = [r.request_id for r in started if level in (None, r.priority)]
        if fields["kind"] in ("static", "take_all", "timeout", "adaptive") or (level is not None and level != 3):
            assert same == sorted(same)  # first come first served


def sizes(fields: dict[str, Any], looks: list[tuple[float, int]]) -> list[int]:
    """Return the size of the batch found at each look, `arriving` requests coming right before it at the same time."""
    one, number, found = batcher(fields), 0, []
    for now_s, arriving in looks:
        for _ in range(arriving):
            assert not one.add(request(number, now_s), now_s)
            number += 1
        found.append(len(one.next_batch(now_s)))
    return found


TRITON = {"kind": "dynamic", "max_batch_size": 8}


@pytest.mark.parametrize(
    ("fields", "looks", "expected"),
    [
        (TRITON, [(0.0, 3), (0.0, 0), (1.0, 20), (1.0, 0), (1.0, 0), (1.0, 0)], [3, 0, 8, 8, 4, 0]),
        # Without a delay: the largest preferred size at once, and what is below the smallest at once too.
        ({**TRITON, "preferred_batch_size": [4, 8]}, [(0.0, 3), (1.0, 6), (1.0, 0)], [3, 4, 2]),
        # With a delay smaller ones wait; once the oldest waited long enough everything goes, preferred or not.
        (
            {**TRITON, "preferred_batch_size": [4], "max_queue_delay_s": 2.0},
            [(0.0, 3), (1.9, 0), (2.0, 3), (3.0, 3), (4.0, 1)],
            [0, 0, 6, 0, 4],
        ),
        ({**TRITON, "max_queue_delay_s": 2.0}, [(0.0, 7), (1.0, 1), (1.0, 4), (3.0, 9)], [0, 8, 0, 8]),
        ({"kind": "static", "batch_size": 4}, [(0.0, 3), (9.0, 1), (9.0, 3)], [0, 4, 0]),
        ({"kind": "static", "batch_size": 4, "timeout_s": 2.0}, [(0.0, 3), (2.0, 0)], [0, 3]),
        ({"kind": "take_all", "min_batch_size": 2}, [(0.0, 1), (0.0, 9)], [0, 10]),
        ({"kind": "take_all", "min_batch_size": 2}, [(0.0, 1), (0.0, 1)], [0, 2]),
        # Closed by the third; and who comes at the very instant of closing still joins.
        ({"kind": "timeout", "max_batch_size": 3, "timeout_s": 1.0}, [(0.0, 4), (0.5, 0), (1.0, 1)], [3, 0, 2]),
        # Closed at 1.0 with three, though nobody was free to take them; the fourth opened the next one.
        ({"kind": "timeout", "max_batch_size": 9, "timeout_s": 1.0}, [(0.0, 3), (1.5, 1), (2.4, 1), (2.5, 0)],
         [0, 3, 0, 2]),
        # Limit 1, then 2, 3 as each full batch is in time.
        ({"kind": "adaptive", "max_batch_size": 9, "latency_target_s": 1.0}, [(0.0, 3), (0.0, 0)], [1, 1]),
        # 1 s and 0.1 s per item, due in 3 s: at 1.5 four are in time, a fifth is not.
        ({"kind": "deadline", "max_batch_size": 9}, [(0.0, 0), (0.0, 9)], [0, 9]),
        ({"kind": "deadline", "max_batch_size": 4}, [(0.0, 9)], [4]),
    ],
    ids=str,
)  # fmt: skip
def test_sizes_by_hand(fields: dict[str, Any], looks: list[tuple[float, int]], expected: list[int]) -> None:
    assert sizes(fields, looks) == expected


def test_a_batch_grows_while_the_most_urgent_is_in_time() -> None:
    one = batcher({"kind": "deadline", "max_batch_size": 9})
    for number in range(9):
        one.add(request(number, 0.0), 0.0)
    assert [r.request_id for r in one.next_batch(1.55)] == [0, 1, 2, 3]  # 1.55 + 1.4 <= 3 < 1.55 + 1.5
    one.add(request(9, 0.5), 2.0)
    assert [r.request_id for r in one.next_batch(2.0)] == [9, *()]  # due at 3.5; the others are late by now
    assert [r.request_id for r in one.next_batch(2.0)] == [4, 5, 6, 7, 8]


def test_late_requests_can_be_rejected() -> None:
    one = batcher({"kind": "deadline", "max_batch_size": 9, "late": "reject"})
    one.add(request(0, 0.0), 0.0)
    one.add(request(1, 0.0, class_index=1), 0.0)  # has no deadline
    assert [r.request_id for r in one.next_batch(2.5)] == [1]
    assert [(r.request_id, why) for r, why in one.take_rejected()] == [(0, "could not meet its deadline")]


def test_aimd() -> None:
    """1 -> 2 -> 3 on full batches in time, unchanged by one that is not full, times 0.9 beyond the target."""
    one = batcher({"kind": "adaptive", "max_batch_size": 3, "latency_target_s": 1.0})
    for number in range(40):
        one.add(request(number, 0.0), 0.0)
    found = []
    for seconds in (0.5, 0.5, 0.5, 0.5, 1.5, 1.5, 0.9):
        batch = one.next_batch(0.0)
        found.append(len(batch))
        one.completed(batch, seconds, 0.0)
    assert found == [1, 2, 3, 3, 3, 2, 2]


def test_buckets_do_not_mix() -> None:
    one = batcher({"kind": "length_bucketed", "max_batch_size": 2, "boundaries_tokens": [2, 4], "max_queue_delay_s": 5})
    for number, prompt in enumerate([1, 3, 9, 4, 2, 8]):
        one.add(request(number, number, prompt), float(number))
    batches = [[r.request_id for r in one.next_batch(5.0)] for _ in range(4)]
    assert batches == [[0, 4], [1, 3], [2, 5], []]


def test_priorities_and_timeouts_of_triton() -> None:
    """Level 1 first; level 2 rejects after 2 s; level 3 is delayed after 1 s, then served behind its own level."""
    levels = {"2": {"default_timeout_s": 2.0}, "3": {"timeout_action": "delay", "default_timeout_s": 1.0}}
    one = batcher({
        "kind": "dynamic", "max_batch_size": 9, "priority_levels": 3, "default_priority_level": 2,
        "priority_queue_policy": levels,
    })  # fmt: skip
    for number, (at_s, priority) in enumerate([(0.0, 3), (0.0, 0), (0.5, 2), (1.5, 3), (1.6, 1), (1.6, 77)]):
        one.add(request(number, at_s, priority=priority), at_s)
    assert [r.request_id for r in one.next_batch(2.0)] == [4, 2, 5, 3, 0]
    assert [(r.request_id, why) for r, why in one.take_rejected()] == [(1, "waited longer than default_timeout_s")]


def test_a_full_level_refuses() -> None:
    one = batcher({"kind": "dynamic", "max_batch_size": 9, "default_queue_policy": {"max_queue_size": 2}})
    assert [one.add(request(n, 0.0), 0.0) == "" for n in range(3)] == [True, True, False]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({**TRITON, "preferred_batch_size": [9]}, "preferred_batch_size 9 is above max_batch_size 8"),
        ({**TRITON, "priority_levels": 2}, "default_priority_level must be one of the levels 1 to 2"),
        ({**TRITON, "default_priority_level": 1}, "default_priority_level needs priority_levels"),
        ({"kind": "take_all", "min_batch_size": 3, "max_batch_size": 2}, "min_batch_size 3 is above"),
        ({"kind": "length_bucketed", "max_batch_size": 3, "boundaries_tokens": [4, 4]}, "must ascend"),
    ],
)
def test_contradictions_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        READ.validate_python(fields)
