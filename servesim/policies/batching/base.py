"""Which waiting requests form the next batch of a server that computes whole requests together."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import ClassVar

from servesim.registry import Policy
from servesim.request import Request

Rejected = list[tuple[Request, str]]


@dataclass(frozen=True, slots=True)
class BatchServer:
    """What a batcher may know of its server.

    `predict_s(batch_size, prompt_tokens, output_tokens)` is the time of a batch whose longest prompt and output these
    are; None where a batch takes a random time. `deadlines_s` has, by class index, how long after its arrival a request
    should be answered (`inf`: its class has no objective).
    """

    predict_s: Callable[[int, int, int], float] | None = None
    deadlines_s: tuple[float, ...] = ()


class Batcher(Policy):
    """Collects requests and says which of them are computed together: a pure state machine.

    The server asks `next_batch` whenever an instance is idle and something may have changed: a request came, a batch
    ended, or the timer rang. It asks at the end of an instant, so that what arrives together can be batched together.
    When nothing is left that could ever happen, requests still waiting are rejected. A live batcher is started once
    per replica and run.
    """

    needs_prediction: ClassVar[bool] = False

    @property
    def largest(self) -> float:
        """The most requests that can ever be in one batch; `inf` if there is no limit."""
        raise NotImplementedError

    def start(self, server: BatchServer) -> None:
        """Prepare the state of one run."""
        raise NotImplementedError

    def add(self, request: Request, now_s: float) -> str:
        """Take a request that came now; return why not, or "" if it was taken."""
        raise NotImplementedError

    def remove(self, request: Request) -> None:
        """Forget a request that waits (its client is gone)."""
        raise NotImplementedError

    def waiting(self) -> list[Request]:
        """Return every request that was added and is neither removed, rejected nor in a batch."""
        raise NotImplementedError

    def next_batch(self, now_s: float) -> list[Request]:
        """Remove and return the batch to start now on an idle instance; empty: none yet."""
        raise NotImplementedError

    def timer_s(self) -> float:
        """Return when to ask again though nothing else happens; asked right after `next_batch` returned nothing."""
        return inf

    def take_rejected(self) -> Rejected:
        """Return the requests that `next_batch` gave up, with the reasons, once each."""
        return []

    def completed(self, batch: list[Request], seconds: float, now_s: float) -> None:
        """Learn that a batch ended now which took `seconds`."""


class FifoBatcher(Batcher):
    """A batcher with one line of requests, first come first served."""

    def start(self, server: BatchServer) -> None:
        """Prepare the state of one run."""
        # The value is when a request began to wait. An ordered dict forgets one in the middle without a search.
        self._queue: OrderedDict[Request, float] = OrderedDict()

    def add(self, request: Request, now_s: float) -> str:
        """Queue at the back."""
        self._queue[request] = now_s
        return ""

    def remove(self, request: Request) -> None:
        """Forget a waiting request."""
        del self._queue[request]

    def waiting(self) -> list[Request]:
        """Return the line."""
        return list(self._queue)

    def _take(self, count: int) -> list[Request]:
        """Remove and return the first `count` of the line, or all if there are fewer."""
        queue = self._queue
        if count >= len(queue):
            batch = list(queue)
            queue.clear()
            return batch
        pop = queue.popitem
        return [pop(last=False)[0] for _ in range(count)]

    def _oldest_s(self) -> float:
        """Return since when the first of the line waits; `inf` if nobody does."""
        return next(iter(self._queue.values()), inf)
