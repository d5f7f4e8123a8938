"""What a result was made from, so that it can be made again."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import version
from typing import Any

from servesim import catalog
from servesim.catalog import Model
from servesim.catalog.layout import Layout, layout_of
from servesim.catalog.model_errors import ModelError, model_error
from servesim.engine.base import Plan
from servesim.engine.continuous_plan import ContinuousPlan
from servesim.engine.spec import ContinuousBatching
from servesim.scenario.resolve import Resolved, ResolvedPool
from servesim.scenario.schema import PoolSpec


@cache
def installed(package: str) -> str:
    """Return the version of an installed package; looking it up reads files, and sweeps ask for every run."""
    return version(package)


def provenance(resolved: Resolved, seed: int) -> dict[str, Any]:
    """Return versions, seed, engine semantics and where each pool's service times come from. Holds no clock time."""
    return {
        "servesim": installed("servesim"),
        "python": platform.python_version(),
        "numpy": installed("numpy"),
        "seed": seed,
        "engine_semantics": {pool.name: pool.plan.semantics for pool in resolved.pools},
        "service_times": {
            pool.name: {
                "name": pool.plan.origin.name,
                "measured": pool.plan.origin.measured,
                "note": pool.plan.origin.note,
                **pool.plan.origin.facts,
            }
            for pool in resolved.pools
        },
        "validation": validation(resolved),
    }


def validation(resolved: Resolved) -> dict[str, Any]:
    """Return what each headline number rests on, and with which error that was checked.

    `service_times` is "calibrated" (fitted to measurements; errors are of rows held back from the fit), "estimated"
    (from GPU facts, with the band of measured / estimated) or "given" (by the scenario). `host_time` is "calibrated",
    "assumed" (the scenario says so), "left out", or
    "included" in the service times. `end_to_end` is the error of whole runs against measured ones, of the validated
    deployments nearest to this one (servesim.catalog.model_errors), None where none is near; over several pools the
    largest.
    """
    pools = {pool.name: _pool_validation(pool) for pool in resolved.pools}
    client = resolved.scenario.client
    return {
        "clock": client.clock,
        "network_s": client.request_network_s + client.response_network_s,
        "end_to_end": _farthest(pools),
        "pools": pools,
    }


def validated_near(pool: PoolSpec, plan: Plan) -> ModelError | None:
    """Return the error of whole runs of the validated deployments nearest to a pool's; None for made-up times."""
    origin = plan.origin
    if plan.request_level:
        if not origin.measured:
            return None
        name, gpu, *_ = origin.name.split("/")
        return model_error("triton", gpu, name)
    if pool.model is None or pool.gpu is None or not (origin.measured or "band" in origin.facts):
        return None
    model, gpu_name = catalog.model_of(pool.model), catalog.gpu_of(pool.gpu).name
    engine = plan.engine
    if not isinstance(plan, ContinuousPlan) or not isinstance(engine, ContinuousBatching):
        return model_error(pool.backend, gpu_name, model.name, kind=model.kind)
    name, layout = model.name, _layout(engine, model)
    if plan.deployment is not None and plan.deployment.layouts:  # of a model and GPU that cost the same
        name, gpu_name = plan.deployment.model or name, plan.deployment.gpu or gpu_name
    return model_error(pool.backend, gpu_name, name, layout, model.kind, corrected=plan.deployment is not None)


def _layout(engine: ContinuousBatching, model: Model) -> Layout:
    return layout_of(
        model,
        engine.quantization,
        engine.kv_cache_dtype,
        engine.tensor_parallel_size,
        engine.data_parallel_size,
        engine.enable_expert_parallel,
    )


FULL = 0.9
"""Share of the KV blocks in use from which on they count as full: in replays of the measured runs that fill them, at
least 0.908 of them once were, in no other more than 0.75."""


def runs_full(pool: dict[str, Any]) -> bool:
    """Say of a pool's part of a summary whether its KV blocks were full at some time."""
    share = (pool.get("kv_usage") or {}).get("max")
    return share is not None and share >= FULL


def with_full_blocks(found: dict[str, Any], pools: dict[str, Any]) -> dict[str, Any]:
    """Return provenance in which pools that turned out to run full carry the error of runs that did, if it is wider.

    `found` is from `provenance`, `pools` are those of the run's summary.
    """
    full = [name for name, pool in pools.items() if runs_full(pool)]
    if not full or "validation" not in found:
        return found
    before = found["validation"]
    each = dict(before["pools"])
    for name in full:
        if (error := each[name]["end_to_end"]) is not None:
            each[name] = {**each[name], "end_to_end": ModelError.from_json(error).with_full_blocks().to_json()}
    return {**found, "validation": {**before, "end_to_end": _farthest(each), "pools": each}}


def _farthest(pools: dict[str, Any]) -> dict[str, Any] | None:
    """Return the pool's error that is largest by mean E2E; None if some pool has none."""
    errors = [pool["end_to_end"] for pool in pools.values()]
    known = [error for error in errors if error is not None and "e2e_s" in error]
    return max(known, key=lambda error: float(error["e2e_s"]["p90"])) if len(known) == len(errors) else None


def _pool_validation(pool: ResolvedPool) -> dict[str, Any]:
    plan = pool.plan
    origin, host_time, error = plan.origin, plan.host_time, validated_near(pool.spec, plan)
    band = origin.facts.get("band")
    guessed = "given" if band is None else "estimated"
    return {
        "service_times": "calibrated" if origin.measured else guessed,
        "name": origin.name,
        "held_back_error_median": origin.facts.get("held_back_error_median"),
        "held_back_error_p90": origin.facts.get("held_back_error_p90"),
        "band": band,
        "host_time": host_time.how,
        "host_time_s": host_time.seconds,
        "end_to_end": None if error is None else error.to_json(),
    }


def calibration_error(found: dict[str, Any]) -> dict[str, Any]:
    """Return the error that no number of runs makes smaller, from what `validation` returns: the worst pool's.

    `of` is "runs" (end to end: `relative` is the median error of E2E, `nearest` holds all errors and on which
    deployments they are), "iterations" (p90 on rows held back from the fit), "estimate" (with the `band` of measured /
    estimated) or "unknown"; `relative` is the error as a fraction where it is known.
    """
    if found["end_to_end"] is not None:
        return {
            "of": "runs",
            "relative": found["end_to_end"]["e2e_s"]["median"],
            "band": None,
            "nearest": found["end_to_end"],
        }
    pools = list(found["pools"].values())
    bands = [pool["band"] for pool in pools if pool["service_times"] == "estimated"]
    if bands:
        widest = max(bands, key=lambda band: band[1] / band[0])
        return {"of": "estimate", "relative": None, "band": list(widest)}
    errors = [pool["held_back_error_p90"] for pool in pools if pool["service_times"] == "calibrated"]
    known = [error for error in errors if error is not None]
    if len(known) < len(pools):
        return {"of": "unknown", "relative": None, "band": None}
    return {"of": "iterations", "relative": max(known), "band": None}
