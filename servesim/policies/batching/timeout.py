"""Batches closed by count or by time, whether or not an instance is free."""

from __future__ import annotations

from collections import deque
from math import inf
from typing import Literal

from pydantic import Field

from servesim.policies.batching.base import Batcher, BatchServer
from servesim.registry import register
from servesim.request import Request


@register("batcher")
class Timeout(Batcher):
    """A batch opens with its first request and closes at `max_batch_size`, or `timeout_s` later, which comes first.

    Whether an instance is free does not matter: closed batches wait in line and do not grow, as with a batching stage
    before a server that it knows nothing of. What arrives at the very instant of closing still joins. The mean batch
    and wait of Poisson arrivals follow from renewal theory (Ross, "Introduction to Probability Models", ch. 7).
    """

    kind: Literal["timeout"] = "timeout"
    max_batch_size: int = Field(strict=True, ge=1, le=1_000_000, description="a batch closes with so many")
    timeout_s: float = Field(strict=True, ge=0, le=1e9, description="or so long after its first request")

    @property
    def largest(self) -> float:
        """The maximum."""
        return self.max_batch_size

    def start(self, server: BatchServer) -> None:
        """Prepare the state of one run."""
        self._closed: deque[dict[Request, None]] = deque()
        self._open: dict[Request, None] = {}
        self._closes_s = inf
        # Requests of closed batches whose clients left; their places are not filled again.
        self._left: set[Request] = set()

    def add(self, request: Request, now_s: float) -> str:
        """Join the open batch, or open one."""
        if now_s > self._closes_s:
            self._close()
        if not self._open:
            self._closes_s = now_s + self.timeout_s
        self._open[request] = None
        if len(self._open) >= self.max_batch_size:
            self._close()
        return ""

    def _close(self) -> None:
        self._closed.append(self._open)
        self._open = {}
        self._closes_s = inf

    def remove(self, request: Request) -> None:
        """Forget a waiting request; an open batch that is empty again closes later."""
        if request in self._open:
            del self._open[request]
            if not self._open:
                self._closes_s = inf
        else:
            self._left.add(request)

    def waiting(self) -> list[Request]:
        """Return the requests of closed batches, then of the open one."""
        return [one for batch in (*self._closed, self._open) for one in batch if one not in self._left]

    def next_batch(self, now_s: float) -> list[Request]:
        """Return the first closed batch that still has somebody in it."""
        if now_s >= self._closes_s:
            self._close()
        while self._closed:
            batch = list(self._closed.popleft())
            if self._left:
                staying = [one for one in batch if one not in self._left]
                self._left.difference_update(batch)
                batch = staying
            if batch:
                return batch
        return []

    def timer_s(self) -> float:
        """Return when the open batch closes."""
        return self._closes_s
