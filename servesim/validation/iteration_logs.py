"""Per-iteration logs of a real engine: what each batch held, how long it took, and the calibrated form fitted to it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from servesim.calibrate.iteration_grid_fit import Floats, Rows, blocks_with_mixed_decode, coefficients_of, fit
from servesim.catalog import Model
from servesim.catalog.iteration_form import Coefficients
from servesim.service_time.base import IterationTime


@dataclass(frozen=True, slots=True)
class LoggedRows(Rows):
    """Iterations of a log. `chunks` counts the prompts or parts of prompts, `pairs` their causal attention pairs."""

    chunks: Floats
    pairs: Floats

    @property
    def prefill_seqs(self) -> Floats:
        """Prompts or parts of prompts in the iteration."""
        return self.chunks

    @property
    def prefill_pairs(self) -> Floats:
        """Causal (query, key) pairs of all chunks."""
        return self.pairs


def read_iterations(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return (settings, iterations) of a log: JSON lines, the first with the engine's settings under `meta`."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        head, *iterations = map(json.loads, file)
    meta = head["meta"]
    return (meta if isinstance(meta, dict) else head), iterations


def rows_of(iterations: Sequence[dict[str, Any]]) -> LoggedRows:
    """Return the batches of a log with their seconds, from the start of scheduling to the end of the update."""

    def column(name: str) -> Floats:
        return np.array([record[name] for record in iterations], dtype=np.float64)

    prefill, decode, context = column("pt"), column("nd"), column("dctx")
    chunks = np.array([len(record["pf"]) for record in iterations], dtype=np.float64)
    pairs = np.array(
        [sum(n * before + n * (n + 1) / 2 for _, n, before, _ in record["pf"]) for record in iterations],
        dtype=np.float64,
    )
    kind = np.where(prefill == 0, "decode", np.where(decode == 0, "prefill", "mixed"))
    mean_context = context / np.maximum(decode, 1.0)
    seconds = column("t3") - column("t0")
    return LoggedRows(kind, prefill, prefill, decode, mean_context, seconds, chunks, pairs)


def joined(parts: Sequence[LoggedRows]) -> LoggedRows:
    """Return the iterations of several logs as one."""
    names = LoggedRows.__dataclass_fields__
    return LoggedRows(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def loop_gap_s(iterations: Sequence[dict[str, Any]]) -> float:
    """Return the median time between the end of one iteration and the start of the next, in seconds."""
    start, end = (np.array([record[name] for record in iterations]) for name in ("t0", "t3"))
    return float(np.median(start[1:] - end[:-1]))


def fitted(rows: LoggedRows, model: Model) -> Coefficients:
    """Return the calibrated form fitted to a log."""
    parts, values = fit(rows, model, blocks_with_mixed_decode)
    return coefficients_of(parts, values, model)


def predicted_s(rows: LoggedRows, times: IterationTime) -> Floats:
    """Return the seconds that `times` gives each logged batch."""
    found = []
    context = np.rint(rows.decode_seqs * rows.decode_context).astype(int).tolist()
    columns = (rows.decode_seqs, rows.chunks, rows.prefill_tokens, rows.pairs)
    decode, chunks, prefill, pairs = (np.rint(column).astype(int).tolist() for column in columns)
    for batch, tokens, seqs, prompt, pair in zip(decode, context, chunks, prefill, pairs, strict=True):
        if prompt:
            found.append(times.mixed_s(batch, tokens, seqs, prompt, pair))
        else:
            base_s, slope_s, _ = times.decode_line(batch, tokens)
            found.append(base_s + slope_s * tokens)
    return np.array(found)


def speed_factor(rows: LoggedRows, times: IterationTime) -> float:
    """Return by what one factor all modelled times must be multiplied to take as long as the log in all."""
    return float(rows.seconds.sum() / predicted_s(rows, times).sum())
