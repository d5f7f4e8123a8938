"""Calibrations composed from NVIDIA's measured operator database, through the package `aiconfigurator` (Apache-2.0).

The compiled engine adds up the operators of one iteration in about a microsecond; a grid of iterations is then fitted
as `servesim.calibrate.iteration_grid` fits the catalog's. The package carries its database and the models' config.json,
so nothing is downloaded. What is in it is operators: no host time, no overlap of communication with computation.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from servesim.calibrate.calibration_file import in_yaml, write
from servesim.calibrate.iteration_grid import HOST_NOTE, METHOD, SCATTER
from servesim.calibrate.iteration_grid_fit import Rows, coefficients_of, fit, held_back, summary
from servesim.calibrate.target import Target
from servesim.catalog import model, models
from servesim.catalog.calibrations import Calibration
from servesim.catalog.entries import find, folded
from servesim.errors import InputError, ServesimError

PACKAGE_VERSION = "0.12.0"
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_CONTEXTS = (128, 512, 1024, 2048, 4096, 8192, 16384)
_MOST_CONTEXT = 1 << 20  # summed: more does not fit a GPU
_PREFILLS = (16, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
_SEVERAL_PROMPTS = tuple((n * k, n) for k in (2, 4, 8) for n in (256, 1024, 4096))
_MIXED_PREFILLS = (256, 512, 1024, 2048, 4096, 8192)
_MIXED_BATCHES = (1, 8, 32, 64, 128)
_MIXED_CONTEXTS = (1024, 4096)
_LEAST_ROWS = 100
_MODES = {"bf16": "bfloat16", "fp8": "fp8", "nvfp4": "nvfp4", "int8": "int8_wo", "int4": "int4_wo"}
_MOE_MODES = {**_MODES, "mxfp4": "w4a16_mxfp4"}


@dataclass(frozen=True, slots=True)
class Coverage:
    """What the installed database has: models by Hugging Face id, and engines by GPU."""

    models: tuple[str, ...]
    engines: dict[str, tuple[str, ...]]


def coverage() -> Coverage:
    """Return what can be calibrated offline; ServesimError without the package."""
    core = _core()
    systems = {name: tuple(sorted(found)) for name, found in core.perf_database.get_supported_databases().items()}
    return Coverage(tuple(sorted(core.common.DefaultHFModels)), dict(sorted(systems.items())))


def config_path(name: str) -> Path | None:
    """Return the config.json that the package carries for a Hugging Face id; None if it has none."""
    folder = Path(_core().path) / "model_configs"
    found = folder / f"{name.replace('/', '--')}_config.json"
    return found if found.exists() else None


def hub_name(name: str) -> str:
    """Return the database's name of a model of the catalog, or of its own; InputError lists what there is."""
    known = coverage().models
    if name in known:
        return name
    names = [alias for alias in (model(name).aliases if name in models() else ()) if alias in known]
    return names[0] if names else find(name, "model of aiconfigurator", {folded(one): one for one in known}, known)


def calibrate_aiconfigurator(source: str, target: Target) -> tuple[list[str], dict[str, Any]]:
    """Compose and fit the deployment, write the file; return lines to print and the same as data.

    `source` is the database's name of the model. Raises InputError where the database has nothing for it.
    """
    if target.model is None:
        raise InputError("aiconfigurator needs a model that is described: not --unlisted")
    rows, notes = compose(source, target)
    parts, values = fit(rows, target.model)
    errors = held_back(rows, target.model)
    columns = (rows.prefill_tokens, rows.prompt_tokens, rows.decode_seqs, rows.decode_context, rows.seconds)
    entry = Calibration.model_validate(
        {
            "schema_version": 1,
            **target.key._asdict(),
            "provenance": {
                "source": "aiconfigurator",
                "version": version("aiconfigurator"),
                "licence": "Apache-2.0",
                "date": target.date,
                "method": METHOD,
                "input_file": f"{source} on {target.key.gpu}, {target.key.backend}",
                "input_sha256": hashlib.sha256(np.column_stack(columns).tobytes()).hexdigest(),
                "rows": len(rows.seconds),
            },
            "validity": {
                "max_decode_seqs": float(rows.decode_seqs.max()),
                "max_mean_context_tokens": float(rows.decode_context.max()),
                "max_prefill_tokens": float(rows.prefill_tokens.max()),
            },
            "error": {group: {kind: summary(e) for kind, e in by_kind.items()} for group, by_kind in errors.items()},
            "scatter": SCATTER,
            "host": {"iteration_s": None, "note": HOST_NOTE},
            "coefficients": coefficients_of(parts, values, target.model).model_dump(),
        }
    )
    write(entry, target.output)
    text = [*_lines(entry, target), *(f"note: {note}" for note in notes)]
    return text, {**entry.model_dump(mode="json"), "notes": notes}


def _lines(entry: Calibration, target: Target) -> Iterator[str]:
    yield f"{entry.name}: {entry.provenance.rows} iterations composed from {entry.provenance.input_file}"
    for where, errors in (("held back", entry.error.interior), ("in sample", entry.error.in_sample)):
        kinds = "  ".join(f"{kind} {100 * e.median:.1f} / {100 * e.p90:.1f}" for kind, e in errors.items())
        yield f"error {where}, median / p90 in %: {kinds}"
    yield "host time between iterations: not in the data; engine: {host_time_s: ...} says it"
    yield f"to use it, in a scenario's pool: service_time: {{kind: calibrated, file: {in_yaml(target.output)}}}"


