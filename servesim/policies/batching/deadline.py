"""Batches as large as the most urgent request allows."""

from __future__ import annotations

from collections import OrderedDict
from heapq import heappop, heappush
from typing import ClassVar, Literal

from pydantic import Field

from servesim.policies.batching.base import Batcher, BatchServer, Rejected
from servesim.registry import register
from servesim.request import Request


@register("batcher")
class Deadline(Batcher):
    """Earliest deadline first; a batch grows while its most urgent request still meets its deadline by the prediction.

    A request's deadline is its arrival plus the smaller of its class's `ttft_s` and `e2e_s`. An idle instance starts at
    once. A request that cannot meet its deadline even alone is late: rejected, or served in full batches when nobody
    waits who is in time. Sources: earliest deadline first, Liu and Layland (J. ACM 20(1), 1973); batches limited by
    their tightest deadline and early drops, Shen et al., "Nexus" (SOSP 2019).
    """

    needs_prediction: ClassVar[bool] = True
    kind: Literal["deadline"] = "deadline"
    max_batch_size: int = Field(strict=True, ge=1, le=1_000_000, description="most requests in a batch")
    late: Literal["serve_last", "reject"] = Field(
        default="serve_last", description="what becomes of requests too late to help"
    )

    @property
    def largest(self) -> float:
        """The maximum."""
        return self.max_batch_size

    def start(self, server: BatchServer) -> None:
        """Prepare the state of one run."""
        assert server.predict_s is not None
        self._predict_s = server.predict_s
        self._deadlines_s = server.deadlines_s
        self._heap: list[tuple[float, int, Request]] = []
        self._present: dict[Request, None] = {}
        self._late: OrderedDict[Request, None] = OrderedDict()
        self._rejected: Rejected = []
        self._added = 0

    def add(self, request: Request, now_s: float) -> str:
        """Queue by deadline, equal ones in order of coming."""
        self._added += 1
        deadline_s = request.arrival_s + self._deadlines_s[request.class_index]
        heappush(self._heap, (deadline_s, self._added, request))
        self._present[request] = None
        return ""

    def remove(self, request: Request) -> None:
        """Forget a waiting request; what the heap still holds of it is skipped later."""
        if request in self._late:
            del self._late[request]
        else:
            del self._present[request]

    def waiting(self) -> list[Request]:
        """Return all requests, late ones last."""
        return [*self._present, *self._late]

    def take_rejected(self) -> Rejected:
        """Return requests given up as late."""
        if not self._rejected:
            return []
        rejected, self._rejected = self._rejected, []
        return rejected

    def next_batch(self, now_s: float) -> list[Request]:
        """Return the most urgent request and as many of the next as its deadline allows."""
        batch: list[Request] = []
        prompt = output = 0
        until_s = 0.0
        while self._heap and len(batch) < self.max_batch_size:
            deadline_s, _, request = self._heap[0]
            if request not in self._present:
                heappop(self._heap)
                continue
            if not batch:
                until_s = deadline_s
            longest, most = max(prompt, request.prompt_tokens), max(output, request.output_tokens)
            in_time = now_s + self._predict_s(len(batch) + 1, longest, most) <= until_s
            if not in_time and batch:
                break
            heappop(self._heap)
            del self._present[request]
            if in_time:
                batch.append(request)
                prompt, output = longest, most
            elif self.late == "reject":
                self._rejected.append((request, "could not meet its deadline"))
            else:
                self._late[request] = None
        return batch or self._next_late()

    def _next_late(self) -> list[Request]:
        late = self._late
        return [late.popitem(last=False)[0] for _ in range(min(len(late), self.max_batch_size))]
