"""Names in a valid scenario that the catalog must know, so that a misspelt one is found with its line."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from servesim.catalog import gpu, model
from servesim.errors import InputError, Problem
from servesim.scenario.document import Node
from servesim.scenario.load_place import locate
from servesim.scenario.load_problems import placed
from servesim.scenario.schema import PoolSpec, Scenario

_LONGEST_NAME = 200


def catalog_problems(scenario: Scenario, root: Node) -> list[Problem]:
    """Return the unknown models, GPUs and number formats of the scenario's pools."""
    problems = []
    for name, pool in scenario.pools.items():
        for keys, look_up in _look_ups(pool):
            try:
                look_up()
            except InputError as error:
                place = locate(root, ("pools", name, *keys))
                path = ".".join(("pools", name, *keys))
                problems += [placed(problem.message, path, place.node.mark) for problem in error.problems]
    return problems


def _look_ups(pool: PoolSpec) -> Iterator[tuple[tuple[str, ...], Callable[[], object]]]:
    if pool.model is not None:
        yield ("model",), lambda: model(_short(pool.model))
    if pool.gpu is not None:
        yield ("gpu",), lambda: gpu(_short(pool.gpu))
    try:
        entry = model(_short(pool.model))
    except InputError:
        return
    quantization = getattr(pool.engine, "quantization", None)
    if quantization is not None:
        yield ("engine", "quantization"), lambda: entry.bytes_per_weight(quantization)
    kv_cache_dtype = getattr(pool.engine, "kv_cache_dtype", None)
    if kv_cache_dtype is not None:
        yield ("engine", "kv_cache_dtype"), lambda: entry.kv_bytes_per_token(kv_cache_dtype)


def _short(name: str | None) -> str:
    """Return a name of a length that is cheap to compare with the catalog's."""
    return (name or "")[:_LONGEST_NAME]
