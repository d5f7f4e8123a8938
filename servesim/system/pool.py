"""A pool at run time: replicas behind a router."""

from __future__ import annotations

from collections.abc import Callable

from servesim.engine.base import Replica
from servesim.policies.routing.base import Router
from servesim.request import Request


class Pool:
    """Sends requests to replicas and tells the router when they end."""

    def __init__(self, replicas: list[Replica], router: Router, first_replica: int) -> None:
        self.replicas = replicas
        self._router = router
        self._first = first_replica
        # With one replica there is nothing to choose, so the router is not asked.
        self.submit: Callable[[Request], None] = self._route if len(replicas) > 1 else replicas[0].submit

    def _route(self, request: Request) -> None:
        self.replicas[self._router.choose(request)].submit(request)

    def ended(self, request: Request) -> None:
        """Tell the router that a request sent here has ended."""
        self._router.ended(request.replica - self._first)

    def cancel(self, request: Request, outcome: int) -> None:
        """End a request with `outcome` now."""
        self.replicas[request.replica - self._first].cancel(request, outcome)
