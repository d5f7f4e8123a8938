"""Names in a valid scenario that the catalog must know, so that a misspelt one is found with its line."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from servesim.catalog import gpu_of, model_of
from servesim.errors import InputError, Problem
from servesim.scenario.document import Node
from servesim.scenario.load_place import locate
from servesim.scenario.load_problems import placed
from servesim.scenario.schema import PoolSpec, Scenario


def catalog_problems(scenario: Scenario, root: Node) -> list[Problem]:
    """Return the unknown models and GPUs of the scenario's pools."""
    problems = []
    for name, pool in scenario.pools.items():
        for keys, look_up in _look_ups(pool):
            try:
                look_up()
            except InputError as error:
                place = locate(root, ("pools", name, *keys))
                path = ".".join(("pools", name, *keys))
                problems += [placed(_message(problem), path, place.node.mark) for problem in error.problems]
    return problems


def _message(problem: Problem) -> str:
    """Return the message, after the name of the model's own file if it is about that."""
    return f"{problem.file}: {problem.message}" if problem.file else problem.message


def _look_ups(pool: PoolSpec) -> Iterator[tuple[tuple[str, ...], Callable[[], object]]]:
    source, gpu = pool.model, pool.gpu
    if gpu is not None:
        yield ("gpu",) if isinstance(gpu, str) else ("gpu", "base"), lambda: gpu_of(gpu)
    if source is not None:
        yield ("model",) if isinstance(source, str) else ("model", "config"), lambda: model_of(source)
