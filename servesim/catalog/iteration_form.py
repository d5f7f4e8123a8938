"""The fitted form of an iteration's time: coefficients as stored in a calibration file, and their evaluation.

    T = base + dense(n) + padded(tiles of n) + per_expert * U(n) + per_seq * (decode_seqs + prefill_seqs)
      + context(S) + sum_j per_seq_context_j * min(S, k_j * decode_seqs)
      + per_pair * prefill_pairs + prefill_start * min(prefill_tokens, k) / k
      + [decode_seqs > 0] * mixed(prefill_tokens)
      + min(prefill_tokens, k) / k * (mixed_per_seq * decode_seqs + mixed_context * S)

with n = decode_seqs + prefill_tokens scheduled tokens, S the summed decode context, U(n) = E (1 - (1 - k/E)^n) the
experts a layer wakes, and dense, padded, context, mixed piecewise linear from 0. Beyond one tile, n is also counted in
whole tiles of matrix multiplication. Every coefficient is >= 0, so T is non-decreasing in every argument.
"""

from __future__ import annotations

from typing import Annotated, Self

import numpy as np
from annotated_types import Ge, Len
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from servesim.registry import Spec

Slopes = Annotated[list[Annotated[float, Ge(0.0)]], Len(1)]


class PiecewiseLinear(Spec):
    """A non-decreasing function with f(0) = 0: `s_per_token[i]` is its slope from `knots_tokens[i]` to the next."""

    knots_tokens: list[NonNegativeInt]
    s_per_token: Slopes

    @model_validator(mode="after")
    def _check(self) -> Self:
        knots = self.knots_tokens
        if len(knots) != len(self.s_per_token) or knots[0] != 0 or sorted(set(knots)) != knots:
            raise ValueError("need one slope per knot, and knots that start at 0 and increase")
        return self

    def values(self, tokens: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return f at each of `tokens`, in seconds."""
        knots = np.asarray(self.knots_tokens, dtype=np.float64)
        slopes = np.asarray(self.s_per_token)
        at_knots = np.concatenate([[0.0], np.cumsum(slopes[:-1] * np.diff(knots))])
        piece = np.searchsorted(knots, tokens, side="right") - 1
        result: NDArray[np.float64] = at_knots[piece] + slopes[piece] * (tokens - knots[piece])
        return result


class Experts(Spec):
    """Reading expert weights: seconds per woken expert (all layers together)."""

    experts: NonNegativeInt
    experts_per_token: NonNegativeInt
    per_expert_s: NonNegativeFloat

    def values(self, tokens: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the seconds for the experts that `tokens` tokens are expected to wake."""
        miss = 1.0 - self.experts_per_token / self.experts
        result: NDArray[np.float64] = self.per_expert_s * self.experts * (1.0 - miss**tokens)
        return result


class Padded(Spec):
    """What tokens cost that fill only part of a tile: a function of n rounded up, 0 while n fits in one tile."""

    tile_tokens: PositiveInt
    seconds: PiecewiseLinear

    def values(self, tokens: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the seconds at each of `tokens`."""
        return self.seconds.values(in_tiles(tokens, self.tile_tokens))


def in_tiles(tokens: NDArray[np.float64], tile_tokens: int) -> NDArray[np.float64]:
    """Return `tokens` rounded up to whole tiles where they need more than one, else 0."""
    result: NDArray[np.float64] = np.where(tokens > tile_tokens, np.ceil(tokens / tile_tokens) * tile_tokens, 0.0)
    return result


class SequenceContext(Spec):
    """Attention cost of the first `tokens` tokens of each decoding sequence's context."""

    tokens: NonNegativeInt
    s_per_token: NonNegativeFloat


class MixedDecode(Spec):
    """What decoding costs more in an iteration that also prefills: kernels for both are slower on single tokens."""

    per_seq_s: NonNegativeFloat
    per_context_token_s: NonNegativeFloat


class Coefficients(Spec):
    """All coefficients of the form, in seconds."""

    base_s: NonNegativeFloat
    per_seq_s: NonNegativeFloat
    dense: PiecewiseLinear
    padded: Padded | None = None
    experts: Experts | None = None
    context: PiecewiseLinear
    sequence_context: list[SequenceContext] = Field(default_factory=list)
    per_prefill_pair_s: NonNegativeFloat
    prefill_start_s: NonNegativeFloat
    prefill_start_tokens: NonNegativeInt
    mixed: PiecewiseLinear
    mixed_decode: MixedDecode | None = None

    def token_seconds(self, count: int) -> list[float]:
        """Return base + dense + padded + experts for 0, 1, ..., count - 1 scheduled tokens."""
        tokens = np.arange(count, dtype=np.float64)
        seconds = self.base_s + self.dense.values(tokens)
        if self.padded is not None:
            seconds = seconds + self.padded.values(tokens)
        if self.experts is not None:
            seconds = seconds + self.experts.values(tokens)
        return [float(s) for s in seconds]

    def prefill_seconds(self, count: int) -> tuple[list[float], list[float]]:
        """Return what 0, 1, ..., count - 1 prefill tokens add beyond the form's other terms: (alone, with decodes)."""
        tokens = np.arange(count, dtype=np.float64)
        alone = self.prefill_start_s * np.minimum(tokens, self.prefill_start_tokens) / max(1, self.prefill_start_tokens)
        mixed = alone + self.mixed.values(tokens)
        return [float(s) for s in alone], [float(s) for s in mixed]

    def decode_pieces(self, decode_seqs: int, start_s: float) -> list[tuple[float, float, float]]:
        """Return the lines `(base_s, slope_s, limit_tokens)` of a decode batch over the summed context, in order.

        `start_s` is the batch's time at context 0. Neighbouring pieces of equal slope are joined.
        """
        bends = set(self.context.knots_tokens[1:])
        bends |= {part.tokens * decode_seqs for part in self.sequence_context if part.tokens * decode_seqs > 0}
        limits = [float(b) for b in sorted(bends)] + [float("inf")]
        pieces: list[tuple[float, float, float]] = []
        begin, seconds = 0.0, start_s
        for limit in limits:
            slope = self._context_slope(decode_seqs, begin)
            if pieces and pieces[-1][1] == slope:
                base, _, _ = pieces.pop()
            else:
                base = seconds - slope * begin
            pieces.append((base, slope, limit))
            seconds += slope * (limit - begin) if limit != float("inf") else 0.0
            begin = limit
        return pieces

    def _context_slope(self, decode_seqs: int, context_tokens: float) -> float:
        """Return seconds per context token just above `context_tokens`."""
        slope = self.context.s_per_token[0]
        for knot, value in zip(self.context.knots_tokens, self.context.s_per_token, strict=True):
            if knot <= context_tokens:
                slope = value
        return slope + sum(p.s_per_token for p in self.sequence_context if p.tokens * decode_seqs > context_tokens)
