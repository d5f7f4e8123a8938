"""What is being calibrated, and where its file goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from servesim.calibrate.calibration_file import Source, calibration_of, engine_lines, reach, report_lines, write
from servesim.calibrate.iteration_fit import Fitted
from servesim.calibrate.iterations import Iterations
from servesim.calibrate.unit_hint import unit_hint
from servesim.catalog import Model
from servesim.catalog import gpu as catalog_gpu
from servesim.catalog.calibrations import SYNONYMS, Key
from servesim.catalog.inline import ModelFile, model_of
from servesim.errors import InputError


@dataclass(frozen=True, slots=True)
class Target:
    """The deployment measured, its model where the catalog or a config.json describes it, and the files to write."""

    key: Key
    model: Model | None
    output: Path
    picture: Path | None
    date: str | None


def named(
    model: str, gpu: str, unlisted: bool, backend: str, tp: int, quantization: str | None, kv_cache_dtype: str
) -> tuple[Key, Model | None]:
    """Return the deployment's key and its model; InputError for a model or GPU that is not known, unless `unlisted`."""
    entry, gpu_name = None, gpu
    if not unlisted:
        try:
            is_file = model.endswith(".json") or ("/" in model and Path(model).exists())
            entry = model_of(ModelFile(config=model) if is_file else model)
            gpu_name = catalog_gpu(gpu[:200]).name
        except InputError as error:
            raise InputError(
                f"{error}; or --unlisted, for a dense model or a device that the catalog does not have"
            ) from None
    precision = quantization or (entry.native_quantization if entry else None) or "bf16"
    name = model if entry is None else entry.name
    return Key(
        name, gpu_name, backend, tp, SYNONYMS.get(precision, precision), SYNONYMS.get(kv_cache_dtype, kv_cache_dtype)
    ), entry


def delivered(
    target: Target,
    fitted: Fitted,
    rows: Iterations,
    source: Source,
    notes: Sequence[str] = (),
    host_note: str = "",
    engine: dict[str, Any] | None = None,
) -> tuple[list[str], dict[str, Any]]:
    """Write a fit's calibration file and picture; return what to print: lines, and the same as data."""
    entry = calibration_of(fitted, len(rows), reach(rows), target.key, source, target.model, host_note)
    if target.picture is not None:
        from servesim.calibrate.residual_picture import residual_picture

        residual_picture(rows, fitted, target.picture, f"{entry.name}: {len(rows)} iterations")
    write(entry, target.output)
    if (hint := unit_hint(rows, target)) is not None:
        notes = [hint, *notes]
    text = [*report_lines(entry, fitted, notes), "to use it, in a scenario's pool:"]
    text += [f"  {line}" for line in engine_lines(entry, target.output, engine)]
    return text, {**entry.model_dump(mode="json"), "notes": list(notes), "engine": engine or {}}


def versions(found: Sequence[Any]) -> str:
    """Return the versions that the measured files name, or "unknown"."""
    return ", ".join(sorted({str(one) for one in found if one})) or "unknown"
