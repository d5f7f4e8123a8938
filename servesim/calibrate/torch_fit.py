"""Fitting the iteration-time form to measured iterations of any shape, with knots chosen by the data.

The form is that of `servesim.catalog.iteration_form`. Unlike `iteration_grid_fit`, which fits factorial grids that all
have the same levels, rows here carry their own number of prompts and (query, key) pairs: a space-filling design, or
the iterations of a server under traffic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from servesim.calibrate.iteration_grid_fit import Block, Bools, Floats, solve, summary
from servesim.calibrate.torch_measure import Measured, distinct
from servesim.calibrate.torch_points import IterationPoint
from servesim.catalog.iteration_form import Coefficients, Experts, Padded, PiecewiseLinear, in_tiles
from servesim.errors import InputError

START_TOKENS = 16
TILES = (64, 128, 256)
FEWEST_ROWS = 20


@dataclass(frozen=True, slots=True)
class Iterations:
    """Measured iterations, one entry per row in every array; `context_tokens` is summed over the decoding ones."""

    decode_seqs: Floats
    context_tokens: Floats
    prefill_seqs: Floats
    prefill_tokens: Floats
    prefill_pairs: Floats
    seconds: Floats

    @property
    def kind(self) -> np.ndarray:
        """decode, prefill or mixed."""
        return np.where(self.prefill_seqs == 0, "decode", np.where(self.decode_seqs == 0, "prefill", "mixed"))

    @property
    def tokens(self) -> Floats:
        """Scheduled tokens."""
        return self.decode_seqs + self.prefill_tokens

    def __getitem__(self, mask: Bools) -> Iterations:
        """Return the rows where `mask` holds."""
        return Iterations(*(getattr(self, f.name)[mask] for f in fields(self)))

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.seconds)


def iterations_of(found: Sequence[Measured[IterationPoint]]) -> Iterations:
    """Return the points measured, one row each."""
    rows = [
        (p.decode_seqs, p.decode_seqs * p.decode_context, p.prefill_seqs, p.prefill_seqs * p.prefill_tokens,
         p.prefill_pairs, one.seconds)
        for one in distinct(found) for p in (one.point,)
    ]  # fmt: skip
    return Iterations(*np.asarray(rows, dtype=np.float64).reshape(-1, 6).T)


@dataclass(frozen=True, slots=True)
class Form:
    """Which terms the form has: its knots, and the model's experts."""

    dense: tuple[int, ...]
    context: tuple[int, ...]
    mixed: tuple[int, ...]
    tile_tokens: int | None = None
    experts: int = 0
    experts_per_token: int = 0

    def blocks(self, rows: Iterations) -> list[Block]:
        """Return the columns of the design matrix."""
        both = ((rows.prefill_tokens > 0) & (rows.decode_seqs > 0)).astype(np.float64)
        start = np.minimum(rows.prefill_tokens, START_TOKENS) / START_TOKENS
        found = [
            Block("base", np.ones((len(rows), 1))),
            Block("dense", _pieces(rows.tokens, self.dense), list(self.dense)),
            Block("per_seq", (rows.decode_seqs + rows.prefill_seqs)[:, None]),
            Block("context", _pieces(rows.context_tokens, self.context), list(self.context)),
            Block("per_pair", rows.prefill_pairs[:, None]),
            Block("prefill_start", start[:, None]),
            Block("mixed", both[:, None] * _pieces(rows.prefill_tokens, self.mixed), list(self.mixed)),
        ]
        if self.tile_tokens is not None:
            found.append(Block("padded", in_tiles(rows.tokens, self.tile_tokens)[:, None]))
        if self.experts:
            miss = 1.0 - self.experts_per_token / self.experts
            found.append(Block("experts", self.experts * (1.0 - miss ** rows.tokens[:, None])))
        return found


FormOf = Callable[[Iterations], Form]


def _pieces(x: Floats, knots: Sequence[int]) -> Floats:
    begin = np.asarray(knots, dtype=np.float64)
    result: Floats = np.clip(x[:, None] - begin, 0.0, np.append(np.diff(begin), np.inf))
    return result


