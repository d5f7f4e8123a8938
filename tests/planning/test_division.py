"""Small inventories, every division of which is enumerated: the one found is the best, and every placement is real."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from servesim.experiment.planning.division import Choice, Divider, Division, Survive
from servesim.experiment.planning.packing import Option, pack


@dataclass(frozen=True)
class Table:
    """Chances of a breach by the replicas that are up, from none on; never more with more of them."""

    chances: tuple[float, ...]

    def breach(self, size: int) -> float:
        return 1.0 if size < 1 else self.chances[min(size, len(self.chances)) - 1]

    def least(self, chance: float, most: int) -> int | None:
        return next((size for size in range(1, most + 1) if self.breach(size) <= chance), None)


def placements(sizes: Sequence[int], count: int, gpus: int) -> Iterator[tuple[int, ...]]:
    """Yield every way to put so many replicas into nodes with so many free GPUs."""
    if not sizes:
        if count == 0:
            yield ()
        return
    for here in range(min(count, sizes[0] // gpus) + 1):
        for rest in placements(sizes[1:], count - here, gpus):
            yield (here, *rest)


def divisions(
    nodes: Mapping[str, Sequence[int]], choices: Sequence[Choice], models: Sequence[str], survive: Survive
) -> Iterator[tuple[dict[str, float], float]]:
    """Yield (chance of a breach by model, cost) of every choice, count and placement with something up at worst."""
    if not models:
        yield {}, 0.0
        return
    first, *rest = models
    for choice in choices:
        if choice.model != first:
            continue
        free = nodes[choice.gpu]
        for count in range(1, sum(free) // choice.gpus + 1):
            for placed in placements(free, count, choice.gpus):
                lost = {"nothing": 0, "replica": 1, "node": max(placed)}[survive]
                if count == lost:
                    continue  # nothing is up at worst
                left = {**nodes, choice.gpu: [f - p * choice.gpus for f, p in zip(free, placed, strict=True)]}
                for others, cost in divisions(left, choices, rest, survive):
                    yield {first: choice.curve.breach(count - lost), **others}, cost + count * choice.unit_cost


def ranked(breach: Mapping[str, float], allowed: Mapping[str, float], cost: float) -> tuple[list[float], float]:
    """Return what is to be smallest: levels from the worst to the best, those that are enough alike; then the cost."""
    return sorted((max(1.0, breach[name] / allowed[name]) for name in allowed), reverse=True), cost


def checked(divider: Divider, division: Division) -> None:
    """Hold a division against the nodes: no replica spans two, and as many are up as is said."""
    for name, option in division.packing.taken.items():
        placed = [node.get(name, 0) for node in division.packing.nodes[option.gpu]]
        assert sum(placed) == option.count
        lost = {"nothing": 0, "replica": 1, "node": max(placed)}[divider.survive]
        assert division.up[name] == option.count - lost
    for gpu, sizes in divider.nodes.items():
        for size, node in zip(sizes, division.packing.nodes[gpu], strict=True):
            assert sum(division.packing.taken[name].gpus * count for name, count in node.items()) <= size


CHANCES = st.lists(st.sampled_from([0.0, 0.01, 0.04, 0.3, 0.6, 1.0]), min_size=1, max_size=5).map(
    lambda found: Table(tuple(sorted(found, reverse=True)))
)


@st.composite
def problems(draw: st.DrawFn) -> Divider:
    nodes = {"a": draw(st.sampled_from([[4], [3, 3], [4, 2], [2, 2, 2]]))}
    if draw(st.booleans()):
        nodes["b"] = draw(st.sampled_from([[2], [1, 1], [3]]))
    models = ["x", "y", "z"][: draw(st.integers(1, 3))]
    choices = []
    for model in models:
        for gpu in nodes:
            for gpus in draw(st.lists(st.sampled_from([1, 2, 3]), min_size=1, max_size=2, unique=True)):
                if gpus <= max(nodes[gpu]):
                    cost = gpus * {"a": 3.0, "b": 2.0}[gpu]
                    choices.append(Choice(model, gpu, gpus, cost, draw(CHANCES)))
    allowed = {model: draw(st.sampled_from([0.05, 0.05, 0.3])) for model in models}
    return Divider(nodes, choices, allowed, draw(st.sampled_from(["nothing", "replica", "node"])))


@settings(max_examples=60, deadline=None)
@given(problems())
def test_no_division_of_a_small_inventory_is_better(divider: Divider) -> None:
    every = [
        ranked(breach, divider.allowed, cost)
        for breach, cost in divisions(divider.nodes, divider.choices, list(divider.allowed), divider.survive)
    ]
    found = divider.divide()
    assert (found is None) == (not every)
    if found is None:
        return
    checked(divider, found)
    levels, cost = ranked(found.breach(divider.choices), divider.allowed, found.packing.cost)
    best = min(every)
    assert levels == pytest.approx(best[0])
    assert cost == pytest.approx(best[1])


def test_replicas_do_not_straddle_nodes() -> None:
    """Four replicas of 3 GPUs are 12 GPUs, but two nodes of 8 hold no more than four and three of 4 only three."""
    option = Option("m", 0, "g", 3, 4, 12.0)
    assert pack([option], {"g": [8, 8]}, ["m"]) is not None
    assert pack([option], {"g": [4, 4, 4]}, ["m"]) is None


def test_sizes_that_do_not_divide_each_other_are_packed_node_by_node() -> None:
    """3 + 5 fill a node of 8 twice; sums alone would also let 5 + 5 + 3 + 3 into nodes of 9 and 7, which cannot be."""
    options = [Option("x", 0, "g", 5, 2, 10.0), Option("y", 1, "g", 3, 2, 6.0)]
    found = pack(options, {"g": [8, 8]}, ["x", "y"])
    assert found is not None
    assert found.nodes["g"] == [{"x": 1, "y": 1}, {"x": 1, "y": 1}]
    assert pack(options, {"g": [9, 4, 3]}, ["x", "y"]) is None


def test_a_large_inventory_takes_no_longer_than_its_sums() -> None:
    options = [Option(f"m{n}", n, "g", 2**n, 500 // 2**n, 500.0) for n in range(4)]
    found = pack(options, {"g": [8] * 250}, ["m0", "m1", "m2", "m3"])
    assert found is not None
    assert all(sum(2 ** int(name[1]) * count for name, count in node.items()) <= 8 for node in found.nodes["g"])
    assert math.isclose(found.cost, 2000.0)


def test_losing_a_node_asks_for_replicas_in_more_nodes() -> None:
    table = Table((1.0, 0.0))
    choice = Choice("m", "g", 1, 1.0, table)
    spread = Divider({"g": [4, 4, 4]}, [choice], {"m": 0.1}, "node").divide()
    assert spread is not None
    assert [node.get("m", 0) for node in spread.packing.nodes["g"]] == [1, 1, 1]
    two = Divider({"g": [4, 4]}, [choice], {"m": 0.1}, "node").divide()
    assert two is not None
    assert [node.get("m", 0) for node in two.packing.nodes["g"]] == [2, 2]
    alone = Divider({"g": [8]}, [choice], {"m": 0.1}, "node").divide()
    assert alone is None


def test_what_others_cannot_use_goes_to_those_who_can() -> None:
    """x must stay bad whatever it gets; y is still brought down to what it may have."""
    hopeless, fine = Table((0.9, 0.9, 0.9, 0.9)), Table((0.8, 0.5, 0.01))
    choices = [Choice("x", "g", 1, 1.0, hopeless), Choice("y", "g", 1, 1.0, fine)]
    found = Divider({"g": [4]}, choices, {"x": 0.05, "y": 0.05}, "nothing").divide()
    assert found is not None
    assert {name: one.count for name, one in found.packing.taken.items()} == {"x": 1, "y": 3}


@pytest.mark.parametrize("survive", ["nothing", "replica", "node"])
def test_without_room_for_every_model_there_is_no_division(survive: Survive) -> None:
    choices = [Choice(name, "g", 2, 1.0, Table((0.0,))) for name in "xyz"]
    assert Divider({"g": [4]}, choices, dict.fromkeys("xyz", 0.1), survive).divide() is None
    assert len(list(itertools.islice(divisions({"g": [4]}, choices, ["x", "y"], "nothing"), 1))) == 1
