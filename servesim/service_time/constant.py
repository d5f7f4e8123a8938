"""Every request takes equally long."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from servesim.registry import register
from servesim.service_time.law import IidLaw


@register("service_time")
class Constant(IidLaw):
    """Every request takes exactly `mean_s`: D in Kendall's notation."""

    kind: Literal["constant"] = "constant"
    mean_s: float = Field(gt=0, le=1e9, description="seconds of work of a request")

    def draw(self, rng: np.random.Generator, n: int) -> npt.NDArray[np.float64]:
        """Return `n` times `mean_s`."""
        return np.full(n, self.mean_s)
