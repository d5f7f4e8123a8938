"""A fixed number of clients that wait for their answers."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from servesim.registry import register
from servesim.workload.base import Arrivals


@register("arrivals")
class ClosedLoopArrivals(Arrivals):
    """`max_concurrency` clients, each sending its next request a think time after its last one ended.

    With no think time that is `vllm bench serve --request-rate inf --max-concurrency N`. The simulated system makes
    the requests, since only it knows when one ends.
    """

    kind: Literal["closed_loop"] = "closed_loop"
    max_concurrency: Annotated[int, Field(ge=1, le=1_000_000, description="Clients, hence requests in the system.")]
    think_time_s: Annotated[
        float, Field(ge=0, le=1e6, description="Mean time between an answer and the same client's next request.")
    ] = 0.0
    think: Annotated[Literal["constant", "exponential"], Field(description="The law of the think time.")] = "constant"
    start_stagger_s: Annotated[
        float, Field(ge=0, le=1e6, description="Time between the first requests of one client and the next.")
    ] = 0.0

    def first_request_s(self, client: int) -> float:
        """Return when client number `client` (from 0) sends its first request."""
        return client * self.start_stagger_s

    def think_s(self, rng: np.random.Generator) -> float:
        """Return one think time in seconds; a constant one draws nothing from `rng`."""
        if self.think == "constant":
            return self.think_time_s
        return rng.exponential(self.think_time_s)
