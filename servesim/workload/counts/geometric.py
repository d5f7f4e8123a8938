"""Geometric counts."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from servesim.registry import register
from servesim.workload.base import IntArray
from servesim.workload.count import MAX_COUNT, Count


@register("count")
class GeometricCount(Count):
    """1, 2, 3, ... with P(N = n) = (1 - 1/mean)^(n-1) / mean: after each one it goes on with the same chance.

    The variance is mean (mean - 1).
    """

    kind: Literal["geometric"] = "geometric"
    mean: Annotated[float, Field(ge=1, le=10_000, description="Mean count.")]

    def draw(self, rng: np.random.Generator, n: int) -> IntArray:
        """Return `n` independent counts, shape (n,)."""
        # The limit is beyond reach: 100 means or more, where the probability is e^-100.
        return np.minimum(rng.geometric(1.0 / self.mean, n), MAX_COUNT)
