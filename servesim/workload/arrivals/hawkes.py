"""Self-exciting arrivals."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from servesim.registry import register
from servesim.workload.base import FloatArray, RequestRate, TimedArrivals

_DISTANCE = 1e-9
_MAX_BEFORE = 2e7
_BLOCK_DRAWN = 512


@register("arrivals")
class HawkesArrivals(TimedArrivals):
    """Each request makes others likelier: rate(t) = base_rps + sum over earlier ones of jump_rps e^(-decay (t - t_i)).

    With the branching ratio n = jump_rps/decay_per_s < 1 the mean rate is base_rps/(1 - n) and, for long windows, the
    index of dispersion 1/(1 - n)^2 (Hawkes, "Spectra of some self-exciting and mutually exciting point processes",
    Biometrika 58, 1971). Gaps are drawn exactly, without thinning (Dassios and Zhao, "Exact simulation of Hawkes
    process with exponentially decaying intensity", Electronic Communications in Probability 18, 2013, algorithm 3.1).

    `start: empty` has no past: the rate at time 0 is base_rps. `start: stationary` simulates a past that is long
    enough for what lies before it to make no difference: the expected number of requests that it would add after time
    0 is at most 1e-9, and so is the total variation distance from a stationary process.
    """

    kind: Literal["hawkes"] = "hawkes"
    base_rps: Annotated[RequestRate, Field(description="Rate of requests that no other one caused.")]
    jump_rps: Annotated[float, Field(ge=0, le=1e9, description="How much each request raises the rate.")]
    decay_per_s: Annotated[float, Field(ge=1e-6, le=1e9, description="How fast that fades: 1/(mean delay).")]
    start: Annotated[
        Literal["stationary", "empty"], Field(description="With the past that it would have, or without any.")
    ] = "stationary"

    @model_validator(mode="after")
    def _is_stable(self) -> Self:
        if self.jump_rps >= self.decay_per_s:
            ratio = f"{self.jump_rps:g} >= decay_per_s {self.decay_per_s:g}"
            raise ValueError(f"jump_rps: {ratio}: each request causes one or more, so there is no stationary rate")
        before = self._past_s() * self.base_rps / (1 - self.jump_rps / self.decay_per_s)
        if self.start == "stationary" and before > _MAX_BEFORE:
            raise ValueError(f"start: a stationary one needs a past of {before:.2g} requests here; use start: empty")
        return self

    @property
    def is_stationary(self) -> bool:
        """Unless it starts without a past."""
        return self.start == "stationary"

    def times(self, rng: np.random.Generator) -> Iterator[FloatArray]:
        """Yield the arrival times from time 0 on."""
        origin_s = self._past_s() if self.start == "stationary" else 0.0
        for block in self._from_nothing(rng):
            times_s = block - origin_s
            if times_s[-1] >= 0:
                yield times_s[np.searchsorted(times_s, 0.0) :]

    def _past_s(self) -> float:
        """Return how long before time 0 an empty process must start.

        Started empty instead of stationary, the rate lacks D = E[excess] = base n decay/(decay - jump) at first, and
        D e^(-(decay - jump) T) after T, which means that over (decay - jump) requests later.
        """
        if self.jump_rps == 0:
            return 0.0
        pull = self.decay_per_s - self.jump_rps
        lacking = self.base_rps * self.jump_rps / pull
        return max(0.0, math.log(lacking / pull / _DISTANCE) / pull)

    def _from_nothing(self, rng: np.random.Generator) -> Iterator[FloatArray]:
        """Yield the times of the process that starts empty at time 0.

        The next request is the earlier of two: one of the base rate, and one of the excess, which may never come.
        """
        decay, jump, base = self.decay_per_s, self.jump_rps, self.base_rps
        log1p, exp, inf = math.log1p, math.exp, math.inf
        now_s = excess = 0.0
        while True:
            draws = rng.standard_exponential(2 * _BLOCK_DRAWN).tolist()
            times_s = []
            for own, caused in zip(draws[::2], draws[1::2], strict=True):
                own_s = own / base
                # The excess has e^(-decay s) left when it has caused its request.
                used = decay * caused / excess if excess > 0 else inf
                caused_s = -log1p(-used) / decay if used < 1 else inf
                if caused_s < own_s:
                    now_s += caused_s
                    excess = excess * (1 - used) + jump
                else:
                    now_s += own_s
                    excess = excess * exp(-decay * own_s) + jump
                times_s.append(now_s)
            yield np.array(times_s)
