"""Requests that come in bursts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import ConfigDict, Field

from servesim.registry import register
from servesim.workload.base import FloatArray, TimedArrivals, timed_below
from servesim.workload.count import CountField

_NESTING = 1
_BLOCK_TIMES = 65_536


@register("arrivals")
class BatchArrivals(TimedArrivals):
    """Bursts of requests at one time: `bursts` says when (any timed arrivals), `size` how many requests each.

    Lengths are drawn for each request. With Poisson bursts of size N the rate is that of the bursts times E[N] and the
    index of dispersion E[N^2]/E[N]: N for a fixed size, 2 E[N] - 1 for a geometric one.
    """

    model_config = ConfigDict(defer_build=True)
    nesting: ClassVar[int] = _NESTING

    kind: Literal["batch"] = "batch"
    bursts: Annotated[TimedArrivals, timed_below(_NESTING), Field(description="When bursts come.")]
    size: Annotated[CountField, Field(description="Law of the requests of a burst; a number means exactly that.")]

    @property
    def needs_num_requests(self) -> bool:
        """As for the bursts."""
        return self.bursts.needs_num_requests

    @property
    def is_stationary(self) -> bool:
        """If the bursts are."""
        return self.bursts.is_stationary

    def times(self, rng: np.random.Generator) -> Iterator[FloatArray]:
        """Yield the time of each burst as often as it has requests; times and sizes have a stream each."""
        times_rng, sizes_rng = rng.spawn(2)
        for times_s in self.bursts.times(times_rng):
            sizes = self.size.draw(sizes_rng, len(times_s))
            after = np.cumsum(sizes)
            first = 0
            while first < len(sizes):  # a block of large bursts in portions
                done = int(after[first - 1]) if first else 0
                end = max(first + 1, int(np.searchsorted(after, done + _BLOCK_TIMES, side="right")))
                yield np.repeat(times_s[first:end], sizes[first:end])
                first = end
