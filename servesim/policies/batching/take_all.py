"""Whoever waits, within bounds: general bulk service."""

from __future__ import annotations

from math import inf
from typing import Literal

from pydantic import Field, model_validator

from servesim.policies.batching.base import BatchServer, FifoBatcher
from servesim.registry import register
from servesim.request import Request


@register("batcher")
class TakeAll(FifoBatcher):
    """An idle instance takes everybody who waits, at most `max_batch_size`, as soon as `min_batch_size` are there.

    With the defaults this is the dynamic batching that Inoue analyses (Performance Evaluation 147, 2021), with a
    maximum Bailey's bulk queue (J. Roy. Stat. Soc. B 16, 1954), with a minimum too Neuts's general bulk service
    rule (Ann. Math. Stat. 38, 1967). Fewer than the minimum at the end, when nothing more can come, are rejected.
    """

    kind: Literal["take_all"] = "take_all"
    min_batch_size: int = Field(default=1, strict=True, ge=1, le=1_000_000, description="wait until so many are there")
    max_batch_size: int | None = Field(
        default=None, strict=True, ge=1, le=1_000_000, description="most requests in a batch; null: all that wait"
    )

    @model_validator(mode="after")
    def _bounds_in_order(self) -> TakeAll:
        if self.max_batch_size is not None and self.min_batch_size > self.max_batch_size:
            raise ValueError(f"min_batch_size {self.min_batch_size} is above max_batch_size {self.max_batch_size}")
        return self

    @property
    def largest(self) -> float:
        """The maximum, if there is one."""
        return inf if self.max_batch_size is None else self.max_batch_size

    def start(self, server: BatchServer) -> None:
        """Prepare the state of one run."""
        super().start(server)
        self._most = self.max_batch_size or 1 << 60

    def next_batch(self, now_s: float) -> list[Request]:
        """Return all that wait, if they are enough."""
        return self._take(self._most) if len(self._queue) >= self.min_batch_size else []
