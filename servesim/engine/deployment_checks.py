"""Which model runs on which GPU in which way: what cannot be is refused with the reason."""

from __future__ import annotations

from collections.abc import Iterator

from servesim.catalog import Gpu, Model
from servesim.catalog.precision import units_needed
from servesim.errors import InputError, Problem
from servesim.service_time.base import Deployment, IterationTime
from servesim.service_time.physical import refuse_impossible


def refuse_illegal(deployment: Deployment, pool: str) -> None:
    """Raise InputError with everything that `pool`'s GPU, model and parallelism cannot do together."""
    problems: list[Problem] = []
    if deployment.model is not None:
        found = indivisible(deployment.model, deployment.tensor_parallel_size, deployment.expert_parallel)
        problems += [Problem(message, f"pools.{pool}.engine.tensor_parallel_size") for message in found]
        if deployment.gpu is not None:
            problems += _missing_units(deployment.gpu, deployment.model, deployment.quantization, pool)
    if problems:
        raise InputError(problems)


def indivisible(model: Model, parallel: int, whole_experts: bool = False) -> Iterator[str]:
    """Yield what cannot be divided among so many GPUs; the rules are vLLM's."""
    if model.heads % parallel:
        yield f"{parallel} does not divide the {model.heads} attention heads of {model.name}"
    elif model.latent is None and model.kv_heads % parallel and parallel % model.kv_heads:
        yield f"{parallel} GPUs can neither split nor repeat the {model.kv_heads} key-value heads of {model.name}"
    widths = {"feed-forward": model.intermediate, "experts'": 0 if whole_experts else model.moe_intermediate}
    widths["shared experts'"] = model.shared_intermediate
    for what, width in widths.items():
        if width % parallel:
            yield f"{parallel} does not divide the {what} width {width} of {model.name}"


def _missing_units(gpu: Gpu, model: Model, quantization: str | None, pool: str) -> Iterator[Problem]:
    name = quantization or model.native_quantization or "bf16"
    units = units_needed(name)
    if units is not None and getattr(gpu, f"{units}_flops") is None:
        published = "" if quantization else f" (as {model.name} is published)"
        storage = "awq, gptq or mxfp4 store weights in 4 bits on any GPU; bf16 runs everywhere"
        message = f"{gpu.name} has no {units.upper()} units, which {name}{published} needs; {storage}"
        yield Problem(message, f"pools.{pool}.engine.quantization")


def refuse_impossible_times(times: IterationTime, deployment: Deployment, pool: str) -> None:
    """Raise InputError if iteration times lie below what bandwidth and throughput allow."""
    try:
        refuse_impossible(times, deployment)
    except InputError as error:
        raise InputError([Problem(p.message, f"pools.{pool}.service_time") for p in error.problems]) from None


def time_warnings(times: IterationTime, pool: str) -> list[str]:
    """Return what results have to say of `times`: that they are an estimate, if they have a band, and their own."""
    found = [f"pool {pool}: {warning}" for warning in times.warnings]
    band = times.origin.facts.get("band")
    if band is not None:
        low, high = band
        text = f"factor {low:g} to {high:g} (measured / estimated, 10th to 90th percentile)"
        found.insert(0, f"pool {pool}: iteration times are a {times.origin.name} estimate, {text}")
    return found