def compose(source: str, target: Target) -> tuple[Rows, list[str]]:
    """Return the grid of iterations of a deployment, and remarks; points that the database lacks are left out."""
    handle = _handle(source, target)
    found, missing = [], 0
    for kind, tokens, prompt, seqs, context in _grid():
        try:
            ms = iteration_ms(handle, tokens, prompt, seqs, context)
        except (ValueError, KeyError):
            missing += 1
            continue
        found.append((kind, tokens, prompt, seqs, context, ms / 1e3))
    if len(found) < _LEAST_ROWS:
        raise InputError(f"aiconfigurator can compose only {len(found)} iterations of {source} on {target.key.gpu}")
    kinds, *columns = zip(*found, strict=True)
    notes = [f"{missing} points of the grid are not in the database"] if missing else []
    arrays = [np.asarray(column, dtype=np.float64) for column in columns]
    return Rows(np.asarray(kinds, dtype=np.str_), *arrays), notes


def iteration_ms(handle: Any, tokens: int, prompt: int, seqs: int, context: int) -> float:
    """Return milliseconds of one iteration: `tokens` of prefill in prompts of `prompt`, `seqs` decoding at `context`.

    A mixed one is the shared work on all tokens, the attention of the prompts, and that of the decoding sequences,
    each at its own length.
    """
    if not tokens:
        return float(handle.decode_step_latency(seqs, context, 2))
    if not seqs:
        return float(handle.predict_prefill_latency(tokens // prompt, prompt))
    _, shared, prefill_attention, _ = handle.mixed_step_breakdown(tokens, seqs, prompt, 2, 0)
    decode_attention = handle.mixed_step_breakdown(tokens, seqs, context, 2, 0)[3]
    return float(shared + prefill_attention + decode_attention)


def _grid() -> Iterator[tuple[str, int, int, int, int]]:
    """Yield (kind, prefill tokens, prompt length, decoding sequences, context of each)."""
    for seqs in _BATCHES:
        for context in _CONTEXTS:
            if seqs * context <= _MOST_CONTEXT:
                yield "decode", 0, 0, seqs, context
    for tokens, prompt in (*((n, n) for n in _PREFILLS), *_SEVERAL_PROMPTS):
        yield "prefill", tokens, prompt, 0, 0
    for tokens in _MIXED_PREFILLS:
        for seqs in _MIXED_BATCHES:
            for context in _MIXED_CONTEXTS:
                yield "mixed", tokens, tokens, seqs, context


def _handle(source: str, target: Target) -> Any:
    key, core = target.key, _core()
    engines = coverage().engines
    if key.gpu not in engines:
        raise InputError(f"aiconfigurator {PACKAGE_VERSION} has no GPU {key.gpu!r}; it has: {', '.join(engines)}")
    if key.backend not in engines[key.gpu]:
        raise InputError(f"aiconfigurator has no {key.backend!r} on {key.gpu}; it has: {', '.join(engines[key.gpu])}")
    assert target.model is not None
    modes: dict[str, Any] = {}
    if target.model.experts:
        modes |= {"moe_tp_size": key.tensor_parallel_size, "moe_ep_size": 1}
    if key.precision != (target.model.native_quantization or "bf16"):
        wanted = _MOE_MODES if target.model.experts else _MODES
        if key.precision not in wanted:
            raise InputError(f"aiconfigurator has no weights in {key.precision!r}; known: {', '.join(wanted)}")
        modes["moe_quant_mode"] = wanted[key.precision]
        if key.precision in _MODES:
            modes["gemm_quant_mode"] = _MODES[key.precision]
        if not target.model.experts:
            del modes["moe_quant_mode"]
    if key.kv_cache_dtype != "bf16":
        modes["kvcache_quant_mode"] = key.kv_cache_dtype
    try:
        return core.engine.EngineHandle.compile(source, key.gpu, key.backend, tp_size=key.tensor_parallel_size, **modes)
    except Exception as error:
        raise InputError(f"aiconfigurator cannot compose {source} on {key.gpu} with {key.backend}: {error}") from error


@dataclass(frozen=True, slots=True)
class _Core:
    engine: Any
    perf_database: Any
    common: Any
    path: str


def _core() -> _Core:
    if find_spec("aiconfigurator_core") is None:
        raise ServesimError("calibrate aiconfigurator needs the package: pip install 'servesim[aiconfigurator]'")
    found = version("aiconfigurator")
    if found != PACKAGE_VERSION:
        raise ServesimError(f"calibrate aiconfigurator knows version {PACKAGE_VERSION}; {found} is installed")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # every model it covers comes with it
    logging.getLogger("aiconfigurator_core").setLevel(logging.ERROR)
    logging.getLogger("aiconfigurator").setLevel(logging.ERROR)
    import aiconfigurator_core
    from aiconfigurator_core.sdk import common, engine, perf_database

    return _Core(engine, perf_database, common, os.path.dirname(aiconfigurator_core.__file__))


def coverage_lines(found: Coverage) -> Sequence[str]:
    """Return what the database covers, as text."""
    engines = [f"  {name}: {', '.join(kinds)}" for name, kinds in found.engines.items()]
    return ["GPUs and engines:", *engines, "models:", *(f"  {name}" for name in found.models)]
