"""The catalog as plain data: GPUs, models, calibrations and example scenarios."""

from __future__ import annotations

from typing import Any

from servesim.catalog import gpu, gpus, model, models
from servesim.catalog.batch_calibrations import batch_calibration, batch_calibrations
from servesim.catalog.calibrations import FASTER_THAN_THE_GPU, Key, calibrations, read_key
from servesim.catalog.entries import find, folded
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


def batch_calibration_rows(model_name: str | None, gpu_name: str | None) -> list[Row]:
    """Return measured range and held-back error of the calibrated batch times of a model and a GPU; None is all."""
    entries = [batch_calibration(name) for name in batch_calibrations()]
    for asked, key in ((model_name, "model"), (gpu_name, "gpu")):
        if asked is not None:
            known = sorted({str(getattr(entry, key)) for entry in entries})
            name = find(asked, key, {folded(one): one for one in known}, known)
            entries = [entry for entry in entries if getattr(entry, key) == name]
    return [
        {
            "name": entry.name,
            "task": entry.task,
            "max_batch_size": entry.max_batch_size,
            "held_back_error_median": entry.held_back.median,
            "held_back_error_p90": entry.held_back.p90,
            "held_back_sizes": entry.held_back.n,
            "source": f"{entry.provenance.source} {entry.provenance.version}",
        }
        for entry in entries
    ]
