"""A scenario whose pool runs as it is deployed: what its flags say takes the place of what the scenario says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from servesim import catalog
from servesim.deploy.command import Deployed
from servesim.deploy.flags import ASSUMPTIONS
from servesim.deploy.read import read
from servesim.engine.spec import ContinuousBatching
from servesim.errors import InputError, Problem
from servesim.scenario.load_allowed import suggestion
from servesim.scenario.schema import PoolSpec, Scenario

_OPTION = "--deployed"


def with_deployed(scenario: Scenario, sources: Sequence[str]) -> Scenario:
    """Return the scenario with pools as deployed; each source is `[POOL=]COMMAND`, or a file that holds a command.

    Model, backend, replicas and all engine settings are the command's, or the server's defaults where it says nothing;
    of the scenario's own engine only what no flag decides is kept (host times). Raises InputError.
    """
    for source in sources:
        name, command = _parted(source, scenario)
        pool = _deployed(scenario.pools[name], read(command, _OPTION), command)
        scenario = scenario.model_copy(update={"pools": {**scenario.pools, name: pool}})
    return scenario


def differences(before: Scenario, after: Scenario) -> Iterator[str]:
    """Yield each setting of a pool that is deployed otherwise than the scenario says."""
    for name, old in before.pools.items():
        new = after.pools[name]
        for key in ("model", "backend", "replicas"):
            if getattr(old, key) != getattr(new, key):
                yield f"pools.{name}.{key}: deployed {getattr(new, key)}, the scenario has {getattr(old, key)}"
        for key in type(new.engine).model_fields:
            was, now = getattr(old.engine, key, None), getattr(new.engine, key)
            if was != now:
                yield f"pools.{name}.engine.{key}: deployed {_word(now)}, the scenario has {_word(was)}"


def said(source: str, scenario: Scenario) -> dict[str, Any]:
    """Return what matters of a source, as plain data: where it is written and what is not simulated does not."""
    name, command = _parted(source, scenario)
    found = read(command, _OPTION)
    engine = {key: value if isinstance(value, str | int | float) else str(value) for key, value in found.engine.items()}
    return {"pool": name, "server": found.server, "model": found.model, "replicas": found.replicas, "engine": engine}


def _word(value: Any) -> str:
    kind = getattr(value, "kind", None)
    return "the default" if value is None else str(value if kind is None else kind)


def _parted(source: str, scenario: Scenario) -> tuple[str, str]:
    first, equals, rest = source.partition("=")
    if equals and first in scenario.pools:
        return first, rest
    file = Path(rest)
    if equals and not Path(source).exists() and (file.suffix in (".yaml", ".yml") or file.exists()):
        message = f"no pool {first!r}{suggestion(first, scenario.pools)}; there are {', '.join(scenario.pools)}"
        raise InputError(Problem(message, file=f"{_OPTION} {source}"))
    if len(scenario.pools) == 1:
        return next(iter(scenario.pools)), source
    raise InputError(Problem(f"say which pool it is: POOL={source}; there are {', '.join(scenario.pools)}"))


def _deployed(pool: PoolSpec, found: Deployed, command: str) -> PoolSpec:
    where = f"{_OPTION} {command if Path(command).exists() else 'COMMAND'}"
    if found.others:
        models = ", ".join([found.model, *found.others])
        raise InputError(Problem(f"holds several servers ({models}); give the command of one", file=where))
    if not isinstance(pool.engine, ContinuousBatching):
        raise InputError(Problem(f"the pool's engine is {pool.engine.kind}, which no such server runs", file=where))
    kept = {name: getattr(pool.engine, name) for name in pool.engine.model_fields_set & ASSUMPTIONS if name != "kind"}
    try:
        engine = ContinuousBatching.model_validate({**kept, **found.engine})
    except ValidationError as error:
        one = error.errors()[0]
        place = ".".join(map(str, one["loc"]))
        raise InputError(Problem(one["msg"].removeprefix("Value error, "), place, where)) from None
    backend = "vllm" if found.server == "tgi" else found.server
    same = pool.model is not None and _same_model(pool.model, found.model)
    model = pool.model if same else _known(found.model, where)
    return pool.model_copy(update={"engine": engine, "backend": backend, "replicas": found.replicas, "model": model})


def _same_model(ours: Any, theirs: str) -> bool:
    try:
        return catalog.model_of(ours).name == catalog.model_of(theirs).name
    except InputError:
        return False


def _known(model: str, where: str) -> str:
    try:
        catalog.model_of(model)
    except InputError as error:
        raise InputError([Problem(one.message, "model", where) for one in error.problems]) from None
    return model
