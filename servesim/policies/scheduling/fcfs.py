"""First come, first served."""

from __future__ import annotations

from collections import deque
from typing import Literal

from servesim.policies.scheduling.base import Scheduler
from servesim.registry import register
from servesim.request import Request


@register("scheduler")
class Fcfs(Scheduler):
    """Admit in order of arrival; preempt the request admitted last and put it back at the front of the queue.

    Source: vLLM V1 with `scheduling_policy=fcfs` (vllm/v1/core/sched/scheduler.py, request_queue.py).
    """

    kind: Literal["fcfs"] = "fcfs"

    def start(self) -> None:
        """Prepare the state of one run."""
        self._queue: deque[Request] = deque()
        # Requests whose clients left stay queued until they surface: the middle of a deque is far away.
        self._left: set[Request] = set()

    def add(self, request: Request) -> bool:
        """Queue at the back."""
        self._queue.append(request)
        return len(self._queue) - len(self._left) == 1

    def requeue(self, request: Request) -> None:
        """Put a preempted request at the front."""
        self._queue.appendleft(request)

    def head(self) -> Request:
        """Return the longest-waiting request."""
        if self._left:
            while self._queue[0] in self._left:
                self._left.remove(self._queue.popleft())
        return self._queue[0]

    def pop(self) -> Request:
        """Remove and return the head."""
        if self._left:
            self.head()
        return self._queue.popleft()

    def remove(self, request: Request) -> None:
        """Forget a waiting request."""
        self._left.add(request)

    def victim(self, running: dict[Request, None]) -> Request:
        """Choose the request admitted last."""
        return next(reversed(running))
