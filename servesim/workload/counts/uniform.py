"""Uniform counts."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
from pydantic import model_validator

from servesim.registry import register
from servesim.workload.base import IntArray
from servesim.workload.count import Count, WholeCount


@register("count")
class UniformCount(Count):
    """Every whole number from `low` to `high`, both included, is equally likely."""

    kind: Literal["uniform"] = "uniform"
    low: WholeCount
    high: WholeCount

    @model_validator(mode="after")
    def _not_reversed(self) -> Self:
        if self.high < self.low:
            raise ValueError(f"high ({self.high}) must be at least low ({self.low})")
        return self

    def draw(self, rng: np.random.Generator, n: int) -> IntArray:
        """Return `n` independent counts, shape (n,)."""
        return rng.integers(self.low, self.high, n, dtype=np.int64, endpoint=True)
