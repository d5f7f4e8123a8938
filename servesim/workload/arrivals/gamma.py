"""Arrivals with gamma gaps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from servesim.registry import register
from servesim.workload.base import BLOCK_REQUESTS, FloatArray, RequestRate, TimedArrivals
from servesim.workload.renewal import renewal_times


@register("arrivals")
class GammaArrivals(TimedArrivals):
    """Independent gamma gaps of shape `burstiness` and mean exactly 1/rate; the first request waits one gap.

    The squared coefficient of variation of the gaps is 1/burstiness. The name and the meaning are those of
    `vllm bench serve --burstiness`, whose scale is likewise 1/(rate * burstiness).
    """

    kind: Literal["gamma"] = "gamma"
    request_rate_rps: RequestRate
    burstiness: Annotated[
        float, Field(ge=1e-3, le=1e6, description="Gamma shape: 1 is Poisson, below 1 burstier, above 1 smoother.")
    ] = 1.0

    @property
    def is_stationary(self) -> bool:
        """Independent gaps: yes."""
        return True

    def times(self, rng: np.random.Generator) -> Iterator[FloatArray]:
        """Yield the running sums of the gaps."""
        scale_s = 1.0 / (self.request_rate_rps * self.burstiness)
        return renewal_times(lambda: rng.standard_gamma(self.burstiness, BLOCK_REQUESTS) * scale_s)
