"""Iteration time with coefficients written in the scenario: how theory becomes a scenario."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, NonNegativeFloat

from servesim.registry import register
from servesim.service_time.base import Deployment, IterationTime, IterationTimeSpec, Origin


class AffineIterationTime(IterationTime):
    """See `Affine`; the coefficients are attributes because the engine asks once per span."""

    origin = Origin("affine", measured=False, note="coefficients given in the scenario")

    def __init__(self, spec: Affine) -> None:
        self._base_s = spec.base_s
        self._per_decode_s = spec.per_seq_s + spec.per_token_s
        self._per_seq_s = spec.per_seq_s
        self._per_token_s = spec.per_token_s + spec.per_prefill_token_s
        self._slope_s = spec.per_context_token_s
        self._per_pair_s = spec.per_prefill_pair_s

    def decode_line(self, decode_seqs: int, context_tokens: int) -> tuple[float, float, float]:
        """Return the one line that holds for every context."""
        return self._base_s + self._per_decode_s * decode_seqs, self._slope_s, math.inf

    def mixed_s(
        self, decode_seqs: int, context_tokens: int, prefill_seqs: int, prefill_tokens: int, prefill_pairs: int
    ) -> float:
        """Return the sum of all terms."""
        return (
            self._base_s
            + self._per_decode_s * decode_seqs
            + self._slope_s * context_tokens
            + self._per_seq_s * prefill_seqs
            + self._per_token_s * prefill_tokens
            + self._per_pair_s * prefill_pairs
        )


@register("service_time")
class Affine(IterationTimeSpec):
    """Iteration time as a sum of terms, each a coefficient times a count; every coefficient defaults to 0.

    base + per_seq * (decoding + prefilling sequences) + per_token * (scheduled tokens: one per decoding sequence plus
    the prefill chunks) + per_context_token * (summed decode context) + per_prefill_pair * (query-key pairs of
    prefill) + per_prefill_token * (prefill tokens only). With `base_s` and `per_seq_s` alone this is the linear
    batch-service model of Inoue, "Queueing analysis of GPU-based inference servers with dynamic batching: a
    closed-form characterization", Performance Evaluation 147 (2021).
    """

    kind: Literal["affine"] = "affine"
    base_s: NonNegativeFloat = Field(0.0, description="seconds per iteration, whatever the batch")
    per_seq_s: NonNegativeFloat = Field(0.0, description="seconds per sequence in the batch, decoding or prefilling")
    per_token_s: NonNegativeFloat = Field(0.0, description="seconds per scheduled token")
    per_context_token_s: NonNegativeFloat = Field(0.0, description="seconds per token of summed decode context")
    per_prefill_pair_s: NonNegativeFloat = Field(0.0, description="seconds per (query, key) pair of prefill attention")
    per_prefill_token_s: NonNegativeFloat = Field(0.0, description="seconds per prefill token, on top of per_token_s")

    def build(self, deployment: Deployment) -> AffineIterationTime:
        """Return the model; the deployment does not matter to it."""
        return AffineIterationTime(self)
