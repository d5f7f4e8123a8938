"""Full batches only."""

from __future__ import annotations

from math import inf
from typing import Literal

from pydantic import Field

from servesim.policies.batching.base import FifoBatcher
from servesim.registry import register
from servesim.request import Request


@register("batcher")
class Static(FifoBatcher):
    """Wait until `batch_size` requests are there; with `timeout_s`, start with fewer once the oldest waited so long.

    Without a timeout what is left over at the end, when nothing more can come, is rejected. The theory of full batches
    is M/M^[b,b]/1 (Gross and Harris, "Fundamentals of Queueing Theory").
    """

    kind: Literal["static"] = "static"
    batch_size: int = Field(strict=True, ge=1, le=1_000_000, description="requests in a batch")
    timeout_s: float | None = Field(
        default=None,
        strict=True,
        ge=0,
        le=1e9,
        description="longest wait for a full batch, from arrival; null: for ever",
    )

    @property
    def largest(self) -> float:
        """The batch size."""
        return self.batch_size

    def next_batch(self, now_s: float) -> list[Request]:
        """Return a full batch, or everybody if the oldest waited long enough."""
        if len(self._queue) >= self.batch_size or now_s >= self.timer_s():
            return self._take(self.batch_size)
        return []

    def timer_s(self) -> float:
        """Return when the oldest has waited long enough."""
        return inf if self.timeout_s is None else self._oldest_s() + self.timeout_s