def fit(rows: Iterations, form: Form) -> Floats:
    """Return the fitted coefficient of each column: non-negative robust least squares of relative error."""
    design = np.hstack([part.columns for part in form.blocks(rows)])
    return solve(design, np.zeros((0, design.shape[1])), rows.seconds)


def predict(rows: Iterations, form: Form, coefficients: Floats) -> Floats:
    """Return the predicted seconds of `rows`."""
    result: Floats = np.hstack([part.columns for part in form.blocks(rows)]) @ coefficients
    return result


def choose_form(rows: Iterations, experts: int = 0, experts_per_token: int = 0) -> Form:
    """Return the form whose knots the data ask for.

    Starts with a knot at every power of two that has rows on both sides and takes out, one at a time, the knot that
    is missed least, while that lowers Schwarz's criterion (1978) of the logarithmic error; then tries tiles. The
    error is summed robustly (Huber, 1964), so that one wild row buys no knot.
    """
    form = Form(
        _powers(rows.tokens), _powers(rows.context_tokens, 1024), _powers(rows.prefill_tokens[rows.decode_seqs > 0], 64),
        None, experts, experts_per_token,
    )  # fmt: skip
    best = _criterion(rows, form)
    while True:
        trials = [(_criterion(rows, one), one) for one in _with_one_less(form)]
        if not trials or min(trials, key=lambda trial: trial[0])[0] > best:
            break
        best, form = min(trials, key=lambda trial: trial[0])
    if not experts:
        tiles = [t for t in TILES if (rows.tokens > t).sum() >= FEWEST_ROWS]
        trials = [(_criterion(rows, one), one) for one in (_changed(form, tile_tokens=t) for t in tiles)]
        if trials and min(trials, key=lambda trial: trial[0])[0] < best:
            return min(trials, key=lambda trial: trial[0])[1]
    return form


def _powers(values: Floats, first: int = 8) -> tuple[int, ...]:
    """Return 0 and the powers of two from `first` on that have three distinct values on both sides."""
    levels = np.unique(values[values > 0])
    knots = [2**i for i in range(3, 24) if 2**i >= first]
    return (0, *(k for k in knots if (levels < k).sum() >= 3 and (levels > k).sum() >= 3))


def _changed(form: Form, **changes: Any) -> Form:
    return Form(**{**{f.name: getattr(form, f.name) for f in fields(form)}, **changes})


def _with_one_less(form: Form) -> Iterator[Form]:
    for name in ("dense", "context", "mixed"):
        knots = getattr(form, name)
        for knot in knots[1:]:
            yield _changed(form, **{name: tuple(k for k in knots if k != knot)})


def _criterion(rows: Iterations, form: Form) -> float:
    """Return n log(mean robust squared logarithmic error) + log(n) * (columns in use)."""
    coefficients = fit(rows, form)
    error = np.abs(np.log(np.maximum(predict(rows, form, coefficients), 1e-12) / rows.seconds))
    limit = max(3.0 * float(np.median(error)), 1e-3)
    loss = np.where(error <= limit, error**2, 2 * limit * error - limit**2)
    n = len(rows)
    return float(n * np.log(loss.mean() + 1e-8) + np.log(n) * (coefficients > 0).sum())


def slices(rows: Iterations) -> Iterator[tuple[bool, Bools]]:
    """Yield every slice to hold back: (whether it is the smallest or largest of its family, its rows).

    A slice is all rows whose batch size, mean context, prefill tokens or mean query-to-key distance lies in the same
    octave. Never random rows: those have neighbours in the fit that give the answer away.
    """
    axes = (
        rows.decode_seqs,
        rows.context_tokens / np.maximum(rows.decode_seqs, 1),
        rows.prefill_tokens,
        rows.prefill_pairs / np.maximum(rows.prefill_tokens, 1),
    )
    for values in axes:
        octave = np.where(values > 0, np.floor(np.log2(np.maximum(values, 1e-9))), np.nan)
        levels = np.unique(octave[~np.isnan(octave)])
        for level in levels:
            mask = octave == level
            if 0 < mask.sum() <= len(rows) - FEWEST_ROWS // 2:
                yield bool(level in (levels[0], levels[-1])), mask


