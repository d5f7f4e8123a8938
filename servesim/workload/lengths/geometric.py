"""Geometric lengths."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from servesim.registry import register
from servesim.workload.base import MAX_TOKENS, IntArray, Length, Tokens


@register("length")
class GeometricLength(Length):
    """1, 2, 3, ... tokens with P(T = t) = (1 - 1/mean)^(t-1) / mean: every token is the last with the same chance.

    Counts above `max_tokens`, where given, become `max_tokens`; `mean_tokens` is the mean before that.
    """

    kind: Literal["geometric"] = "geometric"
    mean_tokens: Annotated[float, Field(ge=1, le=MAX_TOKENS)]
    max_tokens: Tokens | None = None

    def draw(self, rng: np.random.Generator, n: int) -> IntArray:
        """Return `n` independent counts, shape (n,)."""
        tokens = rng.geometric(1.0 / self.mean_tokens, n)
        return tokens if self.max_tokens is None else np.minimum(tokens, self.max_tokens)
