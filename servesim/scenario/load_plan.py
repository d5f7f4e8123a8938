"""From a plan file to a checked plan and its scenario, or to every problem it has with its line and column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from servesim import catalog
from servesim.errors import InputError, Problem
from servesim.registry import revision
from servesim.scenario.document import Node, described, parse_document, plain
from servesim.scenario.document_text import read_text
from servesim.scenario.load import load
from servesim.scenario.load_allowed import schema_fields, suggestion
from servesim.scenario.load_catalog import catalog_problems
from servesim.scenario.load_overrides import overridden
from servesim.scenario.load_paths import Folders, with_absolute_paths
from servesim.scenario.load_place import child_by_name
from servesim.scenario.load_problems import in_order, placed, schema_problems
from servesim.scenario.plan_schema import ChoicesSpec, PlanSpec, SpaceSpec
from servesim.scenario.schema import PoolSpec, Scenario, refresh

_Part = TypeVar("_Part", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class LoadedPlan:
    """A plan whose scenario is at hand; `pool` is the name of the pool to plan."""

    spec: PlanSpec
    scenario: Scenario
    pool: str


def load_plan(
    path: str | Path,
    overrides: Sequence[str] = (),
    *,
    allow_paths: Sequence[str | Path] = (),
    needs_space: bool = True,
) -> LoadedPlan:
    """Return the plan in the YAML file `path`; a scenario by itself is a plan without a space.

    `overrides` are `a.b.c=value` texts for the document. The scenario's file is looked for in the plan's folder and
    must lie there or below one of `allow_paths`. Raises InputError with every problem found, and for a plan without a
    space if one is needed.
    """
    document = parse_document(read_text(Path(path), str(path)), str(path))
    if not isinstance(document.root.value, dict) and not (document.root.faulty and document.problems):
        what = "is empty" if document.root.value is None else f"is {described(document.root.value)}"
        raise InputError(Problem(f"{what}; a plan is a mapping with scenario and space", "", *document.root.mark))
    root, _ = overridden(document.root, overrides)
    if isinstance(root.value, dict) and "inventory" in root.value and "scenario" not in root.value:
        raise InputError(Problem("divides an inventory; that has no --how-much-load and no one space", "", *root.mark))
    if isinstance(root.value, dict) and "workload" in root.value and "scenario" not in root.value:
        scenario_only = load(path, overrides, allow_paths=allow_paths)
        if needs_space:
            raise InputError(Problem("is a scenario; a plan has scenario: FILE and space: ...", "", *root.mark))
        if faults := list(targets_problems(scenario_only, root, "workload.classes")):
            raise InputError(in_order(faults))
        return LoadedPlan(PlanSpec(scenario=scenario_only), scenario_only, only_pool(scenario_only, None, root))
    folders = Folders(Path(path).parent, allow_paths)
    found, problems = None, list(document.problems)
    for reading in document.readings:
        found, faults = _loaded(reading, overrides, folders, allow_paths)
        problems += faults
    if needs_space and found is not None and found.spec.space is None:
        problems.append(placed("space: missing; it says what may be chosen", "", root.mark))
    if found is None or problems:
        raise InputError(in_order(dict.fromkeys(problems)))
    return found


def _loaded(
    reading: Node, overrides: Sequence[str], folders: Folders, allow_paths: Sequence[str | Path]
) -> tuple[LoadedPlan | None, list[Problem]]:
    """Return the plan, and what is wrong with each of its parts, whatever is wrong with the others."""
    root, problems = overridden(reading, overrides)
    problems += with_absolute_paths(root, folders)
    spec, faults = _validated(root)
    problems += faults
    scenario, faults = scenario_of(root, folders, allow_paths)
    problems += faults
    space = part_of(SpaceSpec, root, "space") if spec is None else spec.space
    problems += gpu_problems(space, root)
    if scenario is None:
        return None, problems
    problems += targets_problems(scenario, root)
    pool = child_by_name(root, "pool")
    asked = None if pool is None else pool.node.value
    try:
        name = only_pool(scenario, asked if isinstance(asked, str) else None, root)
    except InputError as error:
        return None, [*problems, *error.problems]
    problems += engine_problems(space, scenario.pools[name], root)
    return None if spec is None else LoadedPlan(spec, scenario, name), problems


@lru_cache(maxsize=1)
def _follow_registry(revision: int) -> None:
    """Rebuild the schema when kinds were registered since the last load."""
    refresh()
    PlanSpec.model_rebuild(force=True)


def _validated(root: Node) -> tuple[PlanSpec | None, list[Problem]]:
    _follow_registry(revision())
    try:
        return PlanSpec.model_validate(plain(root)), []
    except ValidationError as error:
        return None, schema_problems(error, root, PlanSpec)


def scenario_of(
    root: Node, folders: Folders, allow_paths: Sequence[str | Path]
) -> tuple[Scenario | None, list[Problem]]:
    """Return the scenario of a plan, or of one of its models at `root`: the one inside, or its file's.

    And what is wrong with it, apart from what the schema says of the one inside.
    """
    place = child_by_name(root, "scenario")
    if place is None or place.faulty:
        return None, []
    if isinstance(place.node.value, dict):
        unknown = [replace(one, path=f"scenario.{one.path}") for one in catalog_problems(place.node)]
        return part_of(Scenario, root, "scenario"), unknown
    if not isinstance(place.node.value, str):
        return None, []
    try:
        return load(folders.find(place.node.value, trusted=False), allow_paths=allow_paths), []
    except InputError as error:
        return None, error.problems
    except ValueError as error:
        return None, [placed(str(error), "scenario", place.node.mark)]


def part_of(model: type[_Part], root: Node, key: str) -> _Part | None:
    """Return a part of a document by itself; None where it is missing or at fault."""
    place = child_by_name(root, key)
    try:
        return None if place is None or place.faulty else model.model_validate(plain(place.node))
    except ValidationError:
        return None


def only_pool(scenario: Scenario, asked: str | None, root: Node) -> str:
    """Return the name of the pool to plan; InputError if that is not clear."""
    names = list(scenario.pools)
    if asked is None and len(names) == 1:
        return names[0]
    if asked in scenario.pools:
        assert asked is not None
        return asked
    place = child_by_name(root, "pool")
    what = f"no pool {asked!r}" if asked else "say which pool to plan"
    mark = root.mark if place is None else place.node.mark
    raise InputError(placed(f"{what}; the scenario has {', '.join(names)}", "pool", mark))


def gpu_problems(space: ChoicesSpec | None, root: Node) -> Iterator[Problem]:
    """Yield the names in a space that are no GPU's."""
    for index, name in enumerate((space and space.gpu) or ()):
        try:
            catalog.gpu(name)
        except InputError as error:
            for problem in error.problems:
                yield _at(root, f"space.gpu.{index}", problem.message)


