"""A pool at run time: replicas behind a router."""

from __future__ import annotations

from collections.abc import Callable

from servesim.engine.base import Replica
from servesim.policies.routing.base import Router
from servesim.request import Request


class Pool:
    """Sends requests to replicas; whoever sees one end tells `ended` its replica, counted from 0 in this pool."""

    def __init__(self, replicas: list[Replica], router: Router, first_replica: int) -> None:
        self.replicas = replicas
        self.first_replica = first_replica
        self._choose = router.choose
        self._submit = [replica.submit for replica in replicas]
        # With one replica there is nothing to choose, so the router is neither asked nor told.
        routed = len(replicas) > 1
        self.submit: Callable[[Request], None] = self._route if routed else replicas[0].submit
        self.ended: Callable[[int], None] | None = router.ended if routed else None

    def _route(self, request: Request) -> None:
        self._submit[self._choose(request)](request)

    def cancel(self, request: Request, outcome: int) -> None:
        """End a request with `outcome` now."""
        self.replicas[request.replica - self.first_replica].cancel(request, outcome)
