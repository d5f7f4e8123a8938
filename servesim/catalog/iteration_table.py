"""An iteration's time as a table of what was measured, joined by straight lines: the other form of a calibration.

    T = D(d, S) + r(p, d) * A(p) + c(p) * (pairs - reference * p)

D is the decode-only time of d sequences with S context tokens in all, A(p) what p prefill tokens add to an empty batch
when each token attends to `reference` others, r how much of that they add beside d decoding sequences (the padding of
shared matrix multiplications), and c the seconds per causal (query, key) pair. Without decoding sequences D is
`idle_s`, the part of an iteration that no token adds to. At the measured points the table says what was measured; it
need not be smooth, nor grow with the batch where the measured kernels do not.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Annotated, Self

import numpy as np
from annotated_types import Ge, Len
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, PositiveInt, model_validator

from servesim.registry import Spec

Axis = Annotated[list[PositiveInt], Len(2)]
Seconds = Annotated[list[Annotated[float, Ge(0.0)]], Len(2)]


class IterationTable(Spec):
    """Measured seconds on the grids `decode_seqs` x `context_tokens` (per sequence) and `prefill_tokens`.

    `mixed_ratio[i][j]` belongs to `mixed_tokens[i]` prefill tokens beside `mixed_seqs[j]` sequences; `per_pair_s` to
    `mixed_tokens`.
    """

    decode_seqs: Axis
    context_tokens: Axis
    decode_s: list[Seconds]
    idle_s: NonNegativeFloat
    prefill_tokens: Axis
    prefill_s: Seconds
    mixed_tokens: Axis
    mixed_seqs: Axis
    mixed_ratio: list[Seconds]
    per_pair_s: Seconds
    reference_pairs_per_token: NonNegativeFloat

    @model_validator(mode="after")
    def _check(self) -> Self:
        for axis in (self.decode_seqs, self.context_tokens, self.prefill_tokens, self.mixed_tokens, self.mixed_seqs):
            if sorted(set(axis)) != axis:
                raise ValueError("the points of a grid must increase")
        shapes = [(self.decode_s, len(self.decode_seqs), len(self.context_tokens))]
        shapes += [(self.mixed_ratio, len(self.mixed_tokens), len(self.mixed_seqs))]
        for rows, height, width in shapes:
            if len(rows) != height or any(len(row) != width for row in rows):
                raise ValueError("a table does not have the size of its grid")
        if len(self.prefill_s) != len(self.prefill_tokens) or len(self.per_pair_s) != len(self.mixed_tokens):
            raise ValueError("a table does not have the size of its grid")
        if any(sorted(row) != row for row in self.decode_s):
            raise ValueError("decode times must not fall as the context grows")
        return self

    def decode_row(self, decode_seqs: int) -> list[float]:
        """Return the seconds of so many sequences at each of `context_tokens`, extrapolated beyond the largest."""
        low, share = _place(self.decode_seqs, decode_seqs)
        below, above = self.decode_s[low], self.decode_s[low + 1]
        row = [max(a + share * (b - a), 0.0) for a, b in zip(below, above, strict=True)]
        for i in range(1, len(row)):  # extrapolation could break what holds in the table
            row[i] = max(row[i], row[i - 1])
        return row

    def decode_lines(self, decode_seqs: int) -> list[tuple[float, float, float]]:
        """Return the lines `(base_s, slope_s, limit_tokens)` of a decode batch over the summed context, in order."""
        row = self.decode_row(decode_seqs)
        lines = [(row[0], 0.0, float(decode_seqs * self.context_tokens[0]))]
        for i in range(len(row) - 1):
            begin, end = decode_seqs * self.context_tokens[i], decode_seqs * self.context_tokens[i + 1]
            slope = (row[i + 1] - row[i]) / (end - begin)
            lines.append((row[i] - slope * begin, slope, float(end)))
        base_s, slope, _ = lines.pop()
        return [*lines, (base_s, slope, float("inf"))]

    def mixed_row(self, decode_seqs: int) -> list[float]:
        """Return r at each of `mixed_tokens` beside `decode_seqs` sequences; none counts as 1 everywhere."""
        if not decode_seqs:
            return [1.0] * len(self.mixed_tokens)
        seqs = min(max(decode_seqs, self.mixed_seqs[0]), self.mixed_seqs[-1])
        low, share = _place(self.mixed_seqs, seqs)
        return [row[low] + share * (row[low + 1] - row[low]) for row in self.mixed_ratio]

    def prefill_alone(self, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return A(p); from nothing to the first measured point it grows in proportion, beyond the last linearly."""
        axis, seconds = [0, *self.prefill_tokens], [0.0, *self.prefill_s]
        slope = (seconds[-1] - seconds[-2]) / (axis[-1] - axis[-2])
        beyond = np.maximum(tokens - axis[-1], 0) * max(slope, 0.0)
        result: NDArray[np.float64] = np.interp(tokens, axis, seconds) + beyond
        return result


def _place(axis: list[int], x: float) -> tuple[int, float]:
    """Return the interval of `axis` for `x` and the position in it (outside 0..1: extrapolation)."""
    low = min(max(bisect_right(axis, x) - 1, 0), len(axis) - 2)
    return low, (x - axis[low]) / (axis[low + 1] - axis[low])
