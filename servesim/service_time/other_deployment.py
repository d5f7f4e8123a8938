"""What a calibration file was measured on, held against the pool that uses it."""

from __future__ import annotations

from servesim.catalog import Gpu, Model
from servesim.catalog.calibrations import SYNONYMS, Calibration
from servesim.catalog.gpu import same_speed
from servesim.catalog.model import same_shape
from servesim.service_time.base import Deployment


def other_deployment(entry: Calibration, deployment: Deployment) -> str | None:
    """Return in words where the calibration's deployment is not the pool's; None where they agree.

    Models of equal shape and GPUs of equal speed are the same; what the pool does not say is not compared.
    """
    differing = [(what, theirs, ours[0]) for what, theirs, ours in _compared(entry, deployment) if theirs not in ours]
    if not differing:
        return None
    measured = ", ".join(f"{what} {theirs}" for what, theirs, _ in differing)
    here = ", ".join(f"{ours}" for *_, ours in differing)
    return f"calibration {entry.name} was measured with {measured}; here it is {here}: these are not its times"


def _compared(entry: Calibration, deployment: Deployment) -> list[tuple[str, object, list[object]]]:
    """Return (what, the calibration's, the names that the pool's has), of everything that both say."""
    gpu, model = deployment.gpu, deployment.model
    found: list[tuple[str, object, list[object]]] = []
    if model is not None:
        found.append(("model", entry.model, _names(model, same_shape(model))))
        precision = deployment.quantization or model.native_quantization or "bf16"
        found.append(("precision", entry.precision, [SYNONYMS.get(precision, precision)]))
    if gpu is not None:
        found.append(("GPU", entry.gpu, _names(gpu, same_speed(gpu))))
        found.append(("backend", entry.backend, [deployment.backend]))
        kv_cache = deployment.kv_cache_dtype
        found.append(("kv_cache_dtype", entry.kv_cache_dtype, [SYNONYMS.get(kv_cache, kv_cache)]))
    for name in ("tensor_parallel_size", "data_parallel_size"):
        found.append((name, getattr(entry, name), [getattr(deployment, name)]))
    found.append(("enable_expert_parallel", entry.expert_parallel, [deployment.expert_parallel]))
    return found


def _names(entry: Gpu | Model, known: Gpu | Model | None) -> list[object]:
    return [one.name for one in (entry, known) if one is not None]
