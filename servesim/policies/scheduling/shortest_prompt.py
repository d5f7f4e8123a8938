"""Shortest prompt first."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Literal

from servesim.policies.scheduling.base import Scheduler
from servesim.registry import register
from servesim.request import Request


@register("scheduler")
class ShortestPrompt(Scheduler):
    """Admit the request with the fewest prompt tokens first; preempt the one admitted last.

    Shortest-job-first on what is known at arrival: it lowers the mean time to first token and lets long prompts wait,
    without bound if short ones keep coming.
    """

    kind: Literal["shortest_prompt"] = "shortest_prompt"

    def start(self) -> None:
        """Prepare the state of one run."""
        self._heap: list[tuple[int, int, Request]] = []

    def add(self, request: Request) -> bool:
        """Queue by prompt length, earlier requests first among equals."""
        heappush(self._heap, (request.prompt_tokens, request.request_id, request))
        return self._heap[0][2] is request

    def requeue(self, request: Request) -> None:
        """Put a preempted request at the front: its work so far would be lost on the longest wait."""
        heappush(self._heap, (-1, request.request_id, request))

    def head(self) -> Request:
        """Return the request with the shortest prompt."""
        return self._heap[0][2]

    def pop(self) -> Request:
        """Remove and return the head."""
        return heappop(self._heap)[2]

    def remove(self, request: Request) -> None:
        """Forget a waiting request."""
        self._heap = [entry for entry in self._heap if entry[2] is not request]
        heapify(self._heap)

    def victim(self, running: dict[Request, None]) -> Request:
        """Choose the request admitted last."""
        return next(reversed(running))
