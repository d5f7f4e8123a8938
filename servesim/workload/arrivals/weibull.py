"""Arrivals with Weibull gaps."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from servesim.registry import register
from servesim.workload.base import BLOCK_REQUESTS, FloatArray, RequestRate, TimedArrivals
from servesim.workload.renewal import renewal_times


@register("arrivals")
class WeibullArrivals(TimedArrivals):
    """Independent Weibull gaps of shape `shape` and mean exactly 1/rate; the first request waits one gap.

    The scale is 1/(rate G(1 + 1/shape)) and the squared coefficient of variation G(1 + 2/shape)/G(1 + 1/shape)^2 - 1
    with the gamma function G. Below shape 1 the tail is heavier than that of gamma gaps of the same variation.
    """

    kind: Literal["weibull"] = "weibull"
    request_rate_rps: RequestRate
    shape: Annotated[float, Field(ge=0.1, le=1e3, description="1 is Poisson, below 1 burstier, above 1 smoother.")] = (
        1.0
    )

    @property
    def is_stationary(self) -> bool:
        """Independent gaps: yes."""
        return True

    def times(self, rng: np.random.Generator) -> Iterator[FloatArray]:
        """Yield the running sums of the gaps."""
        scale_s = 1.0 / (self.request_rate_rps * math.gamma(1 + 1 / self.shape))
        return renewal_times(lambda: rng.weibull(self.shape, BLOCK_REQUESTS) * scale_s)
