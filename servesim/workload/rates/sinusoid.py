"""A rate that swings like a day."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from servesim.registry import register
from servesim.workload.base import FloatArray, RequestRate
from servesim.workload.rate import RateFunction

_STEPS = 60
# Newton's next step is about this one squared, over the slope: after one this small nothing is left to find.
_LAST_STEP = 1e-9


@register("rate")
class SinusoidRate(RateFunction):
    """mean_rps (1 + amplitude sin(2 pi (t - offset_s) / period_s)): a day with `period_s: 86400`.

    The integral is inverted by Newton steps kept inside a bracket (Kepler's equation in another dress), to the
    last digits: no thinning, so that another mean rate moves the same arrivals.
    """

    kind: Literal["sinusoid"] = "sinusoid"
    mean_rps: RequestRate
    amplitude: Annotated[
        float, Field(ge=0, le=1, description="Swing as a part of the mean: 1 goes down to no request.")
    ]
    period_s: Annotated[float, Field(ge=1e-3, le=1e9, description="Time from one peak to the next.")]
    offset_s: Annotated[
        float, Field(ge=-1e9, le=1e9, description="When the rate rises through its mean; the peak is period_s/4 later.")
    ] = 0.0

    def when(self, expected: FloatArray) -> FloatArray:
        """Return the times, shape (n,)."""
        # Phase y = 2 pi (t - offset)/period grows from y0 at t = 0; g(y) = y - a cos(y) grows by 2 pi/period
        # for every request of the mean rate.
        cycle = 2 * math.pi
        start = cycle * math.fmod(-self.offset_s / self.period_s, 1.0)
        first = start - self.amplitude * math.cos(start)
        per_cycle = self.mean_rps * self.period_s
        times_s = []
        for requests in expected.tolist():
            cycles, rest = divmod(requests, per_cycle)
            phase = self._phase(first + cycle * (rest / per_cycle))
            times_s.append((cycles + (phase - start) / cycle) * self.period_s)
        # Rounding must not put the first request before the start nor two in the wrong order.
        return np.maximum.accumulate(np.maximum(np.array(times_s), 0.0))

    def _phase(self, target: float) -> float:
        """Return y with y - amplitude cos(y) = target."""
        amplitude = self.amplitude
        low, high = target - amplitude, target + amplitude
        y = target
        for _ in range(_STEPS):
            error = y - amplitude * math.cos(y) - target
            if error > 0:
                high = y
            else:
                low = y
            slope = 1 + amplitude * math.sin(y)
            guess = y - error / slope if slope > 0 else low
            if not low <= guess <= high:
                guess = 0.5 * (low + high)
            if abs(guess - y) <= _LAST_STEP * slope:
                return guess
            y = guess
        return y
