"""Everything at once: an offline batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from servesim.registry import register
from servesim.workload.base import BLOCK_REQUESTS, FloatArray, TimedArrivals


@register("arrivals")
class AllAtOnceArrivals(TimedArrivals):
    """All of the class's `num_requests` arrive at `at_s`: `vllm bench serve --request-rate inf`, offline inference."""

    kind: Literal["all_at_once"] = "all_at_once"
    at_s: Annotated[float, Field(ge=0, le=1e9, description="When, in seconds from the start of the run.")] = 0.0

    @property
    def needs_num_requests(self) -> bool:
        """True: time never gets past `at_s`."""
        return True

    def times(self, rng: np.random.Generator) -> Iterator[FloatArray]:
        """Yield `at_s` over and over; draws nothing from `rng`."""
        while True:
            yield np.full(BLOCK_REQUESTS, self.at_s)
