"""Each replica in turn."""

from __future__ import annotations

from itertools import cycle
from typing import Literal

import numpy as np

from servesim.policies.routing.base import Router
from servesim.registry import register
from servesim.request import Request


@register("router")
class RoundRobin(Router):
    """Send each request to the next replica, cyclically: what a plain load balancer does."""

    kind: Literal["round_robin"] = "round_robin"

    def start(self, replicas: int, rng: np.random.Generator) -> None:
        """Start with replica 0."""
        self._turn = cycle(range(replicas))

    def choose(self, request: Request) -> int:
        """Return the next replica."""
        return next(self._turn)
