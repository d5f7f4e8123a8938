"""The replica with the fewest requests in it."""

from __future__ import annotations

from typing import Literal

import numpy as np

from servesim.policies.routing.base import Router
from servesim.registry import register
from servesim.request import Request


@register("router")
class LeastOutstanding(Router):
    """Send each request to a replica with the fewest outstanding (waiting or running) requests.

    Join-the-shortest-queue with exact, immediate knowledge; among equals the one that has been at that level longest.
    Replicas are kept in one ordered set per level, so a choice costs the same for four replicas and four thousand.
    """

    kind: Literal["least_outstanding"] = "least_outstanding"

    def start(self, replicas: int, rng: np.random.Generator) -> None:
        """Start with all replicas empty."""
        self._level = [0] * replicas
        self._at: list[dict[int, None]] = [dict.fromkeys(range(replicas))]
        self._lowest = 0

    def choose(self, request: Request) -> int:
        """Return the first replica of the lowest level."""
        at = self._at
        lowest = self._lowest
        while not at[lowest]:
            lowest += 1
        self._lowest = lowest
        replica = next(iter(at[lowest]))
        del at[lowest][replica]
        lowest += 1
        self._level[replica] = lowest
        if lowest == len(at):
            at.append({})
        at[lowest][replica] = None
        return replica

    def ended(self, replica: int) -> None:
        """Move the replica one level down."""
        at = self._at
        level = self._level[replica]
        del at[level][replica]
        level -= 1
        self._level[replica] = level
        at[level][replica] = None
        if level < self._lowest:
            self._lowest = level
