"""Poisson arrivals whose rate follows the clock."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from servesim.registry import Kind, register
from servesim.workload.base import BLOCK_REQUESTS, FloatArray, TimedArrivals
from servesim.workload.rate import RateFunction
from servesim.workload.renewal import renewal_times


@register("arrivals")
class NhppArrivals(TimedArrivals):
    """A non-homogeneous Poisson process: the rate is a known function of time, e.g. of the time of day.

    Arrivals of a Poisson process of rate 1 are moved to where the integral of the rate reaches them (Cinlar,
    "Introduction to Stochastic Processes", 1975, section 4.7). The count in any window is Poisson with the integral as
    its mean, so the index of dispersion is 1: the bursts are those of the rate alone.
    """

    kind: Literal["nhpp"] = "nhpp"
    rate: Annotated[RateFunction, Kind("rate"), Field(description="The rate as a function of time.")]

    def times(self, rng: np.random.Generator) -> Iterator[FloatArray]:
        """Yield the arrival times in blocks, for as long as the rate goes on."""
        for expected in renewal_times(lambda: rng.standard_exponential(BLOCK_REQUESTS)):
            times_s = self.rate.when(expected)
            if len(times_s):
                yield times_s
            if len(times_s) < len(expected):
                return
