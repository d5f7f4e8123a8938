"""The better of a few replicas chosen at random."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from servesim.policies.routing.base import Router
from servesim.policies.routing.random import draws
from servesim.registry import register
from servesim.request import Request


@register("router")
class PowerOfD(Router):
    """Look at `d` different replicas chosen at random and take the one with the fewest outstanding requests.

    Mitzenmacher, "The power of two choices in randomized load balancing" (2001); with d = 2 the default of Ray Serve.
    """

    kind: Literal["power_of_d"] = "power_of_d"
    d: Annotated[int, Field(strict=True, ge=1, le=64, description="Replicas looked at for each request.")] = 2

    def start(self, replicas: int, rng: np.random.Generator) -> None:
        """Start with all replicas empty."""
        self._outstanding = [0] * replicas
        self._draw = draws(rng, replicas)
        self._looked_at = min(self.d, replicas)

    def choose(self, request: Request) -> int:
        """Return the least loaded of `d` distinct random replicas, the first drawn among equals."""
        outstanding, draw = self._outstanding, self._draw
        best = next(draw)
        seen = {best}
        while len(seen) < self._looked_at:
            other = next(draw)
            if other not in seen:
                seen.add(other)
                if outstanding[other] < outstanding[best]:
                    best = other
        outstanding[best] += 1
        return best

    def ended(self, replica: int) -> None:
        """Count one request less."""
        self._outstanding[replica] -= 1
