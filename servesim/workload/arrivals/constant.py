"""Evenly spaced arrivals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from servesim.registry import register
from servesim.workload.base import BLOCK_REQUESTS, FloatArray, RequestRate, TimedArrivals


@register("arrivals")
class ConstantArrivals(TimedArrivals):
    """One request every 1/rate seconds, the first at 1/rate.

    That is `vllm bench serve --burstiness inf`: its first request also waits one gap. Times are n/rate, not a
    running sum, so they do not drift.
    """

    kind: Literal["constant"] = "constant"
    request_rate_rps: RequestRate

    @property
    def is_stationary(self) -> bool:
        """Independent gaps: yes."""
        return True

    def times(self, rng: np.random.Generator) -> Iterator[FloatArray]:
        """Yield n / rate for n = 1, 2, ...; draws nothing from `rng`."""
        first = 1
        while True:
            yield np.arange(first, first + BLOCK_REQUESTS, dtype=np.float64) / self.request_rate_rps
            first += BLOCK_REQUESTS
