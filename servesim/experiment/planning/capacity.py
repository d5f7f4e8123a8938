"""How much load so many replicas take within the SLO, and the chance that demand to come is more."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from servesim.experiment.planning.candidates import Candidate
from servesim.experiment.planning.growth import Growth
from servesim.experiment.planning.load_factor import largest_load
from servesim.experiment.planning.observe import Laboratory, Target
from servesim.metrics.intervals import CONFIDENCE

_PRECISION = 0.03
_STRIDE = 1.2
_NEVER = 1e-4
_FEW = 8


@dataclass(frozen=True, slots=True)
class Capacity:
    """The load factor at which the SLO breaks; `error` is the standard error of its logarithm."""

    factor: float
    error: float = 0.0

    def breached(self, demand: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the chance of a breach at each demand: that the factor, known with an error, is less."""
        from scipy.special import ndtr  # type: ignore[import-untyped]  # takes long to load

        if not self.factor > 0:
            return np.ones_like(demand)
        excess = np.log(demand / self.factor)
        if not self.error > 0:
            return (excess > 0).astype(float)
        found: NDArray[np.float64] = ndtr(excess / self.error)
        return found


@dataclass
class Curve:
    """The capacity of one configuration by the replicas that are up, measured where it is asked for.

    Between measured sizes it is interpolated; more replicas are taken to be never worse.
    """

    laboratory: Laboratory
    candidate: Candidate
    targets: tuple[Target, ...]
    demand: NDArray[np.float64]
    replications: int
    measured: dict[int, Capacity] = field(default_factory=dict)
    hopeless: str = ""
    guess: float = 1.0

    def measure(self, size: int) -> Capacity:
        """Return the capacity of so many replicas, from simulations."""
        if size not in self.measured:
            self.measured[size] = self._measured(size)
        return self.measured[size]

    def _measured(self, size: int) -> Capacity:
        from scipy.special import stdtrit

        near = min(self.measured, key=lambda other: abs(other - size), default=None)
        guess = self.guess if near is None else self.measured[near].factor * size / near
        stride = 2.0 if near is None else _STRIDE
        found = largest_load(
            self.laboratory, self.candidate.of_size(size), self.targets, self.replications, _PRECISION, guess, stride
        )
        if math.isnan(found.factor):
            return Capacity(found.low)
        if not found.factor > 0:
            self.hopeless = found.reason
            return Capacity(0.0)
        t = float(stdtrit(self.replications - 1, 0.5 + CONFIDENCE / 2))
        known = found.low > 0 and math.isfinite(found.high)
        return Capacity(found.factor, math.log(found.high / found.low) / 2 / t if known else 0.0)

    def explore(self, most: int) -> None:
        """Measure sizes up to `most` until demand is met: all of a few, else every doubling, which gives the shape."""
        sizes = range(1, most + 1) if most <= _FEW else (2**power for power in range(most.bit_length()))
        for size in sizes:
            self.measure(size)
            if self.hopeless or self.breach(size) <= _NEVER:
                return
        if most > _FEW:
            self.measure(most)

    def capacity(self, size: int) -> Capacity:
        """Return what so many take: measured, or between the nearest two that are; beyond the last, the last."""
        known = sorted(self.measured)
        above = next((other for other in known if other >= size), None)
        below = max((other for other in known if other <= size), default=None)
        if size < 1 or below is None:
            return Capacity(0.0)
        best = max(self.measured[other].factor for other in known if other <= below)
        if above is None or above == below:
            return Capacity(best, self.measured[below].error)
        part = (size - below) / (above - below)
        upper = max(best, self.measured[above].factor)
        error = max(self.measured[below].error, self.measured[above].error)
        return Capacity(best + part * (upper - best), error)

    def breach(self, size: int) -> float:
        """Return the chance that so many replicas breach the SLO, over the demand to come."""
        return float(self.capacity(size).breached(self.demand).mean())

    def least(self, chance: float, most: int) -> int | None:
        """Return the fewest replicas whose chance of a breach is at most `chance`; None: more than `most`."""
        if most < 1 or self.hopeless or self.breach(most) > chance:
            return None
        low, high = 0, most
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.breach(middle) <= chance else (middle, high)
        return high


def curve(
    laboratory: Laboratory, candidate: Candidate, targets: tuple[Target, ...], growth: Growth, replications: int
) -> Curve:
    """Return the curve of a candidate over some growth, without measurements yet."""
    return Curve(laboratory, candidate, targets, growth.equally_likely(), replications)
