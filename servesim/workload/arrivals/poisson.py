"""Poisson arrivals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from servesim.registry import register
from servesim.workload.base import BLOCK_REQUESTS, FloatArray, RequestRate, TimedArrivals
from servesim.workload.renewal import renewal_times


@register("arrivals")
class PoissonArrivals(TimedArrivals):
    """Independent exponential gaps of mean 1/rate, unclipped; the first request waits one gap.

    Clipping gaps at 3/rate, as some simulators do, raises the rate by 1/(1 - e^-3), 5 %, and lowers the squared
    coefficient of variation from 1 to 0.774. Nor are the times rescaled to a fixed total, as `vllm bench serve`
    does: that makes the count of a finite run certain and its arrivals no longer Poisson.
    """

    kind: Literal["poisson"] = "poisson"
    request_rate_rps: RequestRate

    @property
    def is_stationary(self) -> bool:
        """Independent gaps: yes."""
        return True

    def times(self, rng: np.random.Generator) -> Iterator[FloatArray]:
        """Yield the running sums of the gaps."""
        mean_gap_s = 1.0 / self.request_rate_rps
        return renewal_times(lambda: rng.exponential(mean_gap_s, BLOCK_REQUESTS))
