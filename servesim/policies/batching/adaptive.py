"""A batch size that follows a latency target."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from servesim.policies.batching.base import BatchServer, FifoBatcher
from servesim.registry import register
from servesim.request import Request


@register("batcher")
class Adaptive(FifoBatcher):
    """Additive increase, multiplicative decrease of the maximum batch size, against a target for the batch's time.

    A full batch within `latency_target_s` raises the maximum by `additive_increase`; a batch beyond it multiplies the
    maximum by `backoff`. An idle instance waits up to `max_queue_delay_s` for a full batch. Source: Crankshaw et al.,
    "Clipper" (NSDI 2017), section 4.3: adaptive batching, backing off by a small constant of 10 %, and
    delayed batching.
    """

    kind: Literal["adaptive"] = "adaptive"
    latency_target_s: float = Field(strict=True, gt=0, le=1e9, description="target for the time of one batch")
    max_batch_size: int = Field(strict=True, ge=1, le=1_000_000, description="the maximum never rises above")
    initial_batch_size: int = Field(default=1, strict=True, ge=1, description="maximum at the beginning")
    additive_increase: float = Field(
        default=1.0, strict=True, gt=0, le=1e6, description="requests more after a batch in time"
    )
    backoff: float = Field(default=0.9, strict=True, gt=0, lt=1, description="factor after a batch beyond the target")
    max_queue_delay_s: float = Field(
        default=0.0, strict=True, ge=0, le=1e9, description="longest wait for a full batch"
    )

    @property
    def largest(self) -> float:
        """The bound on the maximum."""
        return self.max_batch_size

    def start(self, server: BatchServer) -> None:
        """Prepare the state of one run."""
        super().start(server)
        self._limit = float(min(self.initial_batch_size, self.max_batch_size))

    def next_batch(self, now_s: float) -> list[Request]:
        """Return a batch of the present maximum, or everybody if the oldest waited long enough."""
        most = int(self._limit)
        return self._take(most) if len(self._queue) >= most or now_s >= self.timer_s() else []

    def timer_s(self) -> float:
        """Return when the oldest has waited long enough."""
        return self._oldest_s() + self.max_queue_delay_s

    def completed(self, batch: list[Request], seconds: float, now_s: float) -> None:
        """Lower the maximum after a batch beyond the target; raise it after a full one within."""
        if seconds > self.latency_target_s:
            self._limit = max(self._limit * self.backoff, 1.0)
        elif len(batch) >= int(self._limit):
            self._limit = min(self._limit + self.additive_increase, float(self.max_batch_size))
