"""How iterations scatter about their service time: factors drawn by number of iteration, not by order of asking."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class NoiseLaw:
    """A log-normal factor on device time, of median 1, that so many `iterations` in a row share.

    `sigma` is the standard deviation of its logarithm. Machines drift: logged iterations are alike over tens of others.
    """

    sigma: float
    iterations: int = 1


class IterationNoise:
    """One replica's factors. Iteration i always has the same, whoever asks when, so that both engines agree."""

    def __init__(self, law: NoiseLaw, rng: np.random.Generator) -> None:
        self._law = law
        self._rng = rng
        self._factors: list[float] = []

    def at(self, iteration: int) -> tuple[float, int]:
        """Return (the factor of an iteration, how many iterations have it from this one on)."""
        block, gone = divmod(iteration, self._law.iterations)
        while block >= len(self._factors):
            self._factors += [math.exp(self._law.sigma * z) for z in self._rng.standard_normal(_AT_ONCE)]
        return self._factors[block], self._law.iterations - gone
