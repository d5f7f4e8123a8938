"""Fitting measured iterations: the form the data ask for, its errors on what was held back, scatter and host time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from servesim.calibrate.iterations import Bools, Floats, Iterations
from servesim.calibrate.robust import Uncertainty, robust_nnls, uncertainty
from servesim.calibrate.terms import Form, choose, columns
from servesim.catalog import Model
from servesim.errors import InputError

LEAST_ITERATIONS = 50
_STRETCHES = 5
_MOST_CORRELATED = 200  # iterations
_DEAD = 0.1  # an autocorrelation below this counts as none


@dataclass(frozen=True, slots=True)
class HostFit:
    """Host seconds of an iteration, `iteration_s + per_seq_s * sequences`, with the scatter about it."""

    iteration_s: float
    per_seq_s: float
    iteration_error_s: float
    per_seq_error_s: float


INCLUDED = HostFit(0.0, 0.0, 0.0, 0.0)
"""The host's part where it is in the iterations' times, as seen from outside."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fit: coefficients by column name, how well they are known, and what was left over.

    `errors` holds |predicted / measured - 1| by {interior, edge, in_sample}, aligned with `kinds`. `residuals` are
    measured / predicted, one per iteration in order. `noise_sigma` is None where single iterations were not seen.
    """

    form: Form
    values: dict[str, float]
    uncertainty: Uncertainty
    errors: dict[str, Floats]
    kinds: dict[str, list[str]]
    residuals: Floats
    noise_sigma: float | None
    noise_iterations: int
    host: HostFit | None
    predicted_s: Floats


def fit_iterations(rows: Iterations, model: Model | None = None, form: Form | None = None) -> Fitted:
    """Fit the iteration-time form to measured iterations; `form` says which terms, default: those the data ask for.

    Raises InputError for fewer than 50 iterations.
    """
    if len(rows) < LEAST_ITERATIONS:
        raise InputError(f"{len(rows)} usable iterations: a fit needs {LEAST_ITERATIONS} or more")
    form = choose(rows, model) if form is None else form
    design = columns(form, rows, model)
    solution = robust_nnls(design.values, rows.device_s)
    predicted_s = design.values @ solution.values
    errors, kinds = _errors(rows, design.values)
    errors["in_sample"], kinds["in_sample"] = np.abs(predicted_s / rows.device_s - 1.0), list(rows.kind)
    residuals = rows.device_s / predicted_s
    sigma, together = scatter(residuals, rows)
    return Fitted(
        form,
        dict(zip(design.names, map(float, solution.values), strict=True)),
        uncertainty(design.names, design.values, rows.device_s, solution),
        errors,
        kinds,
        residuals,
        sigma,
        together,
        host_fit(rows),
        predicted_s,
    )


def _errors(rows: Iterations, design: Floats) -> tuple[dict[str, Floats], dict[str, list[str]]]:
    """Return errors on slices held back, and the kind of each row, by {interior, edge}."""
    found: dict[str, list[Floats]] = {"interior": [], "edge": []}
    kinds: dict[str, list[str]] = {"interior": [], "edge": []}
    for where, held in slices(rows):
        values = robust_nnls(design[~held], rows.device_s[~held], passes=2).values
        found[where].append(np.abs(design[held] @ values / rows.device_s[held] - 1.0))
        kinds[where] += list(rows.kind[held])
    return {where: np.concatenate(errors) if errors else np.zeros(0) for where, errors in found.items()}, kinds


def slices(rows: Iterations) -> Iterator[tuple[str, Bools]]:
    """Yield what to hold back: ("interior" or "edge", its rows).

    All iterations whose decode batch, mean context or prefill tokens lie in one octave; the first and last octave of
    each are edges, since predicting them is extrapolation. And five stretches of time, which are interior.
    """
    for x in (rows.decode_seqs, rows.mean_context, rows.prefill_tokens):
        octave = np.floor(np.log2(np.maximum(x, 0.5)))
        levels = np.unique(octave[x > 0])
        for level in levels if len(levels) > 2 else ():
            yield "edge" if level in (levels[0], levels[-1]) else "interior", octave == level
    stretch = np.arange(len(rows)) * 2 * _STRETCHES // len(rows) % _STRETCHES
    for one in range(_STRETCHES):
        yield "interior", stretch == one


def scatter(residuals: Floats, rows: Iterations) -> tuple[float, int]:
    """Return (standard deviation of the logarithm, iterations over which it holds) of measured / predicted.

    The deviation is 1.4826 median absolute deviations, after each part's median: a part that was measured on a slower
    day is no scatter. A factor shared by L iterations in a row has the autocorrelation 1 - k / L, whose sum gives L.
    """
    log = np.log(residuals)
    starts = np.flatnonzero(np.diff(rows.part, prepend=rows.part[0] - 1))
    pieces = [part - np.median(part) for part in np.split(log, starts[1:])]
    sigma = 1.4826 * float(np.median(np.abs(np.concatenate(pieces))))
    total = 1.0
    clipped = [np.clip(part, -4.0 * sigma, 4.0 * sigma) for part in pieces if len(part) > 4]
    power = sum(float(part @ part) for part in clipped)
    for lag in range(1, _MOST_CORRELATED):
        if not power:
            break
        correlation = sum(float(part[lag:] @ part[:-lag]) for part in clipped if len(part) > lag) / power
        if correlation < _DEAD:
            break
        total += 2.0 * correlation
    return sigma, min(max(round(total), 1), _MOST_CORRELATED)


def host_fit(rows: Iterations) -> HostFit | None:
    """Return host seconds per iteration and per sequence where the data have them; None where they do not."""
    known = np.isfinite(rows.host_s) & (rows.host_s >= 0)
    if known.sum() < LEAST_ITERATIONS:
        return None
    host_s = rows.host_s[known]
    seqs = (rows.decode_seqs + rows.prefill_seqs)[known]
    if not host_s.any():
        return HostFit(0.0, 0.0, 0.0, 0.0)
    design = np.column_stack([np.ones(len(seqs)), seqs])
    floor = np.maximum(host_s, 0.01 * float(np.median(host_s[host_s > 0])))
    solution = robust_nnls(design, floor)
    known_errors = uncertainty(["iteration", "per_seq"], design, floor, solution).standard_error
    iteration_s, per_seq_s = map(float, solution.values)
    spread = [known_errors.get(name, 0.0) for name in ("iteration", "per_seq")]
    return HostFit(iteration_s, per_seq_s, *(s if np.isfinite(s) else 0.0 for s in spread))
