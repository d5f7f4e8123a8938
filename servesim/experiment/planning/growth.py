"""Demand to come: a law of the factor on all rates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from servesim.scenario.inventory_schema import GrowthSpec

_STEPS = 400
_LEAST = 1e-3


@dataclass(frozen=True, slots=True)
class Growth:
    """The factor's quantile function: linear between the points (chance of less, factor), from 0 to 1."""

    chances: tuple[float, ...]
    factors: tuple[float, ...]

    @classmethod
    def of(cls, spec: GrowthSpec) -> Growth:
        """Return the law of a document; beyond its first and last quantile the lines go on, above 0."""
        chances, factors = (list(column) for column in zip(*spec.points, strict=True))
        if chances[0] > 0:
            slope = (factors[1] - factors[0]) / (chances[1] - chances[0])
            factors.insert(0, max(_LEAST, factors[0] - slope * chances[0]))
            chances.insert(0, 0.0)
        if chances[-1] < 1:
            slope = (factors[-1] - factors[-2]) / (chances[-1] - chances[-2])
            factors.append(factors[-1] + slope * (1 - chances[-1]))
            chances.append(1.0)
        return cls(tuple(chances), tuple(factors))

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the most demand."""
        return self.factors[0], self.factors[-1]

    def equally_likely(self) -> NDArray[np.float64]:
        """Return factors that stand for equal parts of the chance, shape (400,); one if it is certain."""
        if self.factors[0] == self.factors[-1]:
            return np.array([self.factors[0]])
        return np.interp((np.arange(_STEPS) + 0.5) / _STEPS, self.chances, self.factors)
