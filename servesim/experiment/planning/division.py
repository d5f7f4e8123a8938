"""How to divide an inventory: no model with a higher chance of a breach than it must have, then at the least cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from servesim.experiment.planning.packing import Limit, Option, Packing, pack

Survive = Literal["nothing", "replica", "node"]


class Breaches(Protocol):
    """The chance of a breach by replicas that are up: never more with more of them."""

    def breach(self, size: int) -> float:
        """Return the chance with so many replicas."""

    def least(self, chance: float, most: int) -> int | None:
        """Return the fewest with at most this chance; None: more than `most`."""


@dataclass(frozen=True)
class Choice:
    """A configuration that a model may have: what each replica takes and costs, and its chances of a breach."""

    model: str
    gpu: str
    gpus: int
    unit_cost: float
    curve: Breaches


@dataclass(frozen=True)
class Division:
    """What each model gets, and how many of its replicas are `up` at worst."""

    packing: Packing
    up: dict[str, int]

    def breach(self, choices: Sequence[Choice]) -> dict[str, float]:
        """Return each model's chance of a breach with what is up at worst."""
        return {name: choices[one.key].curve.breach(self.up[name]) for name, one in self.packing.taken.items()}


@dataclass
class Divider:
    """Looks for the division over some choices; `allowed` is the chance of a breach that each model may have.

    The level of a model is its chance over the one allowed, and 1 where it is allowed.
    """

    nodes: Mapping[str, Sequence[int]]
    choices: Sequence[Choice]
    allowed: Mapping[str, float]
    survive: Survive

    def divide(self) -> Division | None:
        """Return the best division; None if there is no room for a replica of each model that is up at worst.

        The highest level is as low as can be, then as few models as can be have it, then the next level is as low as
        can be, and so on (lexicographic max-min fairness: W. Ogryczak and T. Sliwinski, "On direct methods for
        lexicographic min-max optimization", Proc. ICCSA 2006). Of all divisions with these levels it is the cheapest.
        """
        enough = pack(
            [one for one in self._all_options(only_enough=True) if one.level == 1.0], self.nodes, self.allowed
        )
        if enough is not None:
            return self._division(enough)
        options = self._all_options()
        if pack(options, self.nodes, self.allowed) is None:
            return None
        best = pack(options, self.nodes, self.allowed, self._limits(options))
        assert best is not None
        return self._division(best)

    def _limits(self, options: list[Option]) -> list[Limit]:
        """Return how many models may have more than which level."""
        limits: list[Limit] = []
        above, levels = 0, sorted({option.level for option in options})

        def possible(limit: Limit) -> bool:
            return pack(options, self.nodes, self.allowed, [*limits, limit]) is not None

        while above < len(self.allowed):
            index = _first([Limit(level, above) for level in levels], possible)
            limits.append(Limit(levels[index], above))
            if index == 0:
                break
            below = levels[index - 1]
            above = next(count for count in range(above + 1, len(self.allowed) + 1) if possible(Limit(below, count)))
            limits.append(Limit(below, above))
            levels = levels[:index]
        return limits

    def _division(self, packing: Packing) -> Division:
        return Division(packing, {name: self.up(one, packing) for name, one in packing.taken.items()})

    def up(self, option: Option, packing: Packing) -> int:
        """Return how many of an option's replicas are up after the worst loss that must be survived."""
        if self.survive == "node":
            return option.count - max(node.get(option.model, 0) for node in packing.nodes[option.gpu])
        return option.count - (self.survive == "replica")

    def _all_options(self, only_enough: bool = False) -> list[Option]:
        return [option for key in range(len(self.choices)) for option in self._options(key, only_enough)]

    def _options(self, key: int, only_enough: bool) -> list[Option]:
        """Return the ways to reach each level of a choice with the fewest replicas, from the best level on."""
        choice = self.choices[key]
        most, allowed = self._most(choice), self.allowed[choice.model]
        found: list[Option] = []
        enough = choice.curve.least(allowed, most)
        last = math.inf
        for up in [enough] if enough is not None and only_enough else range(1, (enough or most) + 1):
            level = max(1.0, choice.curve.breach(up) / allowed)
            if level < last:
                found += self._ways(key, up, most, level)
                last = level
        return found

    def _ways(self, key: int, up: int, most: int, level: float) -> list[Option]:
        """Return the ways to have so many up at worst: one, or one for each cap on those in a node."""
        choice = self.choices[key]

        def option(count: int, cap: int | None = None) -> Option:
            return Option(choice.model, key, choice.gpu, choice.gpus, count, count * choice.unit_cost, cap, level)

        if self.survive != "node":
            count = up + (self.survive == "replica")
            return [option(count)] if count <= most else []
        fitting = max(gpus // choice.gpus for gpus in self.nodes[choice.gpu])
        return [option(up + cap, cap) for cap in range(1, min(fitting, up) + 1) if up + cap <= most]

    def _most(self, choice: Choice) -> int:
        """Return how many replicas fit if nothing else is there."""
        return sum(gpus // choice.gpus for gpus in self.nodes[choice.gpu])


def _first(limits: Sequence[Limit], holds: Callable[[Limit], bool]) -> int:
    """Return the place of the first that holds: the last does, and all after one that does."""
    low, high = -1, len(limits) - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(limits[middle]) else (middle, high)
    return high
