"""Iteration time looked up in a table of measurements."""

from __future__ import annotations

from bisect import bisect_left
from typing import NamedTuple

import numpy as np

from servesim.catalog.iteration_table import IterationTable
from servesim.service_time.base import IterationTime, Origin, Validity


class _Batch(NamedTuple):
    """One number of decoding sequences: its lines over the summed context, and r(p) as lines over p."""

    limits: list[float]
    lines: list[tuple[float, float, float]]
    ratios: list[tuple[float, float]]


class TabulatedIterationTime(IterationTime):
    """`IterationTable` unfolded as it is asked: lists by prefill tokens, lines by number of sequences."""

    def __init__(self, table: IterationTable, origin: Origin, validity: Validity, max_num_batched_tokens: int) -> None:
        self._table = table
        self.origin = origin
        self.validity = validity
        self._batches: dict[int, _Batch] = {}
        self._idle_s = table.idle_s
        self._reference = table.reference_pairs_per_token
        self._alone_s: list[float] = []
        self._pair_s: list[float] = []
        self._piece: list[int] = []
        self._grow(min(max_num_batched_tokens, 65_536))

    def _grow(self, tokens: int) -> None:
        """Extend the lists by prefill tokens to `tokens`."""
        table = self._table
        more = np.arange(len(self._alone_s), tokens + 1)
        self._alone_s += table.prefill_alone(more).tolist()
        self._pair_s += np.interp(more, table.mixed_tokens, table.per_pair_s).tolist()
        self._piece += np.searchsorted(table.mixed_tokens, more).tolist()

    def _batch(self, decode_seqs: int) -> _Batch:
        table = self._table
        lines = table.decode_lines(max(decode_seqs, 1))
        row, axis = table.mixed_row(decode_seqs), table.mixed_tokens
        ratios = [(row[0], 0.0)]
        for i in range(len(axis) - 1):
            slope = (row[i + 1] - row[i]) / (axis[i + 1] - axis[i])
            ratios.append((row[i] - slope * axis[i], slope))
        ratios.append((row[-1], 0.0))
        self._batches[decode_seqs] = batch = _Batch([line[2] for line in lines], lines, ratios)
        return batch

    def decode_line(self, decode_seqs: int, context_tokens: int) -> tuple[float, float, float]:
        """Return the line of this batch size that holds at `context_tokens`."""
        limits, lines, _ = self._batches.get(decode_seqs) or self._batch(decode_seqs)
        return lines[bisect_left(limits, context_tokens)]

    def mixed_s(
        self, decode_seqs: int, context_tokens: int, prefill_seqs: int, prefill_tokens: int, prefill_pairs: int
    ) -> float:
        """Return the seconds of an iteration that prefills."""
        if prefill_tokens >= len(self._alone_s):
            self._grow(2 * prefill_tokens)
        limits, lines, ratios = self._batches.get(decode_seqs) or self._batch(decode_seqs)
        if decode_seqs:
            base_s, slope_s, _ = lines[bisect_left(limits, context_tokens)]
            decode_s = base_s + slope_s * context_tokens
        else:
            decode_s = self._idle_s
        ratio, bend = ratios[self._piece[prefill_tokens]]
        pairs_s = self._pair_s[prefill_tokens] * (prefill_pairs - self._reference * prefill_tokens)
        added_s = self._alone_s[prefill_tokens] * (ratio + bend * prefill_tokens) + pairs_s
        return decode_s + added_s if added_s > 0.0 else decode_s
