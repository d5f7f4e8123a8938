"""Something new is one file: a registered class is at once a choice in a scenario."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Literal

import numpy as np
import pytest
from pydantic import Field

from servesim import Scenario, registry, simulate
from servesim.policies.routing.base import Router
from servesim.policies.scheduling.fcfs import Fcfs
from servesim.registry import kinds, register
from servesim.request import Request
from servesim.scenario import schema
from servesim.workload.base import Length, TimedArrivals


@pytest.fixture
def own_kinds() -> Iterator[None]:
    """Register one of each, and take them away again."""
    before = {family: dict(known) for family, known in registry._FAMILIES.items()}

    @register("arrivals")
    class Pairs(TimedArrivals):
        """Two at a time, every second."""

        kind: Literal["pairs"] = "pairs"

        def times(self, rng: np.random.Generator) -> Iterator[np.ndarray]:
            for second in range(10_000):
                yield np.array([second, second], dtype=float)

    @register("length")
    class Seven(Length):
        """Always seven."""

        kind: Literal["seven"] = "seven"

        def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
            return np.full(n, 7)

    @register("router")
    class Favourite(Router):
        """Everything to one replica."""

        kind: Literal["favourite"] = "favourite"
        replica: int = Field(0, strict=True, ge=0)

        def start(self, replicas: int, rng: np.random.Generator) -> None:
            self.asked = 0

        def choose(self, request: Request) -> int:
            self.asked += 1
            return self.replica

    @register("scheduler")
    class LastComeFirst(Fcfs):
        """The newest first."""

        kind: Literal["lcfs"] = "lcfs"

        def add(self, request: Request) -> bool:
            self._queue.appendleft(request)
            return True

    schema.refresh()
    yield
    registry._FAMILIES.clear()
    registry._FAMILIES.update(before)
    schema.refresh()
    gc.collect()


@pytest.mark.usefixtures("own_kinds")
def test_one_of_each_registered_here_runs_in_a_scenario() -> None:
    scenario = Scenario.model_validate(
        {
            "name": "own",
            "workload": {
                "num_requests": 40,
                "classes": {"a": {"arrivals": "pairs", "prompt_tokens": {"kind": "seven"}, "output_tokens": 3}},
            },
            "pools": {
                "p": {
                    "replicas": 3,
                    "router": {"kind": "favourite", "replica": 2},
                    "engine": {"scheduler": "lcfs", "max_num_seqs": 1},
                    "service_time": {"kind": "affine", "base_s": 0.4},
                }
            },
        }
    )
    result = simulate(scenario)
    number, replica, prompt, arrival, start = result.record.requests.column(
        "request_id", "replica", "prompt_tokens", "arrival_s", "first_scheduled_s"
    )
    assert set(replica) == {2.0}
    assert set(prompt) == {7.0}
    assert sorted(arrival) == [second for second in range(20) for _ in range(2)]
    order = number[np.argsort(start)]
    assert list(order) != sorted(order)  # a newcomer overtakes those who wait


def test_a_second_class_of_the_same_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="already registered by servesim"):

        @register("router")
        class Other(Router):
            """Not the first of its name."""

            kind: Literal["round_robin"] = "round_robin"


def test_a_kind_without_a_name_is_refused() -> None:
    with pytest.raises(TypeError, match="Literal default"):

        @register("router")
        class Nameless(Router):
            """Says nothing."""


@pytest.mark.parametrize("family", registry.families())
def test_every_kind_explains_itself(family: str) -> None:
    """One class, one file, one docstring; its name is the file's or close to it."""
    for name, cls in kinds(family).items():
        assert cls.__doc__, f"{family} {name} has no docstring"
        assert cls.__doc__.strip().splitlines()[0].endswith((".", ":")), (
            f"{family} {name}: a first line that is a sentence"
        )


@pytest.mark.parametrize("family", ["router", "scheduler"])
def test_a_live_policy_is_a_fresh_copy_and_its_specification_stays_frozen(family: str) -> None:
    for cls in kinds(family).values():
        spec = cls()
        first, second = spec.live(), spec.live()
        for live in (first, second):
            live.start(*((4, np.random.default_rng(0)) if family == "router" else ()))
        assert first.__dict__.keys() >= spec.__dict__.keys()
        assert first.__dict__ is not second.__dict__
        with pytest.raises(AttributeError):
            spec.kind = "other"


@pytest.mark.parametrize("kind", sorted(kinds("router")))
@pytest.mark.parametrize("replicas", [2, 3, 17])
def test_every_router_stays_inside_its_pool_and_forgets_nobody(kind: str, replicas: int) -> None:
    router = kinds("router")[kind]().live()
    router.start(replicas, np.random.default_rng(1))
    request = Request(0, 0, 0.0, 1, 1, 0, done=lambda _: None)
    inside = [0] * replicas
    draw = np.random.default_rng(2)
    for _ in range(2000):
        chosen = router.choose(request)
        assert 0 <= chosen < replicas
        inside[chosen] += 1
        if kind == "least_outstanding":
            assert inside[chosen] - 1 == min([*inside[:chosen], inside[chosen] - 1, *inside[chosen + 1 :]])
        while sum(inside) and draw.random() < 0.5:
            leaving = int(draw.choice([i for i, n in enumerate(inside) if n]))
            inside[leaving] -= 1
            router.ended(leaving)
