"""Counts with given weights."""

from __future__ import annotations

from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, Strict, model_validator

from servesim.registry import register
from servesim.workload.base import IntArray
from servesim.workload.count import Count, WholeCount

Weight = Annotated[float, Field(ge=0, le=1e12)]


@register("count")
class WeightedCount(Count):
    """`counts[i]` with a probability in proportion to `weights[i]`: a histogram of what was observed."""

    kind: Literal["weighted"] = "weighted"
    counts: Annotated[
        tuple[WholeCount, ...], Strict(False), Field(min_length=1, max_length=100_000, description="The counts.")
    ]
    weights: Annotated[
        tuple[Weight, ...], Strict(False), Field(min_length=1, max_length=100_000, description="One for each count.")
    ]

    @model_validator(mode="after")
    def _one_weight_each(self) -> Self:
        if len(self.weights) != len(self.counts):
            raise ValueError(f"weights: expected one for each of the {len(self.counts)} counts")
        if not sum(self.weights) > 0:
            raise ValueError("weights: at least one must be above 0")
        return self

    def draw(self, rng: np.random.Generator, n: int) -> IntArray:
        """Return `n` independent counts, shape (n,)."""
        edges = np.cumsum(np.array(self.weights))
        index = np.searchsorted(edges, rng.random(n) * edges[-1], side="right")
        found: IntArray = np.array(self.counts, dtype=np.int64)[np.minimum(index, len(edges) - 1)]
        return found
