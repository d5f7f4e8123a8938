"""A rate drawn through points."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, Strict, model_validator

from servesim.registry import register
from servesim.workload.base import FloatArray
from servesim.workload.rate import LinearPieces, RateFunction, Rps

Point = Annotated[
    tuple[Annotated[float, Field(ge=0, le=1e9)], Rps], Strict(False), Field(description="[time in seconds, requests/s]")
]


@register("rate")
class PointsRate(RateFunction):
    """Straight lines between `points` of [time in seconds, requests/s]: ramps, and steps where a time is repeated.

    The first point is at time 0. After the last one the profile begins again with `repeat`; otherwise the rate stays
    as it is then, and if that is 0 nobody comes any more.
    """

    kind: Literal["points"] = "points"
    points: Annotated[
        tuple[Point, ...], Strict(False), Field(min_length=2, max_length=1_000_000, description="[time_s, rps] each.")
    ]
    repeat: Annotated[bool, Field(description="Begin again after the last point.")] = False

    @model_validator(mode="after")
    def _points_make_a_profile(self) -> Self:
        if self.points[0][0] != 0:
            raise ValueError(f"points: the first must be at time 0, not {self.points[0][0]:g}")
        for number, (before, after) in enumerate(pairwise(self.points), 1):
            if after[0] < before[0]:
                raise ValueError(f"points.{number}: the time {after[0]:g} is before the one above it, {before[0]:g}")
        if self.points[-1][0] == 0:
            raise ValueError("points: the last must be after time 0")
        if LinearPieces(self.points).total < 1e-9 and (self.repeat or self.points[-1][1] == 0):
            raise ValueError("points: the rate must be above 0 somewhere")
        return self

    def when(self, expected: FloatArray) -> FloatArray:
        """Return the times, shape (m,)."""
        pieces = LinearPieces(self.points)
        end_s, end_rps = self.points[-1]
        if self.repeat:
            rounds, rest = np.divmod(expected, pieces.total)
            return np.maximum.accumulate(rounds * end_s + pieces.invert(rest))
        within = int(np.searchsorted(expected, pieces.total, side="right"))
        times_s = pieces.invert(expected[:within])
        if end_rps == 0:
            return times_s
        return np.concatenate((times_s, end_s + (expected[within:] - pieces.total) / end_rps))
