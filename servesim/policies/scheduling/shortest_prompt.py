"""Shortest prompt first."""

from __future__ import annotations

from typing import Literal

from servesim.policies.scheduling.ordered import OrderedScheduler
from servesim.registry import register
from servesim.request import Request


@register("scheduler")
class ShortestPrompt(OrderedScheduler):
    """Admit the request with the fewest prompt tokens first; preempt the one admitted last.

    Shortest-job-first on what is known at arrival: it lowers the mean time to first token and lets long prompts wait,
    without bound if short ones keep coming. A preempted request comes first: waiting again would waste its work.
    """

    kind: Literal["shortest_prompt"] = "shortest_prompt"

    def rank(self, request: Request) -> tuple[float, ...]:
        """Order by prompt length, preempted requests before all others."""
        return (-1.0 if request.preemptions else float(request.prompt_tokens),)

    def victim(self, running: dict[Request, None]) -> Request:
        """Choose the request admitted last."""
        return next(reversed(running))
