"""Names in a scenario that the catalog must know, so that a misspelt one is found with its line."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import islice
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from servesim.catalog import gpu_of, model_of
from servesim.errors import InputError, Problem
from servesim.scenario.document import MAX_PROBLEMS, Node, dotted, plain
from servesim.scenario.load_place import Place, child_by_name, locate
from servesim.scenario.load_problems import placed
from servesim.scenario.schema import PoolSpec

_LOOK_UPS: dict[str, tuple[Callable[[Any], object], str]] = {"gpu": (gpu_of, "base"), "model": (model_of, "config")}
"""How each of a pool's keys is looked up, and the key that names something where the value is a mapping."""


def catalog_problems(root: Node) -> list[Problem]:
    """Return the unknown models and GPUs of the scenario's pools, whatever else is wrong with it.

    Looking up stops after one more than are shown, so that it is said that there are more.
    """
    pools = child_by_name(root, "pools")
    names = list(pools.node.value) if pools is not None and isinstance(pools.node.value, dict) else []
    problems = (problem for name in names for key in _LOOK_UPS for problem in _unknown(root, ("pools", name, key)))
    return list(islice(problems, MAX_PROBLEMS + 1))


def _unknown(root: Node, path: tuple[str, str, str]) -> list[Problem]:
    look_up, inside = _LOOK_UPS[path[-1]]
    place = locate(root, path)
    if place.faulty or place.rest or place.path != path:
        return []
    try:
        source = _reader(path[-1]).validate_python(plain(place.node))
    except ValidationError:  # which the schema says
        return []
    try:
        if source is not None:
            look_up(source)
    except InputError as error:
        named = place if isinstance(source, str) else locate(root, (*path, inside))
        return [
            _placed(problem, named, path if isinstance(source, str) else (*path, inside)) for problem in error.problems
        ]
    return []


@cache
def _reader(key: str) -> TypeAdapter[Any]:
    field = PoolSpec.model_fields[key]
    reader: Any = Annotated[field.annotation, field]
    return TypeAdapter(reader)


def _placed(problem: Problem, place: Place, path: tuple[str, ...]) -> Problem:
    """Return a problem at its place; one about the model's own file begins with that file's name."""
    message = f"{problem.file}: {problem.message}" if problem.file else problem.message
    return placed(message, dotted(path), place.node.mark)
