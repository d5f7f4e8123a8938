"""A replica at random."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from servesim.policies.routing.base import Router
from servesim.registry import register
from servesim.request import Request


def draws(rng: np.random.Generator, choices: int) -> Iterator[int]:
    """Yield independent uniform integers below `choices`, drawn in blocks because single draws are slow."""
    while True:
        yield from rng.integers(0, choices, size=4096).tolist()


@register("router")
class Random(Router):
    """Send each request to a replica chosen uniformly at random."""

    kind: Literal["random"] = "random"

    def start(self, replicas: int, rng: np.random.Generator) -> None:
        """Start the stream of draws."""
        self._draw = draws(rng, replicas)

    def choose(self, request: Request) -> int:
        """Return a uniformly random replica."""
        return next(self._draw)
