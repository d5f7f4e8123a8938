"""What every engine kind offers: a specification that a scenario names, and a replica that serves requests."""

from __future__ import annotations

from typing import Protocol

from servesim.metrics.spool import Spool
from servesim.registry import KindSpec
from servesim.request import Request


class Replica(Protocol):
    """One replica of a pool at run time."""

    runs: Spool
    segments: Spool

    def submit(self, request: Request, computed_tokens: int = 0) -> None:
        """Accept a request now; its `done` is called when it completes or is rejected."""

    def cancel(self, request: Request, outcome: int) -> None:
        """End a request with `outcome`: its client is gone."""


class EngineSpec(KindSpec):
    """How a replica of a pool batches and schedules."""
