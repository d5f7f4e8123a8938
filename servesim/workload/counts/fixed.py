"""One count for all."""

from __future__ import annotations

from typing import Literal

import numpy as np

from servesim.registry import register
from servesim.workload.base import IntArray
from servesim.workload.count import Count, WholeCount


@register("count")
class FixedCount(Count):
    """Always `count`; a plain number means the same."""

    kind: Literal["fixed"] = "fixed"
    count: WholeCount

    def draw(self, rng: np.random.Generator, n: int) -> IntArray:
        """Return `n` times `count`; draws nothing from `rng`."""
        return np.full(n, self.count, dtype=np.int64)
