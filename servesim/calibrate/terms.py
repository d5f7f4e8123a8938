"""The terms of an iteration's time that a fit may use, and the choice among them by data.

The form is that of `servesim.catalog.iteration_form`. Iterations logged from an engine are not a designed grid: what
they can tell depends on the traffic. So a fit starts from the few terms that every engine has, and takes a further
term, or a further knot, only if iterations held back from the fit are then predicted better.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from servesim.calibrate.iterations import Floats, Iterations
from servesim.calibrate.robust import robust_nnls
from servesim.catalog import Model
from servesim.catalog.iteration_form import (
    Coefficients,
    Experts,
    Padded,
    PiecewiseLinear,
    SequenceContext,
    in_tiles,
)

PREFILL_START_TOKENS = 16
_SEQUENCE_CONTEXT_TOKENS = 512
_TILES = (16, 32, 64, 128, 256)
_TOKEN_KNOTS = tuple(2**i for i in range(1, 15))
_CONTEXT_KNOTS = tuple(2**i for i in range(11, 20))
_LEAST_ROWS = 30  # on each side of a knot
_LEAST_GAIN = 0.01  # of the held-back error: less is noise
_EXACT = 2e-4  # an error nobody would refine
_FOLDS = 5
_MOST_ROWS = 1500  # of each kind, when forms are compared


@dataclass(frozen=True, slots=True)
class Form:
    """Which terms are used. Knots of `dense`, `context` and `mixed` begin at 0; no `mixed` knots, no such term."""

    dense: tuple[int, ...] = (0,)
    context: tuple[int, ...] = (0,)
    mixed: tuple[int, ...] = ()
    per_seq: bool = False
    prefill_start: bool = False
    experts: bool = False
    tile: int | None = None
    sequence_context: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Columns:
    """A design matrix: one named column per coefficient, `values` of shape (iterations, columns)."""

    names: list[str]
    values: Floats = field(repr=False)


def columns(form: Form, rows: Iterations, model: Model | None) -> Columns:
    """Return the design matrix of `rows`; columns that are 0 throughout stay, their coefficients are then 0."""
    tokens, seqs = rows.tokens, rows.decode_seqs + rows.prefill_seqs
    both = ((rows.prefill_tokens > 0) & (rows.decode_seqs > 0)).astype(np.float64)
    found: list[tuple[str, Floats]] = [("base", np.ones(len(rows)))]
    found += _pieces("dense", tokens, form.dense)
    found += _pieces("context", rows.decode_context, form.context)
    found.append(("per_prefill_pair", rows.prefill_pairs))
    if rows.admissions.any():
        found.append(("admission", rows.admissions))
    if form.per_seq:
        found.append(("per_seq", seqs))
    if form.prefill_start:
        found.append(("prefill_start", np.minimum(rows.prefill_tokens, PREFILL_START_TOKENS) / PREFILL_START_TOKENS))
    found += [(name, both * values) for name, values in _pieces("mixed", rows.prefill_tokens, form.mixed)]
    for limit in form.sequence_context:
        found.append((f"sequence_context_{limit}", np.minimum(rows.decode_context, limit * rows.decode_seqs)))
    if form.tile is not None:
        found.append(("padded", in_tiles(tokens, form.tile)))
    if form.experts and model is not None:
        miss = 1.0 - model.experts_per_token / model.experts
        found.append(("experts", model.experts * (1.0 - miss**tokens)))
    return Columns([name for name, _ in found], np.column_stack([values for _, values in found]))


def _pieces(name: str, x: Floats, knots: tuple[int, ...]) -> list[tuple[str, Floats]]:
    ends = [*knots[1:], np.inf]
    return [(f"{name}_{k}", np.clip(x - k, 0.0, end - k)) for k, end in zip(knots, ends, strict=False)]


def coefficients_of(form: Form, values: dict[str, float], model: Model | None) -> Coefficients:
    """Return fitted values by column name as a calibration file stores them, rounded to 6 digits."""

    def value(name: str) -> float:
        return float(f"{values.get(name, 0.0):.6g}")

    def pieces(name: str, knots: tuple[int, ...]) -> PiecewiseLinear:
        used = knots or (0,)
        return PiecewiseLinear(knots_tokens=list(used), s_per_token=[value(f"{name}_{k}") for k in used])

    padded = experts = None
    if form.tile is not None:
        line = PiecewiseLinear(knots_tokens=[0], s_per_token=[value("padded")])
        padded = Padded(tile_tokens=form.tile, seconds=line)
    if form.experts and model is not None:
        experts = Experts(
            experts=model.experts, experts_per_token=model.experts_per_token, per_expert_s=value("experts")
        )
    return Coefficients(
        base_s=value("base"),
        per_seq_s=value("per_seq"),
        dense=pieces("dense", form.dense),
        padded=padded,
        experts=experts,
        context=pieces("context", form.context),
        sequence_context=[
            SequenceContext(tokens=limit, s_per_token=value(f"sequence_context_{limit}"))
            for limit in form.sequence_context
        ],
        per_prefill_pair_s=value("per_prefill_pair"),
        prefill_start_s=value("prefill_start"),
        prefill_start_tokens=PREFILL_START_TOKENS,
        mixed=pieces("mixed", form.mixed),
    )


def choose(rows: Iterations, model: Model | None, least_rows: int = _LEAST_ROWS) -> Form:
    """Return the form whose terms and knots predict stretches of time held back from the fit best, none in vain.

    A term or knot needs `least_rows` iterations that it matters for, and as many on the other side of a knot: few are
    enough where each row is the median of many repetitions and the design spreads them.
    """
    few = _thinned(rows)
    folds = _folds(len(few))
    form = Form(experts=bool(model is not None and model.experts))
    error = _held_back(form, few, model, folds)
    while error > _EXACT:
        tried = [(_held_back(other, few, model, folds), other) for other in _larger(form, few, model, least_rows)]
        best, other = min(tried, key=lambda pair: pair[0], default=(error, form))
        if best > (1.0 - _LEAST_GAIN) * error:
            break
        error, form = best, other
    return form


def _larger(form: Form, rows: Iterations, model: Model | None, least_rows: int) -> Iterator[Form]:
    """Yield every form with one more term or knot that the data reach on both sides."""
    if not form.per_seq:
        yield replace(form, per_seq=True)
    kinds = rows.kind
    if (kinds != "decode").sum() >= least_rows and not form.prefill_start:
        yield replace(form, prefill_start=True)
    if (kinds == "mixed").sum() >= least_rows and not form.mixed:
        yield replace(form, mixed=(0,))
    window = [] if model is None or model.sliding_window_tokens is None else [model.sliding_window_tokens]
    for limit in {_SEQUENCE_CONTEXT_TOKENS, *window} - set(form.sequence_context):
        if _reached(rows.mean_context, limit, least_rows):
            yield replace(form, sequence_context=(*form.sequence_context, limit))
    if form.tile is None:
        for tile in _TILES:
            if _reached(rows.tokens, tile, least_rows):
                yield replace(form, tile=tile)
    for name, x, candidates in (
        ("dense", rows.tokens, _TOKEN_KNOTS),
        ("context", rows.decode_context, _CONTEXT_KNOTS),
        ("mixed", rows.prefill_tokens, _TOKEN_KNOTS),
    ):
        knots = getattr(form, name)
        for knot in candidates:
            if knots and knot not in knots and _reached(x, knot, least_rows):
                larger: dict[str, Any] = {name: tuple(sorted((*knots, knot)))}
                yield replace(form, **larger)


def _reached(x: Floats, knot: float, least_rows: int) -> bool:
    return int((x > knot).sum()) >= least_rows and int(((x > 0) & (x <= knot)).sum()) >= least_rows


def _thinned(rows: Iterations) -> Iterations:
    """Return at most so many iterations of each kind, evenly over time: rare kinds count as much as others."""
    kept = []
    for kind in ("decode", "prefill", "mixed"):
        found = np.flatnonzero(rows.kind == kind)
        step = max(1, -(-len(found) // _MOST_ROWS))
        kept.append(found[::step])
    return rows[np.sort(np.concatenate(kept))]


def _folds(count: int) -> NDArray[np.int64]:
    """Return which fold each iteration is held back in: stretches of time, since neighbours in time are alike."""
    blocks = 2 * _FOLDS
    found: NDArray[np.int64] = (np.arange(count) * blocks // max(count, 1)) % _FOLDS
    return found


def _held_back(form: Form, rows: Iterations, model: Model | None, folds: NDArray[np.int64]) -> float:
    """Return the mean absolute relative error over stretches predicted by fits without them."""
    design = columns(form, rows, model).values
    errors = np.zeros(len(rows))
    for fold in range(_FOLDS):
        out = folds == fold
        if out.any() and not out.all():
            values = robust_nnls(design[~out], rows.device_s[~out], passes=2).values
            errors[out] = np.abs(design[out] @ values / rows.device_s[out] - 1.0)
    return float(np.minimum(errors, 1.0).mean())
