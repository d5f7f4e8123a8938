"""What a result was made from, so that it can be made again."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import version
from typing import Any

from servesim import catalog
from servesim.catalog.model_errors import model_error
from servesim.engine.base import Plan
from servesim.scenario.resolve import Resolved, ResolvedPool


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
    client = resolved.scenario.client
    return {
        "clock": client.clock,
        "network_s": client.request_network_s + client.response_network_s,
        "end_to_end": _farthest([_end_to_end(pool) for pool in resolved.pools]),
        "pools": {pool.name: _pool_validation(pool.plan) for pool in resolved.pools},
    }


def _end_to_end(pool: ResolvedPool) -> dict[str, Any] | None:
    """Return the error of the validated deployments nearest to a pool's; None for times that are made up."""
    origin = pool.plan.origin
    if pool.plan.request_level:
        if not origin.measured:
            return None
        model, gpu, *_ = origin.name.split("/")
        found = model_error("triton", gpu, model)
    elif pool.spec.model is None or pool.spec.gpu is None or not (origin.measured or "band" in origin.facts):
        return None
    else:
        model_entry, gpu_entry = catalog.model_of(pool.spec.model), catalog.gpu_of(pool.spec.gpu)
        found = model_error(pool.spec.backend, gpu_entry.name, model_entry.name)
    return None if found is None else found.to_json()


def _farthest(errors: list[dict[str, Any] | None]) -> dict[str, Any] | None:
    """Return the pool's error that is largest by mean E2E; None if some pool has none."""
    known = [error for error in errors if error is not None and "e2e_s" in error]
    return max(known, key=lambda error: float(error["e2e_s"]["p90"])) if len(known) == len(errors) else None


def _pool_validation(plan: Plan) -> dict[str, Any]:
    origin, host_time = plan.origin, plan.host_time
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
