"""Which replica of a pool serves a request: pure policies, told of what they need by events, never scanning."""

from __future__ import annotations

import numpy as np

from servesim.registry import Policy
from servesim.request import Request


class Router(Policy):
    """Chooses a replica for each arriving request; a live router is started once per pool and run."""

    def start(self, replicas: int, rng: np.random.Generator) -> None:
        """Prepare the state of one run; `rng` is this router's own stream."""
        raise NotImplementedError

    def choose(self, request: Request) -> int:
        """Return the index of the replica (0 to replicas - 1) that gets `request`, and count it as sent there."""
        raise NotImplementedError

    def ended(self, replica: int) -> None:
        """Learn that a request sent to `replica` has ended, however it did."""