def held_back(rows: Iterations, form_of: FormOf) -> dict[str, dict[str, Floats]]:
    """Return absolute relative errors by {interior, edge, in_sample} and kind.

    `form_of` chooses the form anew without each slice, so that its rows have no say in the knots either.
    """
    errors: dict[str, list[tuple[np.ndarray, Floats]]] = {"interior": [], "edge": [], "in_sample": []}
    for is_edge, mask in slices(rows):
        errors["edge" if is_edge else "interior"].append(_errors(rows[~mask], rows[mask], form_of))
    errors["in_sample"].append(_errors(rows, rows, form_of))
    return {group: _by_kind(parts) for group, parts in errors.items() if parts}


def _errors(known: Iterations, asked: Iterations, form_of: FormOf) -> tuple[np.ndarray, Floats]:
    form = form_of(known)
    return asked.kind, np.abs(predict(asked, form, fit(known, form)) / asked.seconds - 1.0)


def _by_kind(parts: list[tuple[np.ndarray, Floats]]) -> dict[str, Floats]:
    kinds = np.concatenate([kind for kind, _ in parts])
    errors = np.concatenate([error for _, error in parts])
    found = {kind: errors[kinds == kind] for kind in ("decode", "prefill", "mixed")}
    return {**{kind: values for kind, values in found.items() if len(values)}, "all": errors}


@dataclass(frozen=True, slots=True)
class Fitted:
    """Coefficients, the form they belong to, errors as a calibration file keeps them, and the fitted rows."""

    form: Form
    coefficients: Coefficients
    errors: dict[str, dict[str, dict[str, Any]]]
    rows: Iterations
    predicted_s: Floats


def fitted(rows: Iterations, experts: int = 0, experts_per_token: int = 0) -> Fitted:
    """Return the fit of `rows` and its error on held-back slices; InputError where there are too few rows."""
    if len(rows) < FEWEST_ROWS:
        raise InputError(f"{len(rows)} measured iterations are too few to fit; at least {FEWEST_ROWS} are needed")

    def form_of(some: Iterations) -> Form:
        return choose_form(some, experts, experts_per_token)

    errors = held_back(rows, form_of)
    for group in ("interior", "edge"):  # a design too small to have both still has to say something of both
        errors.setdefault(group, errors.get("edge", errors["in_sample"]))
    form = form_of(rows)
    values = fit(rows, form)
    brief = {group: {kind: summary(e) for kind, e in by_kind.items()} for group, by_kind in errors.items()}
    return Fitted(form, coefficients_of(rows, form, values), brief, rows, predict(rows, form, values))


def coefficients_of(rows: Iterations, form: Form, values: Floats) -> Coefficients:
    """Return fitted column values as a calibration file stores them, rounded to 6 digits."""
    by_name: dict[str, list[float]] = {}
    first = 0
    for part in form.blocks(rows):
        width = part.columns.shape[1]
        by_name[part.name] = [float(f"{v:.6g}") for v in values[first : first + width]]
        first += width
    padded = experts = None
    if form.tile_tokens is not None:
        line = PiecewiseLinear(knots_tokens=[0], s_per_token=by_name["padded"])
        padded = Padded(tile_tokens=form.tile_tokens, seconds=line)
    if form.experts:
        experts = Experts(
            experts=form.experts, experts_per_token=form.experts_per_token, per_expert_s=by_name["experts"][0]
        )
    return Coefficients(
        base_s=by_name["base"][0],
        per_seq_s=by_name["per_seq"][0],
        dense=PiecewiseLinear(knots_tokens=list(form.dense), s_per_token=by_name["dense"]),
        padded=padded,
        experts=experts,
        context=PiecewiseLinear(knots_tokens=list(form.context), s_per_token=by_name["context"]),
        per_prefill_pair_s=by_name["per_pair"][0],
        prefill_start_s=by_name["prefill_start"][0],
        prefill_start_tokens=START_TOKENS,
        mixed=PiecewiseLinear(knots_tokens=list(form.mixed), s_per_token=by_name["mixed"]),
    )
