"""Fitting the iteration-time form to a grid of measured iterations, and its error on held-back slices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls  # type: ignore[import-untyped]

from servesim.catalog import Model
from servesim.catalog.iteration_form import (
    Coefficients,
    Experts,
    MixedDecode,
    Padded,
    PiecewiseLinear,
    SequenceContext,
    in_tiles,
)

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

DENSE_KNOTS = [0, *(2**i for i in range(15))]
TILE_TOKENS = 256
TILE_KNOTS = [0, 256, 512, 1024, 2048, 4096, 16384]
CONTEXT_KNOTS = [0, 8192, 32768, 131072]
SEQUENCE_CONTEXT_TOKENS = 512
MIXED_KNOTS = [0, 256, 512, 1024, 2048, 4096, 8192]
PREFILL_START_TOKENS = 16  # the smallest prefill in the grid: below it, the surcharge goes to 0 with the chunk
SMOOTHING = 0.1
STIFF_FROM_TOKENS = 128  # a dense model is compute-bound from about here: its slope should change little
STIFFNESS = 3.0
ROBUST_PASSES = 3


@dataclass(frozen=True, slots=True)
class Rows:
    """Measured iterations of one deployment; one entry per row in every array. Times in seconds."""

    kind: NDArray[np.str_]
    prefill_tokens: Floats
    prompt_tokens: Floats
    decode_seqs: Floats
    decode_context: Floats
    seconds: Floats

    @property
    def prefill_seqs(self) -> Floats:
        """Prompts (or parts of prompts) in the iteration."""
        return self.prefill_tokens / np.maximum(self.prompt_tokens, 1.0)

    @property
    def prefill_pairs(self) -> Floats:
        """Causal (query, key) pairs: each prompt of length l has l (l + 1) / 2."""
        return self.prefill_tokens * (self.prompt_tokens + 1.0) / 2.0

    def __getitem__(self, mask: Bools) -> Rows:
        """Return the rows where `mask` holds."""
        return type(self)(*(getattr(self, f.name)[mask] for f in fields(self)))


@dataclass(frozen=True, slots=True)
class Block:
    """Columns of the design matrix that belong together; with knots, one column per piece."""

    name: str
    columns: Floats
    knots: list[int] | None = None


def _pieces(x: Floats, knots: list[int]) -> Floats:
    """Return how much of `x` lies in each piece between `knots`, the last open; shape (len(x), len(knots))."""
    begin = np.asarray(knots, dtype=np.float64)
    width = np.append(np.diff(begin), np.inf)
    result: Floats = np.clip(x[:, None] - begin, 0.0, width)
    return result


def blocks(rows: Rows, model: Model) -> list[Block]:
    """Return the form's terms for `rows`; see `servesim.catalog.iteration_form`."""
    tokens = rows.prefill_tokens + rows.decode_seqs
    context = rows.decode_seqs * rows.decode_context
    both = ((rows.prefill_tokens > 0) & (rows.decode_seqs > 0)).astype(np.float64)
    found = [
        Block("base", np.ones((len(tokens), 1))),
        Block("dense", _pieces(tokens, DENSE_KNOTS), DENSE_KNOTS),
        Block("per_seq", (rows.decode_seqs + rows.prefill_seqs)[:, None]),
        Block("context", _pieces(context, CONTEXT_KNOTS), CONTEXT_KNOTS),
        Block("per_pair", rows.prefill_pairs[:, None]),
        Block("prefill_start", np.minimum(rows.prefill_tokens, PREFILL_START_TOKENS)[:, None] / PREFILL_START_TOKENS),
        Block("mixed", both[:, None] * _pieces(rows.prefill_tokens, MIXED_KNOTS), MIXED_KNOTS),
    ]
    for limit in sequence_context_tokens(model):
        found.append(Block(f"sequence_context_{limit}", np.minimum(context, limit * rows.decode_seqs)[:, None]))
    if not model.experts:
        # Experts see few tokens each, so a mixture of experts has no common tile; tried, and worse on held-back slices.
        found.append(Block("padded", _pieces(in_tiles(tokens, TILE_TOKENS), TILE_KNOTS), TILE_KNOTS))
    else:
        miss = 1.0 - model.experts_per_token / model.experts
        found.append(Block("experts", model.experts * (1.0 - miss ** tokens[:, None])))
    return found