def engine_problems(space: ChoicesSpec | None, pool: PoolSpec, root: Node) -> Iterator[Problem]:
    """Yield what of a space the pool's engine cannot take."""
    if space is None:
        return
    fields = schema_fields(type(pool.engine))
    servers = space.servers if isinstance(space, SpaceSpec) else None
    if servers is not None and "servers" not in fields:
        yield _at(root, "space.servers", f"engine {pool.engine.kind!r} has no servers; give replicas")
    if servers is not None and pool.replicas != 1:
        yield _at(root, "space.servers", f"is planned for one station, but the pool has {pool.replicas} replicas")
    if space.tensor_parallel_size is not None and "tensor_parallel_size" not in fields:
        yield _at(root, "space.tensor_parallel_size", f"engine {pool.engine.kind!r} has no such setting")
    known = [name for name in fields if name != "kind"]
    for name, values in space.engine.items():
        if name not in known:
            hint = suggestion(name, known)
            yield _at(root, f"space.engine.{name}", f"engine {pool.engine.kind!r} has no {name!r}{hint}", key=True)
            continue
        reader: Any = Annotated[fields[name].annotation, fields[name]]
        adapter: TypeAdapter[Any] = TypeAdapter(reader)
        for index, value in enumerate(values):
            try:
                adapter.validate_python(value)
            except ValidationError as error:
                message = error.errors()[0]["msg"].removeprefix("Value error, ")
                yield _at(root, f"space.engine.{name}.{index}", message[:1].lower() + message[1:])


def targets_problems(scenario: Scenario, root: Node, where: str = "scenario") -> Iterator[Problem]:
    """Yield that nothing is asked of the scenario at `where`, or what cannot be shown."""
    slos = {name: one.slo for name, one in scenario.workload.classes.items()}
    if not any(slo.has_thresholds or slo.itl_s is not None for slo in slos.values()):
        yield _at(root, where, "no class of the scenario has an slo, so there is nothing to meet")
    for name, slo in slos.items():
        if slo.attainment == 1.0:
            message = f"class {name} asks for an attainment of 1, which no number of runs can show; ask for 0.999"
            yield _at(root, where, message)


def _at(root: Node, path: str, message: str, *, key: bool = False) -> Problem:
    place = child_by_name(root, path)
    if place is None:
        return placed(message, path, root.mark)
    return placed(message, path, place.key if key else place.mark)
