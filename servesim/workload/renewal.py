"""Arrival times from independent gaps."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from servesim.workload.base import FloatArray


def renewal_times(draw_gaps: Callable[[], FloatArray]) -> Iterator[FloatArray]:
    """Yield the running sums of the gaps in seconds that `draw_gaps` returns block by block; time 0 has no arrival."""
    last_s = 0.0
    while True:
        gaps_s = draw_gaps()
        gaps_s[0] += last_s  # the same additions in the same order as one long sum, whatever the block size
        times_s = np.cumsum(gaps_s)
        last_s = float(times_s[-1])
        yield times_s
