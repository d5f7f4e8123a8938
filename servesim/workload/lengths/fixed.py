"""One length for all."""

from __future__ import annotations

from typing import Literal

import numpy as np

from servesim.registry import register
from servesim.workload.base import IntArray, Length, Tokens


@register("length")
class FixedLength(Length):
    """Every request has `tokens` tokens."""

    kind: Literal["fixed"] = "fixed"
    tokens: Tokens

    def draw(self, rng: np.random.Generator, n: int) -> IntArray:
        """Return `n` times `tokens`; draws nothing from `rng`."""
        return np.full(n, self.tokens, dtype=np.int64)
