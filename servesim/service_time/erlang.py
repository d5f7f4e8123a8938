"""Erlang service times: less variable than exponential ones."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from servesim.registry import register
from servesim.service_time.law import IidLaw


@register("service_time")
class Erlang(IidLaw):
    """The sum of `phases` exponentials: squared coefficient of variation 1 / phases."""

    kind: Literal["erlang"] = "erlang"
    mean_s: float = Field(gt=0, le=1e9, description="mean seconds of work of a request")
    phases: int = Field(ge=1, le=10_000, description="exponential phases; 1 is the exponential law itself")

    def draw(self, rng: np.random.Generator, n: int) -> npt.NDArray[np.float64]:
        """Return `n` independent draws."""
        return rng.gamma(self.phases, self.mean_s / self.phases, n)
