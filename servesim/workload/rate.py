"""Rates of requests as functions of time, known by the inverse of their integral."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from servesim.registry import KindSpec
from servesim.workload.base import FloatArray

Rps = Annotated[float, Field(ge=0, le=1e9)]


class RateFunction(KindSpec):
    """A rate in requests per second as a function of time, from time 0 on."""

    @abstractmethod
    def when(self, expected: FloatArray) -> FloatArray:
        """Return the times by which `expected` requests (increasing, shape (n,)) are expected.

        Times are in seconds, shape (m,) with m <= n: those that are never expected are left out.
        """


class LinearPieces:
    """A rate that is linear between points (time_s, rps), times not decreasing; a repeated time is a step."""

    def __init__(self, points: Sequence[tuple[float, float]]) -> None:
        self._times_s, self._rates = np.array(points, dtype=np.float64).T
        self._spans_s = np.diff(self._times_s)
        pieces = 0.5 * (self._rates[:-1] + self._rates[1:]) * self._spans_s
        self._expected = np.concatenate(([0.0], np.cumsum(pieces)))

    @property
    def total(self) -> float:
        """Requests expected from the first point to the last."""
        return float(self._expected[-1])

    def invert(self, expected: FloatArray) -> FloatArray:
        """Return when `expected` requests (each from 0 to `total`, shape (n,)) are expected since the first point.

        Within a piece of rates r and r + s t, x requests are expected after t = 2 x / (r + sqrt(r^2 + 2 s x)), which
        loses no digits for s near 0.
        """
        last = len(self._spans_s) - 1
        piece = np.minimum(np.searchsorted(self._expected, expected, side="right") - 1, last)
        span_s = self._spans_s[piece]
        low, high = self._rates[piece], self._rates[piece + 1]
        x = expected - self._expected[piece]
        slope = np.divide(high - low, span_s, out=np.zeros_like(x), where=span_s > 0)
        below = low + np.sqrt(np.maximum(low * low + 2 * slope * x, 0.0))
        within_s = np.divide(2 * x, below, out=np.zeros_like(x), where=below > 0)
        return np.asarray(self._times_s[piece] + np.minimum(within_s, span_s))
