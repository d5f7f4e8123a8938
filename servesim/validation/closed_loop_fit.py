"""The tuned numbers that fit some closed-loop runs best, by replays of them.

On mean TTFT and TPOT, by Gauss-Newton on robust residuals (soft L1: outliers are common) of replays, drawn a little
towards a prior where there is one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares  # type: ignore[import-untyped]

from servesim.validation.closed_loop import Loop
from servesim.validation.closed_loop_subject import LEAST, NAMES, SCALE, START, Floats, measured, subject

WEIGHT_TTFT = 1.4
OUTLIER = 0.01
SHRINKAGE = 0.03  # residual of a value one SCALE away from the prior
STEPS = 5


@dataclass(frozen=True)
class Line:
    """Replays near `at`: log times `here`, shape (runs, 3), and how they change per SCALE, shape (3, runs, 3)."""

    loops: list[Loop]
    at: Floats
    here: Floats
    slopes: Floats

    @property
    def residuals(self) -> Floats:
        """Log of simulated over measured TTFT and TPOT at `at`, shape (runs, 2)."""
        result: Floats = self.here[:, :2] - measured(self.loops)[:, :2]
        return result

    def predicted(self, values: Floats) -> Floats:
        """Return log times at `values`, to first order."""
        result: Floats = self.here + np.tensordot((values - self.at) / SCALE, self.slopes, 1)
        return result

    def solve(self, chosen: NDArray[np.bool_], prior: Floats | None) -> Floats:
        """Return the values that fit the chosen runs best, to first order."""
        residuals, slopes = self.residuals[chosen], self.slopes[:, chosen, :2]

        def parts(x: Floats) -> Floats:
            fit = (residuals + np.tensordot(x - self.at / SCALE, slopes, 1)) * [WEIGHT_TTFT, 1.0]
            pull = np.empty(0) if prior is None else SHRINKAGE * (x - prior / SCALE)
            return np.concatenate([fit.ravel(), pull])

        start = np.maximum(self.at / SCALE, LEAST / SCALE + 1e-6)
        found = least_squares(parts, start, loss="soft_l1", f_scale=OUTLIER, bounds=(LEAST / SCALE - 1e-9, np.inf))
        result: Floats = np.maximum(found.x * SCALE, LEAST)
        return result


def line_of(loops: list[Loop], start: Floats = START, prior: Floats | None = None) -> Line:
    """Return the line around the best values for these runs: Gauss-Newton with steps that are cut when they fail."""
    subjects = [subject(loop) for loop in loops]
    target = measured(loops)[:, :2]

    def replayed(values: Floats) -> Floats:
        return np.asarray(np.log([one.times(values) for one in subjects]), dtype=np.float64)

    def cost(here: Floats, values: Floats) -> float:
        pull = np.empty(0) if prior is None else SHRINKAGE * (values - prior) / SCALE
        scaled = np.concatenate([((here[:, :2] - target) * [WEIGHT_TTFT, 1.0]).ravel(), pull]) / OUTLIER
        return float((np.sqrt(1.0 + scaled**2) - 1.0).sum())

    at, reach = np.maximum(start, LEAST), 1.0
    here = replayed(at)
    every = np.ones(len(loops), dtype=bool)
    for _ in range(STEPS):
        slopes = []
        for i in range(len(NAMES)):
            moved = at.copy()
            moved[i] += 0.5 * reach * SCALE[i]
            slopes.append((replayed(moved) - here) / (0.5 * reach))
        line = Line(loops, at, here, np.array(slopes))
        step = np.clip(line.solve(every, prior) - at, -4.0 * reach * SCALE, 4.0 * reach * SCALE)
        there = replayed(at + step)
        if cost(there, at + step) < cost(here, at) - 1e-3:
            at, here = at + step, there
        else:
            reach *= 0.4
    return replace(line, at=at, here=here)
