"""From a fit to a calibration file, and what a person reads of it."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from servesim.calibrate.iteration_fit import INCLUDED, Fitted
from servesim.calibrate.iteration_grid import to_yaml
from servesim.calibrate.iterations import Iterations
from servesim.calibrate.terms import coefficients_of
from servesim.catalog import Model
from servesim.catalog.calibrations import Calibration, Key, Range

SCHEMA_VERSION = 1
_PLAIN = re.compile(r"[\w./~][\w./~+-]*(?: [\w./~+-]+)*\.[a-z]{3,}")  # with an ending, no number and no word of YAML's
_METHOD = (
    "non-negative robust least squares of relative error; terms and knots by held-back error; held back: octaves of "
    "batch, context and prefill, and stretches of time"
)


@dataclass(frozen=True, slots=True)
class Source:
    """Where iterations come from: `what` (a tool and its version), the files read, and how they became iterations."""

    what: str
    version: str
    files: Sequence[Path]
    method: str
    licence: str = "measured by the user"
    date: str | None = None

    def sha256(self) -> str:
        """Return the digest of all files, in their order."""
        digest = hashlib.sha256()
        for file in self.files:
            digest.update(file.read_bytes())
        return digest.hexdigest()


def reach(rows: Iterations) -> Range:
    """Return the largest batch, context and prefill among iterations."""
    return Range(
        max_decode_seqs=max(float(rows.decode_seqs.max()), 1.0),
        max_mean_context_tokens=max(float(rows.mean_context.max()), 1.0),
        max_prefill_tokens=max(float(rows.prefill_tokens.max()), 1.0),
    )


def calibration_of(
    fitted: Fitted,
    count: int,
    validity: Range,
    key: Key,
    source: Source,
    model: Model | None = None,
    host_note: str = "",
    admission_s: float | None = None,
) -> Calibration:
    """Return the calibration file's contents for a fit to `count` measured values.

    `admission_s` is the admission time where it was measured apart from the fit.
    """
    host = fitted.host
    if admission_s is None:
        admission_s = fitted.values.get("admission")
    known = {} if host is None else {"iteration_s": _short(host.iteration_s), "per_seq_s": _short(host.per_seq_s)}
    errors = {
        where: _by_kind(found, fitted.kinds[where])
        for where, found in fitted.errors.items()
    }  # fmt: skip
    return Calibration.model_validate(
        {
            "schema_version": SCHEMA_VERSION,
            **key._asdict(),
            "provenance": {
                "source": source.what,
                "version": source.version,
                "licence": source.licence,
                "date": source.date,
                "method": f"{source.method}; {_METHOD}",
                "input_file": ", ".join(file.name for file in source.files) or "none",
                "input_sha256": source.sha256(),
                "rows": count,
            },
            "validity": validity.model_dump(),
            "error": errors,
            "scatter": _scatter(fitted),
            "host": {
                **known,
                "note": host_note or ("not in the data" if host is None else "measured with the iterations"),
                "admission_s": None if admission_s is None else _short(admission_s),
            },
            "coefficients": coefficients_of(fitted.form, fitted.values, model).model_dump(),
            "noise": None
            if fitted.noise_sigma is None
            else {"sigma": _short(fitted.noise_sigma), "iterations": fitted.noise_iterations},
            "estimates": _estimates(fitted),
        }
    )


def _scatter(fitted: Fitted) -> str:
    if fitted.noise_sigma is None:
        return "unknown: single iterations were not seen"
    return (
        f"standard deviation {100 * fitted.noise_sigma:.2g} % about the fit, alike over about "
        f"{fitted.noise_iterations} iterations in a row"
    )


def _estimates(fitted: Fitted) -> dict[str, Any]:
    known = fitted.uncertainty
    return {
        "standard_error": {
            name: _short(error) if math.isfinite(error) else None for name, error in known.standard_error.items()
        },
        "condition": _short(known.condition) if math.isfinite(known.condition) else None,
        "confounded": [
            {"terms": one.terms, "together_s": _short(one.seconds), "standard_error_s": _short(one.standard_error)}
            for one in known.confounded
        ],
    }


def _by_kind(errors: np.ndarray[Any, np.dtype[np.float64]], kinds: Sequence[str]) -> dict[str, Any]:
    if not len(errors):
        return {}
    names = np.asarray(kinds)
    found = {kind: errors[names == kind] for kind in ("decode", "prefill", "mixed")}
    return {kind: _summary(values) for kind, values in {**found, "all": errors}.items() if len(values)}


def _summary(errors: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, Any]:
    median, p90 = np.quantile(errors, [0.5, 0.9])
    return {"median": _short(median, 3), "p90": _short(p90, 3), "max": _short(errors.max(), 3), "n": len(errors)}


def _short(value: float, digits: int = 6) -> float:
    return float(f"{value:.{digits}g}")


def write(entry: Calibration, path: Path) -> None:
    """Write the calibration file, whole or not at all."""
    text = to_yaml(entry)
    beside = path.with_name(f".{path.name}.part")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def report_lines(
    entry: Calibration, fitted: Fitted, notes: Sequence[str] = (), what: str = "iterations"
) -> Iterator[str]:
    """Yield the fit as a person reads it: estimates with intervals, errors, scatter, host, and what is not known."""
    known = fitted.uncertainty
    poor = set(known.poor(fitted.values))
    yield f"{entry.provenance.rows} {what}; seconds per unit of work, with 95 % intervals:"
    for name, value in fitted.values.items():
        error = known.standard_error.get(name)
        if value == 0.0 and error is None:
            continue
        half = math.inf if error is None else known.half_width_factor * error
        share = "not told by the data" if not math.isfinite(half) else f"± {half:.2g}"
        yield f"  {name:24s} {value:.4g}  {share}{'  (poorly known)' if name in poor and math.isfinite(half) else ''}"
    for one in known.confounded:
        half = known.half_width_factor * one.standard_error
        yield (
            f"cannot be told apart: {', '.join(one.terms)}; known is their sum in an average iteration: "
            f"{1e3 * one.seconds:.4g} ± {1e3 * half:.2g} ms"
        )
    told = {"held back": entry.error.interior, "at the edges": entry.error.edge}
    if not any(told.values()):
        told = {"on what was fitted (nothing could be held back)": entry.error.in_sample}
    for where, errors in told.items():
        if "all" in errors:
            kinds = "  ".join(f"{kind} {100 * e.median:.1f} / {100 * e.p90:.1f}" for kind, e in errors.items())
            yield f"error {where}, median / p90 in %: {kinds}"
    yield f"scatter: {entry.scatter}"
    host = fitted.host
    if host is None or host == INCLUDED:
        yield f"host time between iterations: {entry.host.note}"
    else:
        yield (
            f"host time: {1e3 * host.iteration_s:.3g} ms per iteration + {1e6 * host.per_seq_s:.3g} us per sequence"
            f" ({entry.host.note})"
        )
    yield from (f"note: {note}" for note in notes)


def in_yaml(path: Path) -> str:
    """Return a path as it is written inside braces in YAML: in quotes where its characters mean something there."""
    plain = _PLAIN.fullmatch(str(path)) is not None
    return str(path) if plain else json.dumps(str(path), ensure_ascii=False)


def engine_lines(entry: Calibration, path: Path, more: dict[str, Any] | None = None) -> Iterator[str]:
    """Yield what to write into a scenario's pool to use the file."""
    yield f"service_time: {{kind: calibrated, file: {in_yaml(path)}}}"
    keys: dict[str, Any] = {}
    if entry.host.iteration_s is not None:
        keys["host_time_s"] = entry.host.iteration_s
    if entry.host.per_seq_s:
        keys["host_time_per_seq_s"] = entry.host.per_seq_s
    if entry.host.admission_s:
        keys["admission_time_s"] = entry.host.admission_s
    keys |= more or {}
    if keys:
        yield "engine: {kind: continuous, " + ", ".join(f"{key}: {value}" for key, value in keys.items()) + "}"
