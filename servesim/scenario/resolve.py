"""From a scenario to plain numbers: every default filled in, every name looked up."""

from __future__ import annotations

from dataclasses import dataclass

from servesim import catalog
from servesim.engine.base import Plan, Site
from servesim.errors import InputError, Problem
from servesim.scenario.schema import PoolSpec, Scenario


@dataclass(slots=True)
class ResolvedPool:
    """A pool with nothing left to look up; `spec` has the found values written in."""

    name: str
    spec: PoolSpec
    plan: Plan
    usd_per_gpu_hour: float | None


@dataclass(slots=True)
class Resolved:
    """A scenario ready to run; `scenario` has the found values written in, so that it says exactly what ran."""

    scenario: Scenario
    pools: list[ResolvedPool]


def resolve(scenario: Scenario) -> Resolved:
    """Look up and fill in everything; raise InputError with all problems found."""
    pools: list[ResolvedPool] = []
    problems: list[Problem] = []
    for name, spec in scenario.pools.items():
        try:
            pools.append(
                _resolve_pool(name, spec, tuple(c for c in scenario.workload.classes if scenario.pool_of(c) == name))
            )
        except InputError as error:
            problems += [
                Problem(p.message, p.path or f"pools.{name}", p.file, p.line, p.column) for p in error.problems
            ]
    problems += _paces_of_whole_answers(scenario, pools)
    problems += _stops_within_whole_answers(scenario, pools)
    if problems:
        raise InputError(problems)
    filled = {pool.name: pool.spec for pool in pools}
    return Resolved(scenario.model_copy(update={"pools": filled}), pools)


def _paces_of_whole_answers(scenario: Scenario, pools: list[ResolvedPool]) -> list[Problem]:
    """Return objectives for the time between tokens of classes whose pool gives all tokens at once."""
    whole = {pool.name for pool in pools if pool.plan.request_level}
    return [
        Problem(
            f"pool {scenario.pool_of(name)} gives whole answers, which have no time between tokens; use e2e_s",
            f"workload.classes.{name}.slo.{key}",
        )
        for name, spec in scenario.workload.classes.items()
        if scenario.pool_of(name) in whole
        for key in ("tpot_s", "itl_s")
        if getattr(spec.slo, key) is not None
    ]


def _stops_within_whole_answers(scenario: Scenario, pools: list[ResolvedPool]) -> list[Problem]:
    """Return clients that stop after some tokens of an answer that comes all at once."""
    whole = {pool.name for pool in pools if pool.plan.request_level}
    found = []
    for name, spec in scenario.workload.classes.items():
        if scenario.pool_of(name) in whole:
            interrupt = getattr(spec.arrivals, "interrupt", None)
            for stop, where in ((spec.cancel, "cancel"), (interrupt, "arrivals.interrupt")):
                if stop is not None and stop.after_tokens is not None:
                    message = (
                        f"pool {scenario.pool_of(name)} gives whole answers, of which nobody sees the first tokens; "
                        "stop after a time instead"
                    )
                    found.append(Problem(message, f"workload.classes.{name}.{where}.after_tokens"))
    return found


def _resolve_pool(name: str, spec: PoolSpec, classes: tuple[str, ...]) -> ResolvedPool:
    gpu = None if spec.gpu is None else catalog.gpu_of(spec.gpu)
    model = None if spec.model is None else catalog.model_of(spec.model)
    plan = spec.engine.resolve(Site(name, gpu, model, spec.backend, spec.service_time, classes))
    price = spec.usd_per_gpu_hour
    if price is None and gpu is not None:
        price = gpu.usd_per_hour
    filled = spec.model_copy(update={"engine": plan.engine, "usd_per_gpu_hour": price})
    return ResolvedPool(name, filled, plan, price)
