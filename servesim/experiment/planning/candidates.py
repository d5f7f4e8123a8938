"""The configurations of a plan's space, and the scenarios they make of the plan's own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from servesim import catalog
from servesim.engine.base import Plan
from servesim.errors import InputError
from servesim.scenario.load_plan import LoadedPlan
from servesim.scenario.resolve import Resolved, resolve
from servesim.scenario.schema import PoolSpec, Scenario
from servesim.service_time.calibrated import Calibrated
from servesim.service_time.roofline import Roofline

_NO_CALIBRATION = "no calibration"
PCIE_BYTES_PER_S = 3.2e10
"""PCIe 4.0 x16 in one direction, which `servesim new` assumes, too."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One configuration, of any size. `scenario` is the plan's with it, of size 1.

    `settings` are the choices made, by their place in the space. `usd_per_hour` is the price of one replica (or of one
    server), None without prices: then what is counted is replicas.
    """

    settings: dict[str, Any]
    scenario: Scenario
    pool: str
    plan: Plan
    gpus: int
    usd_per_hour: float | None
    sized_by: str = "replicas"

    @property
    def name(self) -> str:
        """The choices in words."""
        return ", ".join(f"{key} {value}" for key, value in self.settings.items()) or "as it is"

    @property
    def unit_cost(self) -> float:
        """What one replica or server costs: USD per hour, or 1 without prices."""
        return 1.0 if self.usd_per_hour is None else self.usd_per_hour

    @property
    def estimated(self) -> bool:
        """True if iteration times are an estimate from GPU facts."""
        return "band" in self.plan.origin.facts

    def of_size(self, size: int) -> Scenario:
        """Return the scenario with so many replicas or servers."""
        pool = self.scenario.pools[self.pool]
        if self.sized_by == "servers":
            pool = pool.model_copy(update={"engine": pool.engine.model_copy(update={"servers": size})})
        else:
            pool = pool.model_copy(update={"replicas": size})
        return with_pool(self.scenario, self.pool, pool)


@dataclass(frozen=True, slots=True)
class Pruned:
    """A configuration that fell without being simulated to a verdict, and why: the rule's name and a sentence."""

    settings: dict[str, Any]
    rule: str
    reason: str


def with_pool(scenario: Scenario, name: str, pool: PoolSpec) -> Scenario:
    """Return the scenario with one pool replaced."""
    return scenario.model_copy(update={"pools": {**scenario.pools, name: pool}})


def candidates(loaded: LoadedPlan) -> tuple[list[Candidate], list[Pruned]]:
    """Return the configurations that can be built, and those that cannot, with the reason.

    Raises InputError if some have a price and others none.
    """
    possible: list[Candidate] = []
    pruned: list[Pruned] = []
    for settings in _combinations(loaded):
        try:
            possible.append(candidate_of(loaded, settings))
        except InputError as error:
            message = error.problems[0].message
            pruned.append(Pruned(settings, _rule(message), message))
    _refuse_half_priced(possible)
    return possible, pruned


def _combinations(loaded: LoadedPlan) -> Iterator[dict[str, Any]]:
    space = loaded.spec.space
    assert space is not None
    axes: dict[str, list[Any]] = {}
    for name in ("gpu", "backend", "tensor_parallel_size"):
        values = getattr(space, name)
        if values is not None:
            axes[name] = values
    axes |= space.engine
    for values in itertools.product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


def candidate_of(loaded: LoadedPlan, settings: dict[str, Any]) -> Candidate:
    """Return the plan's scenario with these settings; raises InputError if nothing can do this."""
    spec, base = loaded.spec, loaded.scenario.pools[loaded.pool]
    assert spec.space is not None
    of_pool = {name: value for name, value in settings.items() if name in ("gpu", "backend")}
    of_engine = {name: value for name, value in settings.items() if name not in of_pool}
    if "gpu" in of_pool:
        of_pool["usd_per_gpu_hour"] = spec.usd_per_gpu_hour.get(catalog.gpu(of_pool["gpu"]).name)
    elif isinstance(base.gpu, str):
        price = spec.usd_per_gpu_hour.get(catalog.gpu(base.gpu).name)
        of_pool |= {} if price is None else {"usd_per_gpu_hour": price}
    if isinstance(getattr(base.engine, "num_gpu_blocks", None), int) and {"gpu", "tensor_parallel_size"} & {*settings}:
        of_engine.setdefault("num_gpu_blocks", None)  # was of another deployment; derived from memory instead
    fields = {name: getattr(base.engine, name) for name in type(base.engine).model_fields}
    try:
        engine = type(base.engine).model_validate({**fields, **of_engine})
    except ValidationError as error:
        raise InputError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None
    pool = base.model_copy(update={**of_pool, "engine": engine, "replicas": 1})
    scenario, plan, price = _resolved(loaded, pool)
    servers = spec.space.servers is not None
    gpus = plan.gpus_per_replica
    usd = None if price is None else price * max(gpus, 1)
    return Candidate(settings, scenario, loaded.pool, plan, gpus, usd, "servers" if servers else "replicas")


def _resolved(loaded: LoadedPlan, pool: PoolSpec) -> tuple[Scenario, Plan, float | None]:
    """Return the scenario with the pool, its plan and the price of a GPU; estimated times for want of calibrated."""
    scenario = with_pool(loaded.scenario, loaded.pool, pool)
    try:
        found = resolve(scenario)
    except InputError as error:
        missing = any(_NO_CALIBRATION in problem.message for problem in error.problems)
        default = isinstance(pool.service_time, Calibrated) and pool.service_time.file is None
        if not missing or not default or loaded.spec.estimates == "refuse":
            raise
        scenario, found = _estimated(loaded, pool)
    mine = next(one for one in found.pools if one.name == loaded.pool)
    return scenario, mine.plan, mine.usd_per_gpu_hour


def _estimated(loaded: LoadedPlan, pool: PoolSpec) -> tuple[Scenario, Resolved]:
    """Return the scenario with roofline times; GPUs without a known link are taken to be joined by PCIe."""
    for service_time in (Roofline(), Roofline(link_bytes_per_s=PCIE_BYTES_PER_S)):
        scenario = with_pool(loaded.scenario, loaded.pool, pool.model_copy(update={"service_time": service_time}))
        try:
            return scenario, resolve(scenario)
        except InputError as error:
            failure = error
    raise failure


def _rule(message: str) -> str:
    if "does not fit" in message:
        return "memory"
    if _NO_CALIBRATION in message or "link bandwidth" in message:
        return "unknown"
    return "illegal"


def _refuse_half_priced(possible: list[Candidate]) -> None:
    prices = {candidate.usd_per_hour is None for candidate in possible}
    if prices == {True, False}:
        without = sorted({str(one.settings.get("gpu")) for one in possible if one.usd_per_hour is None})
        raise InputError(
            f"usd_per_gpu_hour: no price is known of {', '.join(without)}; give one, such as "
            f"usd_per_gpu_hour: {{{without[0]}: 2.5}}"
        )
