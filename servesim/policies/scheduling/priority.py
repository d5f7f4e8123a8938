"""Lower priority numbers first."""

from __future__ import annotations

from typing import Literal

from servesim.policies.scheduling.ordered import OrderedScheduler
from servesim.registry import register
from servesim.request import Request


@register("scheduler")
class Priority(OrderedScheduler):
    """Admit the lowest `priority` number first, earlier arrivals first among equals; preempt the other way round.

    Priority decides who is admitted and who gives way when KV blocks run out; a running request is never stopped
    merely because a more important one arrived. Source: vLLM V1 with `scheduling_policy=priority` (request_queue.py;
    scheduler.py takes the running request with the largest (priority, arrival time) as victim). Two rare steps
    differ, see docs/engine.md.
    """

    kind: Literal["priority"] = "priority"

    def rank(self, request: Request) -> tuple[float, ...]:
        """Order by priority, then arrival."""
        return request.priority, request.arrival_s

    def victim(self, running: dict[Request, None]) -> Request:
        """Choose the least important running request, the latest arrival among equals."""
        return max(running, key=lambda r: (r.priority, r.arrival_s, r.request_id))
