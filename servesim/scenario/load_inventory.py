"""From an inventory file to a checked plan with the scenarios of its models, or to every problem it has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from pydantic import ValidationError

from servesim import catalog
from servesim.errors import InputError, Problem
from servesim.registry import revision
from servesim.scenario.document import Node, parse_document, plain
from servesim.scenario.document_text import read_text
from servesim.scenario.inventory_schema import InventoryPlanSpec, InventorySpec, ModelSpec
from servesim.scenario.load_allowed import suggestion
from servesim.scenario.load_overrides import overridden
from servesim.scenario.load_paths import Folders, with_absolute_paths
from servesim.scenario.load_place import child_by_name
from servesim.scenario.load_plan import (
    LoadedPlan,
    engine_problems,
    gpu_problems,
    only_pool,
    scenario_of,
    targets_problems,
)
from servesim.scenario.load_problems import in_order, placed, schema_problems
from servesim.scenario.plan_schema import PlanSpec, SizeRange, SpaceSpec
from servesim.scenario.schema import Scenario, refresh
from servesim.workload.scaled import scaled

_MOST_REPLICAS = 100_000


@dataclass(frozen=True, slots=True)
class LoadedInventory:
    """An inventory with the scenarios of its models, each as a plan of its own over the GPUs that it may use."""

    spec: InventoryPlanSpec
    models: dict[str, LoadedPlan]


def is_inventory(path: str | Path) -> bool:
    """Say whether a file has an `inventory` at its top; False for what is no mapping or cannot be read."""
    try:
        root = parse_document(read_text(Path(path), str(path)), str(path)).root
    except InputError:
        return False
    return isinstance(root.value, dict) and "inventory" in root.value and "scenario" not in root.value


def load_inventory(
    path: str | Path, overrides: Sequence[str] = (), *, allow_paths: Sequence[str | Path] = ()
) -> LoadedInventory:
    """Return the inventory in the YAML file `path`; raises InputError with every problem found.

    `overrides` and `allow_paths` are as of `load_plan`.
    """
    document = parse_document(read_text(Path(path), str(path)), str(path))
    folders = Folders(Path(path).parent, allow_paths)
    found, problems = None, list(document.problems)
    for reading in document.readings:
        root, faults = overridden(reading, overrides)
        found, more = _loaded(root, folders, allow_paths)
        problems += [*faults, *more]
    if found is None or problems:
        raise InputError(in_order(dict.fromkeys(problems)))
    return found


def _loaded(
    root: Node, folders: Folders, allow_paths: Sequence[str | Path]
) -> tuple[LoadedInventory | None, list[Problem]]:
    """Return the inventory, and what is wrong with each of its parts, whatever is wrong with the others."""
    problems = with_absolute_paths(root, folders)
    spec, faults = _validated(root)
    problems += [*faults, *_gpu_problems(root)]
    place = child_by_name(root, "models")
    names = list(place.node.value) if place is not None and isinstance(place.node.value, dict) else []
    models = {}
    for name in names:
        at = child_by_name(root, f"models.{name}")
        assert at is not None
        scenario, faults = scenario_of(at.node, folders, allow_paths)
        try:
            if spec is not None and scenario is not None:
                models[name] = _model(spec, spec.models[name], at.node, scenario)
        except InputError as error:
            faults += error.problems
        problems += [_inside(problem, name, root) for problem in faults]
    return None if spec is None else LoadedInventory(spec, models), problems


@lru_cache(maxsize=1)
def _follow_registry(revision: int) -> None:
    """Rebuild the schema when kinds were registered since the last load."""
    refresh()
    ModelSpec.model_rebuild(force=True)
    InventoryPlanSpec.model_rebuild(force=True)


def _validated(root: Node) -> tuple[InventoryPlanSpec | None, list[Problem]]:
    _follow_registry(revision())
    try:
        return InventoryPlanSpec.model_validate(plain(root)), []
    except ValidationError as error:
        return None, schema_problems(error, root, InventoryPlanSpec)


def _inside(problem: Problem, name: str, root: Node) -> Problem:
    """Return a problem of a model with the place of the model in the document before its own."""
    if problem.file != root.mark.file:
        return problem
    return replace(problem, path=f"models.{name}.{problem.path}" if problem.path else f"models.{name}")


def _gpu_problems(root: Node) -> Iterator[Problem]:
    """Yield names of the inventory that are no GPU's in the catalog."""
    known = catalog.gpus()
    counted = child_by_name(root, "inventory")
    names = counted.node.value if counted is not None and isinstance(counted.node.value, dict) else {}
    for name in names:
        if name not in known and name not in InventorySpec.model_fields:
            place = child_by_name(root, f"inventory.{name}")
            mark = root.mark if place is None else place.key
            hint = suggestion(name, [*known, "per_node"])
            message = f"unknown GPU {name!r}{hint or '.'} Known: {', '.join(known)}"
            yield placed(message, f"inventory.{name}", mark)


def _model(spec: InventoryPlanSpec, model: ModelSpec, node: Node, scenario: Scenario) -> LoadedPlan:
    """Return one model as a plan of its own."""
    pool = only_pool(scenario, model.pool, node)
    if scenario.pools[pool].model is None:
        raise InputError(placed("its pool runs on no GPU, so there is nothing to divide", "scenario", node.mark))
    faults = [*gpu_problems(model.space, node), *engine_problems(model.space, scenario.pools[pool], node)]
    faults += targets_problems(scenario, node)
    there = list(spec.inventory.gpus)
    for index, gpu in enumerate(model.space.gpu or ()):
        place = child_by_name(node, f"space.gpu.{index}")
        if gpu not in spec.inventory.__pydantic_extra__ and place is not None:
            message = f"{gpu!r} is not in the inventory ({', '.join(there)}){suggestion(gpu, there)}"
            faults.append(placed(message, f"space.gpu.{index}", place.mark))
    for name, one in scenario.workload.classes.items():
        try:
            scaled(one.arrivals, 2.0)
        except InputError as error:
            message = f"class {name}: {error.problems[0].message}, so that growth means nothing"
            faults.append(placed(message, "scenario", node.mark))
    if faults:
        raise InputError(list(dict.fromkeys(faults)))
    chosen = [gpu for gpu in model.space.gpu or there if gpu in there]
    fields = {name: getattr(model.space, name) for name in ("backend", "tensor_parallel_size", "engine")}
    space = SpaceSpec(gpu=chosen, **fields, replicas=SizeRange(most=_MOST_REPLICAS))
    plan = PlanSpec(
        scenario=scenario,
        pool=pool,
        space=space,
        attainment=spec.attainment,
        estimates=spec.estimates,
        usd_per_gpu_hour=spec.usd_per_gpu_hour,
    )
    return LoadedPlan(plan, scenario, pool)
