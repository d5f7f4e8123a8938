"""Requests of similar length together, so that little is padded."""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from math import inf
from typing import Annotated, Literal

from pydantic import Field, model_validator

from servesim.policies.batching.base import Batcher, BatchServer
from servesim.registry import register
from servesim.request import Request


@register("batcher")
class LengthBucketed(Batcher):
    """Requests are sorted into buckets by prompt length, and a batch comes from one bucket only.

    Bucket i takes prompts up to `boundaries_tokens[i]`, a last one those beyond. A full bucket starts at once (of
    several, the one whose first request waits longest), another one when its first request waited `max_queue_delay_s`.
    The rule is `bucket_by_sequence_length` of tf.data with a time limit; for serving see Fang et al.,
    "TurboTransformers" (PPoPP 2021). Without a limit (null), what is left at the end is rejected.
    """

    kind: Literal["length_bucketed"] = "length_bucketed"
    max_batch_size: int = Field(strict=True, ge=1, le=1_000_000, description="most requests in a batch")
    boundaries_tokens: list[Annotated[int, Field(strict=True, ge=1)]] = Field(
        min_length=1, max_length=1000, description="longest prompt of each bucket, ascending"
    )
    max_queue_delay_s: float | None = Field(
        default=0.0, strict=True, ge=0, le=1e9, description="longest wait for a full bucket; null: for ever"
    )

    @model_validator(mode="after")
    def _ascending(self) -> LengthBucketed:
        if any(low >= high for low, high in zip(self.boundaries_tokens, self.boundaries_tokens[1:], strict=False)):
            raise ValueError("boundaries_tokens must ascend")
        return self

    @property
    def largest(self) -> float:
        """The maximum."""
        return self.max_batch_size

    def start(self, server: BatchServer) -> None:
        """Prepare the state of one run."""
        self._buckets: list[OrderedDict[Request, float]] = [OrderedDict() for _ in (*self.boundaries_tokens, inf)]

    def _bucket(self, request: Request) -> OrderedDict[Request, float]:
        return self._buckets[bisect_left(self.boundaries_tokens, request.prompt_tokens)]

    def add(self, request: Request, now_s: float) -> str:
        """Queue at the back of the request's bucket."""
        self._bucket(request)[request] = now_s
        return ""

    def remove(self, request: Request) -> None:
        """Forget a waiting request."""
        del self._bucket(request)[request]

    def waiting(self) -> list[Request]:
        """Return the buckets one after the other."""
        return [one for bucket in self._buckets for one in bucket]

    def next_batch(self, now_s: float) -> list[Request]:
        """Return a full bucket, or else one that waited long enough; of several, the one that waits longest."""
        best, best_key = None, (True, inf)
        for bucket in self._buckets:
            if bucket:
                since_s = next(iter(bucket.values()))
                key = (len(bucket) < self.max_batch_size, since_s)
                if key < best_key and (not key[0] or now_s >= since_s + self._delay_s()):
                    best, best_key = bucket, key
        if best is None:
            return []
        return [best.popitem(last=False)[0] for _ in range(min(len(best), self.max_batch_size))]

    def _delay_s(self) -> float:
        return inf if self.max_queue_delay_s is None else self.max_queue_delay_s

    def timer_s(self) -> float:
        """Return when the next bucket has waited long enough."""
        return min(next(iter(bucket.values()), inf) for bucket in self._buckets) + self._delay_s()
