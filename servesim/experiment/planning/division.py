"""How to divide an inventory: no model with a higher chance of a breach than it must have, then at the least cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from servesim.experiment.planning.packing import Option, Packing, pack

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
    """What each model gets. `levels` are the chances of a breach that were aimed at, over those allowed; 1: enough.

    `up` are the replicas that are up at worst.
    """

    packing: Packing
    levels: dict[str, float]
    up: dict[str, int]

    def breach(self, choices: Sequence[Choice]) -> dict[str, float]:
        """Return each model's chance of a breach with what is up at worst."""
        return {name: choices[one.key].curve.breach(self.up[name]) for name, one in self.packing.taken.items()}


@dataclass
class Divider:
    """Looks for the division over some choices; `allowed` is the chance of a breach that each model may have."""

    nodes: Mapping[str, Sequence[int]]
    choices: Sequence[Choice]
    allowed: Mapping[str, float]
    survive: Survive
    tried: dict[tuple[float, ...], Packing | None] = field(default_factory=dict)

    def divide(self) -> Division | None:
        """Return the best division; None if there is not even room for one replica of each model, and what may fail.

        Levels are as low as they can be together, down to 1; models whose level no other can lower keep theirs, and
        those of the others are lowered further (max-min fairness, as of D. Bertsekas and R. Gallager, "Data Networks",
        2nd edition, section 6.5.2). Of the divisions with these levels it is the cheapest.
        """
        levels = dict.fromkeys(self.allowed, self._highest())
        if self._packed(levels) is None:
            return None
        open_ones = list(self.allowed)
        while open_ones:
            level = self._lowest(levels, open_ones)
            levels |= dict.fromkeys(open_ones, level)
            if level == 1.0:
                break
            stuck = [name for name in open_ones if not self._can_be_lower(levels, name)] or open_ones[:1]
            open_ones = [name for name in open_ones if name not in stuck]
        packing = self._packed(levels)
        assert packing is not None
        return Division(packing, levels, {name: self.up(one, packing) for name, one in packing.taken.items()})

    def up(self, option: Option, packing: Packing) -> int:
        """Return how many of an option's replicas are up after the worst loss that must be survived."""
        if self.survive == "node":
            return option.count - max(node.get(option.model, 0) for node in packing.nodes[option.gpu])
        return option.count - (self.survive == "replica")

    def _highest(self) -> float:
        return 1 / min(self.allowed.values())

    def _grid(self, names: Sequence[str]) -> list[float]:
        """Return the levels at which a model could do with fewer replicas, 1 the lowest."""
        found = {1.0, self._highest()}
        for choice in self.choices:
            if choice.model in names:
                allowed = self.allowed[choice.model]
                sizes = range(1, self._most(choice) + 1)
                found |= {level for size in sizes if (level := choice.curve.breach(size) / allowed) > 1}
        return sorted(found)

    def _lowest(self, levels: dict[str, float], names: Sequence[str]) -> float:
        """Return the lowest level that all of `names` can have with the others as they are."""
        return _first(
            self._grid(names), lambda level: self._packed({**levels, **dict.fromkeys(names, level)}) is not None
        )

    def _can_be_lower(self, levels: dict[str, float], name: str) -> bool:
        lower = [level for level in self._grid([name]) if level < levels[name]]
        return bool(lower) and self._packed({**levels, name: lower[-1]}) is not None

    def _packed(self, levels: Mapping[str, float]) -> Packing | None:
        key = tuple(levels[name] for name in self.allowed)
        if key not in self.tried:
            options = [option for choice in range(len(self.choices)) for option in self._options(choice, levels)]
            whole = {option.model for option in options} == set(self.allowed)
            self.tried[key] = pack(options, self.nodes) if whole else None
        return self.tried[key]

    def _options(self, key: int, levels: Mapping[str, float]) -> list[Option]:
        """Return the ways to have enough replicas of a choice: one, or one for each cap on those in a node."""
        choice = self.choices[key]
        most = self._most(choice)
        needed = choice.curve.least(min(1.0, levels[choice.model] * self.allowed[choice.model] * (1 + 1e-12)), most)
        if needed is None:
            return []

        def option(count: int, cap: int | None = None) -> Option:
            return Option(choice.model, key, choice.gpu, choice.gpus, count, count * choice.unit_cost, cap)

        if self.survive != "node":
            count = needed + (self.survive == "replica")
            return [option(count)] if count <= most else []
        fitting = max(gpus // choice.gpus for gpus in self.nodes[choice.gpu])
        caps = range(1, min(fitting, needed) + 1)
        return [option(needed + cap, cap) for cap in caps if needed + cap <= most]

    def _most(self, choice: Choice) -> int:
        """Return how many replicas fit if nothing else is there."""
        return sum(gpus // choice.gpus for gpus in self.nodes[choice.gpu])


def _first(ascending: Sequence[float], holds: Callable[[float], bool]) -> float:
    """Return the first value that holds, of values of which the last does and all after one that does do, too."""
    low, high = -1, len(ascending) - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(ascending[middle]) else (middle, high)
    return ascending[high]
