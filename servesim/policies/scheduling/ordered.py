"""Queues in an order of their own: what schedulers other than first come, first served have in common."""

from __future__ import annotations

from heapq import heappop, heappush

from servesim.policies.scheduling.base import Scheduler
from servesim.request import Request


class OrderedScheduler(Scheduler):
    """Admits the waiting request with the smallest rank.

    Requests whose clients left stay in the heap until they surface: taking one out of the middle would cost as much
    as the queue is long.
    """

    def rank(self, request: Request) -> tuple[float, ...]:
        """Return what to order by; smaller is admitted earlier, equals by order of arrival."""
        raise NotImplementedError

    def start(self) -> None:
        """Prepare the state of one run."""
        self._heap: list[tuple[tuple[float, ...], int, Request]] = []
        self._left: set[Request] = set()

    def add(self, request: Request) -> bool:
        """Queue by rank."""
        heappush(self._heap, (self.rank(request), request.request_id, request))
        return self.head() is request

    def requeue(self, request: Request) -> None:
        """Put a preempted request back at its rank."""
        heappush(self._heap, (self.rank(request), request.request_id, request))

    def head(self) -> Request:
        """Return the request with the smallest rank."""
        heap, left = self._heap, self._left
        while heap[0][2] in left:
            left.remove(heappop(heap)[2])
        return heap[0][2]

    def pop(self) -> Request:
        """Remove and return the head."""
        request = self.head()
        heappop(self._heap)
        return request

    def remove(self, request: Request) -> None:
        """Forget a waiting request."""
        self._left.add(request)