def sequence_context_tokens(model: Model) -> list[int]:
    """Return at which context per sequence attention may get cheaper: the sliding window, and where kernels split."""
    window = [] if model.sliding_window_tokens is None else [model.sliding_window_tokens]
    return [*window, SEQUENCE_CONTEXT_TOKENS]


def blocks_with_mixed_decode(rows: Rows, model: Model) -> list[Block]:
    """Return the form's terms with those of decoding beside a prefill, for measurements that can tell them apart."""
    decode = rows.decode_seqs * np.minimum(rows.prefill_tokens / PREFILL_START_TOKENS, 1.0)
    columns = np.stack([decode, decode * rows.decode_context], axis=1)
    return [*blocks(rows, model), Block("mixed_decode", columns)]


def batch_only_blocks(rows: Rows, model: Model) -> list[Block]:
    """Return a deliberately poor form, affine in the number of sequences: what a fit must beat."""
    seqs = rows.decode_seqs + rows.prefill_seqs
    return [Block("base", np.ones((len(seqs), 1))), Block("per_seq", seqs[:, None])]


def _smoothness(parts: list[Block], stiff: bool) -> Floats:
    """Return penalty rows that hold neighbouring slopes together, in seconds over the narrower piece."""
    width = sum(part.columns.shape[1] for part in parts)
    penalties, first = [], 0
    for part in parts:
        if part.knots is not None:
            spans = np.diff([*part.knots, 2 * part.knots[-1]])
            for i in range(len(spans) - 1):
                scale = float(min(spans[i], spans[i + 1]))
                if stiff and part.name == "dense" and part.knots[i] >= STIFF_FROM_TOKENS:
                    scale *= STIFFNESS
                row = np.zeros(width)
                row[first + i], row[first + i + 1] = scale, -scale
                penalties.append(row)
        first += part.columns.shape[1]
    return np.array(penalties).reshape(-1, width)


def solve(design: Floats, penalty: Floats, seconds: Floats) -> Floats:
    """Return non-negative coefficients of least smoothed relative error.

    Weighted non-negative least squares (Lawson and Hanson, 1974), re-weighted a few times so that rows whose error
    exceeds 1.5 medians count by its root (Huber, 1964): single operators of the grid are outliers.
    """
    scale = float(np.median(seconds))
    trust = np.ones(len(seconds))
    coefficients = np.zeros(design.shape[1])
    for _ in range(ROBUST_PASSES):
        weight = trust / seconds
        matrix = np.vstack([design * weight[:, None], SMOOTHING * penalty / scale])
        target = np.concatenate([seconds * weight, np.zeros(len(penalty))])
        norm = np.sqrt((matrix**2).sum(axis=0))
        norm[norm == 0.0] = 1.0
        coefficients = nnls(matrix / norm, target, maxiter=50 * design.shape[1])[0] / norm
        error = np.abs(design @ coefficients / seconds - 1.0)
        limit = max(1.5 * float(np.median(error)), 0.005)
        trust = np.sqrt(np.minimum(1.0, limit / np.maximum(error, 1e-12)))
    return coefficients


Form = Callable[[Rows, Model], list[Block]]


def fit(rows: Rows, model: Model, form: Form = blocks) -> tuple[list[Block], Floats]:
    """Return the design's blocks for `rows` and the fitted coefficient of each column."""
    parts = form(rows, model)
    design = np.hstack([part.columns for part in parts])
    return parts, solve(design, _smoothness(parts, stiff=not model.experts), rows.seconds)


def predict(rows: Rows, model: Model, coefficients: Floats, form: Form = blocks) -> Floats:
    """Return the predicted seconds of `rows`."""
    result: Floats = np.hstack([part.columns for part in form(rows, model)]) @ coefficients
    return result


