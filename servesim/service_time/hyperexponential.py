"""Hyperexponential service times: more variable than exponential ones."""

from __future__ import annotations

from math import sqrt
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from servesim.registry import register
from servesim.service_time.law import IidLaw


@register("service_time")
class Hyperexponential(IidLaw):
    """One of two exponentials with balanced means, each carrying half of the work: H2 in Kendall's notation.

    With p = (1 + sqrt((scv - 1) / (scv + 1))) / 2 the mean is mean_s / (2 p) with probability p, else
    mean_s / (2 (1 - p)). Source: Whitt, "Approximating a point process by a renewal process, I: two basic methods",
    Operations Research 30(1), 1982.
    """

    kind: Literal["hyperexponential"] = "hyperexponential"
    mean_s: float = Field(gt=0, le=1e9, description="mean seconds of work of a request")
    scv: float = Field(ge=1, le=1e6, description="squared coefficient of variation")

    def draw(self, rng: np.random.Generator, n: int) -> npt.NDArray[np.float64]:
        """Return `n` independent draws."""
        often = (1 + sqrt((self.scv - 1) / (self.scv + 1))) / 2
        means = np.where(rng.random(n) < often, self.mean_s / (2 * often), self.mean_s / (2 * (1 - often)))
        return rng.exponential(1.0, n) * means
