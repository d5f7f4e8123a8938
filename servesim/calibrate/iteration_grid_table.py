"""From a grid of measured iterations to the table form, and its error on held-back slices."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from servesim.calibrate.iteration_grid_fit import Bools, Floats, Rows, by_kind, slices
from servesim.catalog.iteration_table import IterationTable
from servesim.errors import InputError
from servesim.service_time.base import Origin, Validity
from servesim.service_time.tabulated import TabulatedIterationTime

REFERENCE_PAIRS = 512.5  # per token: a prompt of 1024
IDLE_SHARE = 0.9
_DIGITS = 5


def table_of(rows: Rows) -> IterationTable:
    """Return the table that `rows` fill; InputError if they do not lie on a grid.

    Decode times must not fall as the context grows (`servesim.calibrate.iteration_grid_level.levelled`).
    """
    decode, prefill, mixed = (rows[rows.kind == kind] for kind in ("decode", "prefill", "mixed"))
    seqs, contexts, decode_s = _decode_grid(decode)
    tokens = np.unique(prefill.prefill_tokens)
    prefill_s = np.array([np.median(prefill.seconds[prefill.prefill_tokens == p]) for p in tokens])
    # Some kernels decode one sequence more slowly than they prefill a short prompt.
    idle_s = min(float(decode_s[0][0]), IDLE_SHARE * float(prefill_s.min()))
    mixed_tokens, mixed_seqs = np.unique(mixed.prefill_tokens), np.unique(mixed.decode_seqs)
    partial = IterationTable(
        decode_seqs=_ints(seqs),
        context_tokens=_ints(contexts),
        decode_s=[_short(row) for row in decode_s],
        idle_s=_short(np.array([idle_s]))[0],
        prefill_tokens=_ints(tokens),
        prefill_s=_short(prefill_s),
        mixed_tokens=_ints(mixed_tokens),
        mixed_seqs=_ints(mixed_seqs),
        mixed_ratio=[[1.0] * len(mixed_seqs)] * len(mixed_tokens),
        per_pair_s=[0.0] * len(mixed_tokens),
        reference_pairs_per_token=REFERENCE_PAIRS,
    )
    added = mixed.seconds - _decode_seconds(partial, mixed)
    pair_s = _pair_seconds(mixed, added, mixed_tokens, _curvature(tokens, prefill_s, idle_s))
    alone = _alone(tokens, prefill_s - idle_s, mixed_tokens, pair_s)
    table = partial.model_copy(update={"prefill_s": _short(alone), "per_pair_s": _short(pair_s)})
    excess = mixed.prefill_pairs - REFERENCE_PAIRS * mixed.prefill_tokens
    at_reference = added - np.interp(mixed.prefill_tokens, mixed_tokens, pair_s) * excess
    ratio = []
    for p in mixed_tokens:
        unit = max(float(table.prefill_alone(np.array([p]))[0]), 1e-9)
        chosen = [(mixed.prefill_tokens == p) & (mixed.decode_seqs == d) for d in mixed_seqs]
        found = [np.median(at_reference[c]) / unit if c.any() else np.nan for c in chosen]
        ratio.append(_short(np.clip(_filled(np.array(found)), 0.0, None)))
    return IterationTable.model_validate(table.model_copy(update={"mixed_ratio": ratio}).model_dump())


def _decode_grid(decode: Rows) -> tuple[Floats, Floats, Floats]:
    """Return batch sizes, contexts and the seconds between them."""
    seqs, contexts = np.unique(decode.decode_seqs), np.unique(decode.decode_context)
    if len(seqs) < 2 or len(contexts) < 2 or len(decode.seconds) != len(seqs) * len(contexts):
        raise InputError("decode rows do not fill a grid of batch sizes and contexts")
    order = np.lexsort((decode.decode_context, decode.decode_seqs))
    return seqs, contexts, decode.seconds[order].reshape(len(seqs), len(contexts))


def _decode_seconds(table: IterationTable, rows: Rows) -> Floats:
    found = []
    for d, context in zip(rows.decode_seqs, rows.decode_context, strict=True):
        summed = d * context
        base_s, slope_s, _ = next(line for line in table.decode_lines(int(d)) if summed <= line[2])
        found.append(base_s + slope_s * summed)
    return np.array(found)


def _pair_seconds(mixed: Rows, added: Floats, tokens: Floats, otherwise: float) -> Floats:
    """Return seconds per pair at each of `tokens`: the slope between prompt lengths, by medians."""
    found = []
    for p in tokens:
        slopes = []
        for d in np.unique(mixed.decode_seqs):
            here = (mixed.prefill_tokens == p) & (mixed.decode_seqs == d)
            pairs = mixed.prefill_pairs[here]
            if len(np.unique(pairs)) > 1:
                low, high = pairs == pairs.min(), pairs == pairs.max()
                rise = np.median(added[here][high]) - np.median(added[here][low])
                slopes.append(rise / (pairs.max() - pairs.min()))
        found.append(max(float(np.median(slopes)), 0.0) if slopes else otherwise)
    return np.array(found)


def _curvature(tokens: Floats, seconds: Floats, idle_s: float) -> float:
    """Return seconds per pair from how long prompts bend the prefill curve; 0 if they do not."""
    slopes = []
    for p, s in zip(tokens, seconds, strict=True):
        if p >= 4096 and (2 * p) in tokens:
            twice = float(seconds[tokens == 2 * p][0])
            slopes.append(((twice - idle_s) - 2 * (s - idle_s)) / p**2)
    return max(float(np.median(slopes)), 0.0) if slopes else 0.0


def _alone(tokens: Floats, added: Floats, mixed_tokens: Floats, pair_s: Floats) -> Floats:
    """Return what prompts of `tokens` would add if each of their tokens attended to the reference number of others."""
    excess = tokens * (tokens + 1) / 2 - REFERENCE_PAIRS * tokens
    result: Floats = np.clip(added - np.interp(tokens, mixed_tokens, pair_s) * excess, 0.0, None)
    return result


def _filled(values: Floats) -> Floats:
    known = ~np.isnan(values)
    if not known.any():
        return np.ones(len(values))
    return np.interp(np.arange(len(values)), np.flatnonzero(known), values[known])


def predict_table(rows: Rows, table: IterationTable) -> Floats:
    """Return the table's seconds for `rows`."""
    times = TabulatedIterationTime(table, Origin("table", measured=True), Validity(), 1)
    found = []
    for d, context, p, seqs, pairs in zip(
        rows.decode_seqs, rows.decode_context, rows.prefill_tokens, rows.prefill_seqs, rows.prefill_pairs, strict=True
    ):
        summed = int(d * context)
        if p:
            found.append(times.mixed_s(int(d), summed, max(1, round(seqs)), int(p), round(pairs)))
        else:
            base_s, slope_s, _ = times.decode_line(int(d), summed)
            found.append(base_s + slope_s * summed)
    return np.array(found)


def held_back_table(rows: Rows) -> dict[str, dict[str, Floats]]:
    """Return absolute relative errors by {interior, edge, in_sample} and kind, as `held_back` does for the fit."""
    errors: dict[str, list[tuple[NDArray[np.str_], Floats]]] = {"interior": [], "edge": [], "in_sample": []}

    def judge(group: str, kept: Bools, asked: Bools) -> None:
        predicted = predict_table(rows[asked], table_of(rows[kept]))
        errors[group].append((rows.kind[asked], np.abs(predicted / rows.seconds[asked] - 1.0)))

    for is_edge, mask in slices(rows):
        judge("edge" if is_edge else "interior", ~mask, mask)
    every = np.ones(len(rows.seconds), dtype=bool)
    judge("in_sample", every, every)
    return {group: by_kind(parts) for group, parts in errors.items()}


def _ints(values: Floats) -> list[int]:
    return [int(v) for v in values]


def _short(values: Floats) -> list[float]:
    return [float(f"{v:.{_DIGITS}g}") for v in values]
