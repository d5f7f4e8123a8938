"""Several arrival processes as one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import ConfigDict, Field, Strict

from servesim.registry import register
from servesim.workload.base import FloatArray, TimedArrivals, timed_below

_NESTING = 2


@register("arrivals")
class SuperpositionArrivals(TimedArrivals):
    """All requests of several `processes`, which know nothing of each other, as one class: a day plus bursts, say.

    The rates add up, and so do the variances of counts. Classes superpose anyway; this is for processes that share
    lengths, objectives and limits.
    """

    model_config = ConfigDict(defer_build=True)
    nesting: ClassVar[int] = _NESTING

    kind: Literal["superposition"] = "superposition"
    processes: Annotated[
        tuple[Annotated[TimedArrivals, timed_below(_NESTING)], ...],
        Strict(False),
        Field(min_length=2, max_length=1000, description="Any timed arrivals, each with a stream of its own."),
    ]

    @property
    def needs_num_requests(self) -> bool:
        """True if one of the processes does."""
        return any(process.needs_num_requests for process in self.processes)

    @property
    def is_stationary(self) -> bool:
        """If all its processes are."""
        return all(process.is_stationary for process in self.processes)

    def times(self, rng: np.random.Generator) -> Iterator[FloatArray]:
        """Yield the merged times; ends when all processes have."""
        streams = rng.spawn(len(self.processes))
        sources = [process.times(stream) for process, stream in zip(self.processes, streams, strict=True)]
        ahead = [(source, block) for source in sources if (block := next(source, None)) is not None]
        while ahead:
            # Up to here every process is known; the one whose block ends here makes sure that something is yielded.
            horizon_s = min(block[-1] for _, block in ahead)
            cuts = [int(np.searchsorted(block, horizon_s, side="right")) for _, block in ahead]
            merged = np.concatenate([block[:cut] for (_, block), cut in zip(ahead, cuts, strict=True)])
            yield np.sort(merged)
            left = [(source, block[cut:]) for (source, block), cut in zip(ahead, cuts, strict=True)]
            refilled = ((source, block if len(block) else next(source, None)) for source, block in left)
            ahead = [(source, block) for source, block in refilled if block is not None]
