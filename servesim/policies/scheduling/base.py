"""Which waiting request an engine admits next, and whom it preempts."""

from __future__ import annotations

from servesim.registry import Policy
from servesim.request import Request


class Scheduler(Policy):
    """Order of a continuous-batching engine's waiting queue.

    The engine looks only at the head: while the head cannot be admitted, nobody is (no overtaking). A live scheduler
    is started once per replica and run.
    """

    def start(self) -> None:
        """Prepare the state of one run."""
        raise NotImplementedError

    def add(self, request: Request) -> bool:
        """Queue an arrived request; return True if it is now the head, so that the engine should look again."""
        raise NotImplementedError

    def requeue(self, request: Request) -> None:
        """Put a preempted request back."""
        raise NotImplementedError

    def head(self) -> Request:
        """Return the next request to admit; asked only while some request waits."""
        raise NotImplementedError

    def pop(self) -> Request:
        """Remove and return the head."""
        raise NotImplementedError

    def remove(self, request: Request) -> None:
        """Forget a waiting request (timeout, cancellation)."""
        raise NotImplementedError

    def victim(self, running: dict[Request, None]) -> Request:
        """Choose whom to preempt; `running` is an ordered set, in order of admission and not empty."""
        raise NotImplementedError
