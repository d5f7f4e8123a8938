"""The cheapest way to take one option for each model such that all replicas fit into the nodes, as an integer program.

A replica lies within one node. Where sizes of replicas divide each other and nothing is asked of how they are spread,
what fits follows from sums alone (E. G. Coffman, M. R. Garey and D. S. Johnson, "Bin packing with divisible item
sizes", Journal of Complexity 3(4), 1987); else every node is counted by itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from servesim.errors import InputError

_TIME_LIMIT_S = 60.0
_MOST_CELLS = 20_000


@dataclass(frozen=True, slots=True)
class Option:
    """`count` replicas of `gpus` GPUs each for a model, at most `per_node` of them in a node (None: as many as fit)."""

    model: str
    key: int
    gpu: str
    gpus: int
    count: int
    cost: float
    per_node: int | None = None
    level: float = 1.0


class Limit(NamedTuple):
    """At most `most` of the options taken have more than a level."""

    level: float
    most: int


@dataclass(frozen=True, slots=True)
class Packing:
    """The options taken, by model; of each GPU kind and node, how many replicas of which model."""

    taken: dict[str, Option]
    nodes: dict[str, list[dict[str, int]]]

    @property
    def cost(self) -> float:
        """What all of it costs."""
        return sum(option.cost for option in self.taken.values())


def pack(
    options: Sequence[Option],
    nodes: Mapping[str, Sequence[int]],
    models: Iterable[str],
    limits: Sequence[Limit] = (),
) -> Packing | None:
    """Return the cheapest packing with one option for each of `models`; None if there is none.

    `nodes` are the GPUs in each node by GPU kind. Raises InputError where the program is too large to be solved.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp  # type: ignore[import-untyped]  # takes long to load
    from scipy.sparse import csr_array  # type: ignore[import-untyped]

    if not {option.model for option in options}.issuperset(models):
        return None
    program = _Program(options, nodes, limits)
    if program.columns > _MOST_CELLS:
        raise InputError(f"{program.columns:,} variables; ask for fewer configurations, or for survive: replica")
    matrix = csr_array((program.values, (program.row_of, program.column_of)), shape=(len(program.low), program.columns))
    costs = np.zeros(program.columns)
    costs[: len(options)] = [option.cost for option in options]
    found = milp(
        costs,
        integrality=np.ones(program.columns),
        bounds=Bounds(0, np.array(program.most, dtype=float)),
        constraints=LinearConstraint(matrix, program.low, program.high),
        options={"time_limit": _TIME_LIMIT_S, "mip_rel_gap": 1e-9},
    )
    if found.status == 2:
        return None
    if found.x is None or found.status != 0:
        raise InputError(f"the division could not be found within {_TIME_LIMIT_S:g} s; ask for fewer configurations")
    taken = {option.model: option for option, one in zip(options, found.x, strict=False) if one > 0.5}
    return Packing(taken, program.placed(taken, np.rint(found.x).astype(int)))


class _Program:
    """The integer program: a 0/1 variable for each option, and for spread options the replicas in each node."""

    def __init__(self, options: Sequence[Option], nodes: Mapping[str, Sequence[int]], limits: Sequence[Limit]) -> None:
        self._options, self._nodes = options, nodes
        self.columns = len(options)
        self.most = [1.0] * len(options)
        self.low: list[float] = []
        self.high: list[float] = []
        self.values: list[float] = []
        self.row_of: list[int] = []
        self.column_of: list[int] = []
        self._cells: dict[tuple[str, int, int], list[int]] = {}
        for model in dict.fromkeys(option.model for option in options):
            self._row({index: 1 for index, one in enumerate(options) if one.model == model}, 1, 1)
        for limit in limits:
            self._row({index: 1 for index, one in enumerate(options) if one.level > limit.level}, 0, limit.most)
        for gpu, sizes in nodes.items():
            of_gpu = {index: one for index, one in enumerate(options) if one.gpu == gpu}
            if _by_sums({one.gpus for one in of_gpu.values()}) and all(o.per_node is None for o in of_gpu.values()):
                self._sums(of_gpu, sizes)
            else:
                self._each_node(of_gpu, sizes)

    def _row(self, terms: Mapping[int, float], low: float, high: float) -> None:
        self.row_of += [len(self.low)] * len(terms)
        self.column_of += list(terms)
        self.values += list(terms.values())
        self.low.append(low)
        self.high.append(high)

    def _sums(self, options: Mapping[int, Option], nodes: Sequence[int]) -> None:
        """Replicas of at least each size fit into what nodes hold of that size."""
        for size in {one.gpus for one in options.values()}:
            terms = {index: one.count * one.gpus for index, one in options.items() if one.gpus >= size}
            self._row(terms, 0, sum(gpus // size * size for gpus in nodes))

    def _each_node(self, options: Mapping[int, Option], nodes: Sequence[int]) -> None:
        groups: dict[tuple[str, int], dict[int, Option]] = {}
        for index, one in options.items():
            groups.setdefault((one.model, one.gpus), {})[index] = one
        load: list[dict[int, float]] = [{} for _ in nodes]
        for (_, gpus), members in groups.items():
            cells = list(range(self.columns, self.columns + len(nodes)))
            self.columns += len(nodes)
            self.most += [available // gpus for available in nodes]
            self._cells.update({(one.model, one.gpus, index): cells for index, one in members.items()})
            self._row({**dict.fromkeys(cells, 1), **{index: -one.count for index, one in members.items()}}, 0, 0)
            for node, cell in enumerate(cells):
                caps = {
                    i: -float(nodes[node] // gpus if o.per_node is None else o.per_node) for i, o in members.items()
                }
                self._row({cell: 1, **caps}, -np.inf, 0)
                load[node][cell] = gpus
        for node, terms in enumerate(load):
            if terms:
                self._row(terms, 0, nodes[node])

    def placed(self, taken: Mapping[str, Option], solution: np.ndarray) -> dict[str, list[dict[str, int]]]:
        """Return the replicas in each node: as solved, or from the largest to the smallest where sums decided."""
        found = {gpu: [Counter[str]() for _ in sizes] for gpu, sizes in self._nodes.items()}
        index_of = {id(option): index for index, option in enumerate(self._options)}
        for option in sorted(taken.values(), key=lambda one: -one.gpus):
            counts = found[option.gpu]
            cells = self._cells.get((option.model, option.gpus, index_of[id(option)]))
            if cells is not None:
                for node, cell in enumerate(cells):
                    counts[node][option.model] += int(solution[cell])
                continue
            self._spread(option, taken, counts)
        return {gpu: [dict(sorted((+one).items())) for one in counts] for gpu, counts in found.items()}

    def _spread(self, option: Option, taken: Mapping[str, Option], counts: list[Counter[str]]) -> None:
        """Place replicas one by one where there are fewest of their model, then where most room is."""
        room = [
            size - sum(taken[name].gpus * number for name, number in counts[node].items())
            for node, size in enumerate(self._nodes[option.gpu])
        ]
        for _ in range(option.count):
            fits = [node for node, free in enumerate(room) if free >= option.gpus]
            node = min(fits, key=lambda one: (counts[one][option.model], -room[one], one))
            counts[node][option.model] += 1
            room[node] -= option.gpus


def _by_sums(sizes: set[int]) -> bool:
    """Say whether each size divides the next larger one."""
    ascending = sorted(sizes)
    return all(large % small == 0 for small, large in pairwise(ascending))