def slices(rows: Rows) -> Iterator[tuple[bool, Bools]]:
    """Yield every slice to hold back: (whether it is the smallest or largest of its family, its rows).

    A slice is all rows, of whatever kind, that share a decode batch size, a decode context, a number of prefill tokens
    or a prompt length.
    """
    for values in (rows.decode_seqs, rows.decode_context, rows.prefill_tokens, rows.prompt_tokens):
        levels = np.unique(values[values > 0])
        for level in levels:
            yield bool(level in (levels[0], levels[-1])), values == level


def held_back(rows: Rows, model: Model, form: Form = blocks) -> dict[str, dict[str, Floats]]:
    """Return absolute relative errors by {interior, edge, in_sample} and kind, the first two on held-back slices."""
    errors: dict[str, list[tuple[NDArray[np.str_], Floats]]] = {"interior": [], "edge": [], "in_sample": []}
    for is_edge, mask in slices(rows):
        _, coefficients = fit(rows[~mask], model, form)
        errors["edge" if is_edge else "interior"].append(_errors(rows[mask], model, coefficients, form))
    _, coefficients = fit(rows, model, form)
    errors["in_sample"].append(_errors(rows, model, coefficients, form))
    return {group: by_kind(parts) for group, parts in errors.items()}


def _errors(rows: Rows, model: Model, coefficients: Floats, form: Form) -> tuple[NDArray[np.str_], Floats]:
    return rows.kind, np.abs(predict(rows, model, coefficients, form) / rows.seconds - 1.0)


def by_kind(parts: list[tuple[NDArray[np.str_], Floats]]) -> dict[str, Floats]:
    """Return errors by kind of iteration, and all together."""
    kinds = np.concatenate([kind for kind, _ in parts])
    errors = np.concatenate([error for _, error in parts])
    found = {kind: errors[kinds == kind] for kind in ("decode", "prefill", "mixed")}
    return {**{kind: values for kind, values in found.items() if len(values)}, "all": errors}


def summary(errors: Floats) -> dict[str, Any]:
    """Return median, 90th percentile, maximum and count, rounded for a file."""
    median, p90 = np.quantile(errors, [0.5, 0.9])
    return {"median": _short(median, 3), "p90": _short(p90, 3), "max": _short(errors.max(), 3), "n": len(errors)}


def coefficients_of(parts: list[Block], values: Floats, model: Model) -> Coefficients:
    """Return fitted column values as the coefficients a calibration file stores, rounded to 6 digits."""
    by_name: dict[str, list[float]] = {}
    first = 0
    for part in parts:
        width = part.columns.shape[1]
        by_name[part.name] = [_short(v, 6) for v in values[first : first + width]]
        first += width
    experts, padded = None, None
    if model.experts:
        experts = Experts(
            experts=model.experts,
            experts_per_token=model.experts_per_token,
            per_expert_s=by_name["experts"][0],
        )
    else:
        tiles = PiecewiseLinear(knots_tokens=TILE_KNOTS, s_per_token=by_name["padded"])
        padded = Padded(tile_tokens=TILE_TOKENS, seconds=tiles)
    return Coefficients(
        base_s=by_name["base"][0],
        per_seq_s=by_name["per_seq"][0],
        dense=PiecewiseLinear(knots_tokens=DENSE_KNOTS, s_per_token=by_name["dense"]),
        padded=padded,
        experts=experts,
        context=PiecewiseLinear(knots_tokens=CONTEXT_KNOTS, s_per_token=by_name["context"]),
        sequence_context=[
            SequenceContext(tokens=limit, s_per_token=by_name[f"sequence_context_{limit}"][0])
            for limit in sequence_context_tokens(model)
        ],
        per_prefill_pair_s=by_name["per_pair"][0],
        prefill_start_s=by_name["prefill_start"][0],
        prefill_start_tokens=PREFILL_START_TOKENS,
        mixed=PiecewiseLinear(knots_tokens=MIXED_KNOTS, s_per_token=by_name["mixed"]),
        mixed_decode=_mixed_decode(by_name),
    )


def _mixed_decode(by_name: dict[str, list[float]]) -> MixedDecode | None:
    if "mixed_decode" not in by_name:
        return None
    per_seq_s, per_context_token_s = by_name["mixed_decode"]
    return MixedDecode(per_seq_s=per_seq_s, per_context_token_s=per_context_token_s)


def _short(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}")
