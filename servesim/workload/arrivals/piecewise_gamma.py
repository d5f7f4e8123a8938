"""Arrivals whose rate follows a profile of windows, gamma within."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, Strict, model_validator

from servesim.registry import register
from servesim.workload.base import BLOCK_REQUESTS, FloatArray, TimedArrivals

WindowRate = Annotated[float, Field(ge=0, le=1e9)]


@register("arrivals")
class PiecewiseGammaArrivals(TimedArrivals):
    """Gamma arrivals of shape `burstiness` whose rate is `rates_rps[n]` in the n-th window of `window_s` seconds.

    Gaps are drawn with mean 1 in units of expected requests, and the profile says when that many are expected: a
    renewal process under a change of time (Cinlar, "Introduction to Stochastic Processes", 1975, section 4.7, for the
    Poisson case). Within a window they are the gaps of `gamma`. After its last window the profile begins again.
    With `tick_s` times are rounded down to whole ticks, for logs whose clock is coarse or whose requests come in
    batches. `rate_scale` is the speed of replay, as for traces: 2 halves every gap, window and tick.
    """

    kind: Literal["piecewise_gamma"] = "piecewise_gamma"
    window_s: Annotated[float, Field(ge=1e-3, le=1e9, description="Length of a window in seconds.")]
    rates_rps: Annotated[
        tuple[WindowRate, ...], Strict(False), Field(min_length=1, description="Mean requests/s of each window.")
    ]
    burstiness: Annotated[
        float, Field(ge=1e-3, le=1e6, description="Gamma shape: 1 is Poisson, below 1 burstier, above 1 smoother.")
    ] = 1.0
    tick_s: Annotated[float, Field(ge=0, le=1e6, description="Arrivals fall on multiples of it; 0: anywhere.")] = 0.0
    rate_scale: Annotated[float, Field(gt=0, le=1e6, description="Speed: 2 halves every gap.")] = 1.0

    @model_validator(mode="after")
    def _somebody_comes(self) -> Self:
        if sum(self.rates_rps) * self.window_s < 1e-9:
            raise ValueError("at least one window must have a rate above 0")
        return self

    def times(self, rng: np.random.Generator) -> Iterator[FloatArray]:
        """Yield the arrival times in blocks, without end."""
        expected = np.concatenate(([0.0], np.cumsum(np.array(self.rates_rps) * self.window_s)))
        last = 0.0
        while True:
            gaps = rng.standard_gamma(self.burstiness, BLOCK_REQUESTS) / self.burstiness
            gaps[0] += last
            mass = np.cumsum(gaps)
            last = float(mass[-1])
            yield self._when(mass, expected) / self.rate_scale

    def _when(self, mass: FloatArray, expected: FloatArray) -> FloatArray:
        """Return the times by which `mass` requests are expected; `expected` is their number at each window's edge."""
        rounds, rest = np.divmod(mass, expected[-1])
        window = np.minimum(np.searchsorted(expected, rest, side="right"), len(expected) - 1) - 1
        width = expected[window + 1] - expected[window]
        part = np.divide(rest - expected[window], width, out=np.ones_like(rest), where=width > 0)
        times_s = (rounds * len(self.rates_rps) + window + np.minimum(part, 1.0)) * self.window_s
        return np.maximum.accumulate(np.floor(times_s / self.tick_s) * self.tick_s if self.tick_s else times_s)
