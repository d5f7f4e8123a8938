"""Lengths from a few quantiles."""

from __future__ import annotations

from typing import Literal

import numpy as np

from servesim.registry import register
from servesim.workload.base import IntArray, Length
from servesim.workload.cdf import TokenCdf, inverse_cdf


@register("length")
class QuantilesLength(Length):
    """A cumulative distribution given at points, probability spread evenly over the whole tokens between two.

    `cdf: [[9, 0], [100, 0.5], [800, 1]]`: half of the counts are 10 to 100, the other half 101 to 800.
    """

    kind: Literal["quantiles"] = "quantiles"
    cdf: TokenCdf

    def draw(self, rng: np.random.Generator, n: int) -> IntArray:
        """Return `n` independent counts, shape (n,)."""
        return inverse_cdf(self.cdf, rng.random(n))
