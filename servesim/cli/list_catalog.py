"""The catalog as plain data: GPUs, models, calibrations and example scenarios."""

from __future__ import annotations

from typing import Any

from servesim.catalog import gpu, gpus, model, models
from servesim.catalog.calibrations import FASTER_THAN_THE_GPU, Key, calibrations, read_key
from servesim.catalog.examples import examples

Row = dict[str, Any]


def gpu_rows() -> list[Row]:
    """Return every fact about every GPU, with its source."""
    return [gpu(name).model_dump(mode="json") for name in gpus()]


def model_rows() -> list[Row]:
    """Return shape, parameters and bytes of every model."""
    return [_model_row(name) for name in models()]


def _model_row(name: str) -> Row:
    entry = model(name)
    derived = {
        "parameters": entry.parameters,
        "active_parameters": entry.active_parameters,
        "weight_bytes": entry.weight_bytes(),
        "kv_bytes_per_token": entry.kv_bytes_per_token(),
    }
    return {**entry.model_dump(mode="json"), **derived}


def example_rows() -> list[Row]:
    """Return name and description of the scenarios that ship with servesim."""
    return [{"name": name, "description": text} for name, text in examples().items()]


def calibration_keys(model_name: str | None, gpu_name: str | None) -> tuple[Key, ...]:
    """Return the catalogued calibrations of a model and a GPU, each by name or alias; None is all."""
    found_model = None if model_name is None else model(model_name).name
    found_gpu = None if gpu_name is None else gpu(gpu_name).name
    return calibrations(found_model, found_gpu)


def calibration_rows(keys: tuple[Key, ...]) -> list[Row]:
    """Return what was measured and how far the fit misses points held back from it, for each key."""
    return [_calibration_row(key) for key in keys]


def _calibration_row(key: Key) -> Row:
    entry = read_key(key)
    error = entry.error.interior["all"]
    source = {"source": f"{entry.provenance.source} {entry.provenance.version}", "rows": entry.provenance.rows}
    held_back = {"held_back_error_median": error.median, "held_back_error_p90": error.p90}
    faster = {"faster_than_gpu": entry.name in FASTER_THAN_THE_GPU}
    return {**key._asdict(), **held_back, **faster, **entry.validity.model_dump(), **source}
