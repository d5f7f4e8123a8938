"""Lower priority numbers first."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Literal

from servesim.policies.scheduling.base import Scheduler
from servesim.registry import register
from servesim.request import Request


@register("scheduler")
class Priority(Scheduler):
    """Admit the lowest `priority` number first, earlier arrivals first among equals; preempt the other way round.

    Priority decides who is admitted and who gives way when KV blocks run out; a running request is never stopped
    merely because a more important one arrived. Source: vLLM V1 with `scheduling_policy=priority` (request_queue.py;
    scheduler.py takes the running request with the largest (priority, arrival time) as victim). One rare step
    differs: when the victim is the request being scheduled, vLLM leaves the requests behind it out of that one
    iteration; here they go on.
    """

    kind: Literal["priority"] = "priority"

    def start(self) -> None:
        """Prepare the state of one run."""
        self._heap: list[tuple[int, float, int, Request]] = []

    def _push(self, request: Request) -> None:
        heappush(self._heap, (request.priority, request.arrival_s, request.request_id, request))

    def add(self, request: Request) -> bool:
        """Queue by priority."""
        self._push(request)
        return self._heap[0][3] is request

    def requeue(self, request: Request) -> None:
        """Put a preempted request back at its priority."""
        self._push(request)

    def head(self) -> Request:
        """Return the most important request."""
        return self._heap[0][3]

    def pop(self) -> Request:
        """Remove and return the head."""
        return heappop(self._heap)[3]

    def remove(self, request: Request) -> None:
        """Forget a waiting request."""
        self._heap = [entry for entry in self._heap if entry[3] is not request]
        heapify(self._heap)

    def victim(self, running: dict[Request, None]) -> Request:
        """Choose the least important running request, the latest arrival among equals."""
        return max(running, key=lambda r: (r.priority, r.arrival_s, r.request_id))
