"""Exponential service times."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from servesim.registry import register
from servesim.service_time.law import IidLaw


@register("service_time")
class Exponential(IidLaw):
    """Exponential with mean `mean_s`: M in Kendall's notation, squared coefficient of variation 1."""

    kind: Literal["exponential"] = "exponential"
    mean_s: float = Field(gt=0, le=1e9, description="mean seconds of work of a request")

    def draw(self, rng: np.random.Generator, n: int) -> npt.NDArray[np.float64]:
        """Return `n` independent draws."""
        return rng.exponential(self.mean_s, n)
