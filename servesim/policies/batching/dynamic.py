"""Triton's dynamic batcher."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from math import inf
from typing import Annotated, Literal

from pydantic import Field, model_validator

from servesim.policies.batching.base import Batcher, BatchServer, Rejected
from servesim.registry import Spec, register
from servesim.request import Request

Size = Annotated[int, Field(strict=True, ge=1, le=1_000_000)]


class QueuePolicy(Spec):
    """What becomes of requests of one priority level that wait too long, and how many may wait."""

    timeout_action: Literal["reject", "delay"] = Field(
        default="reject",
        description="a request that waited too long is rejected, or served after all others of its level",
    )
    default_timeout_s: float | None = Field(default=None, gt=0, le=1e9, description="longest wait; null: no limit")
    max_queue_size: int | None = Field(
        default=None, ge=1, description="who comes when so many wait is rejected; null: no limit"
    )


class _Level:
    """The requests of one priority level: `queue` and, behind it, those that were `delayed`; values are since when."""

    __slots__ = ("delayed", "policy", "queue", "timeout_s")

    def __init__(self, policy: QueuePolicy) -> None:
        self.policy = policy
        self.timeout_s = inf if policy.default_timeout_s is None else policy.default_timeout_s
        self.queue: OrderedDict[Request, float] = OrderedDict()
        self.delayed: OrderedDict[Request, float] = OrderedDict()


def _first(queue: OrderedDict[Request, float]) -> float:
    return next(iter(queue.values()), inf)


@register("batcher")
class Dynamic(Batcher):
    """Triton's dynamic batcher: preferred sizes at once, others only after `max_queue_delay_s`; priorities, timeouts.

    Levels are served in order, each first come first served; a request without a priority (0), or with one that is
    no level, has `default_priority_level`. Docs/batching.md has each rule with its source.
    """

    kind: Literal["dynamic"] = "dynamic"
    max_batch_size: Size = Field(description="most requests in a batch")
    preferred_batch_size: list[Size] = Field(
        default_factory=list, description="sizes that start at once; default: max_batch_size"
    )
    max_queue_delay_s: float = Field(
        default=0.0, strict=True, ge=0, le=1e9, description="how long the oldest may wait for a preferred size"
    )
    priority_levels: int = Field(
        default=0, strict=True, ge=0, le=1000, description="levels, 1 is first; 0: no priorities"
    )
    default_priority_level: int = Field(
        default=0, strict=True, ge=0, description="level of requests without a priority"
    )
    default_queue_policy: QueuePolicy = Field(
        default_factory=QueuePolicy, description="waiting at levels that have no policy of their own"
    )
    priority_queue_policy: dict[str, QueuePolicy] = Field(
        default_factory=dict, description="waiting, by priority level in quotes"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Dynamic:
        for size in self.preferred_batch_size:
            if size > self.max_batch_size:
                raise ValueError(f"preferred_batch_size {size} is above max_batch_size {self.max_batch_size}")
        levels = self.priority_levels
        if levels and not 1 <= self.default_priority_level <= levels:
            raise ValueError(f"default_priority_level must be one of the levels 1 to {levels}")
        if not levels and self.default_priority_level:
            raise ValueError("default_priority_level needs priority_levels")
        for level in self.priority_queue_policy:
            if level not in map(str, range(1, levels + 1)):
                raise ValueError(f"priority_queue_policy: there is no level {level!r}; priority_levels is {levels}")
        return self

    @property
    def largest(self) -> float:
        """The maximum."""
        return self.max_batch_size

    def start(self, server: BatchServer) -> None:
        """Prepare the state of one run."""
        self._preferred = sorted(self.preferred_batch_size or [self.max_batch_size])
        policies = [
            self.priority_queue_policy.get(str(number), self.default_queue_policy)
            for number in range(1, max(self.priority_levels, 1) + 1)
        ]
        self._levels = [_Level(policy) for policy in policies]
        self._rejected: Rejected = []
        self._timer_s = inf

    def _level(self, request: Request) -> _Level:
        number = request.priority
        if not 1 <= number <= self.priority_levels:
            number = self.default_priority_level
        return self._levels[max(number, 1) - 1]

    def add(self, request: Request, now_s: float) -> str:
        """Queue at the back of the request's level, if there is room."""
        level = self._level(request)
        most = level.policy.max_queue_size
        if most is not None and len(level.queue) + len(level.delayed) >= most:
            return "max_queue_size requests of its priority level wait"
        level.queue[request] = now_s
        return ""

    def remove(self, request: Request) -> None:
        """Forget a waiting request."""
        level = self._level(request)
        del (level.queue if request in level.queue else level.delayed)[request]

    def waiting(self) -> list[Request]:
        """Return all levels, delayed requests at the end of theirs."""
        return [one for level in self._levels for queue in (level.queue, level.delayed) for one in queue]

    def take_rejected(self) -> Rejected:
        """Return the requests that timed out."""
        if not self._rejected:
            return []
        rejected, self._rejected = self._rejected, []
        return rejected

    def next_batch(self, now_s: float) -> list[Request]:
        """Return the largest preferred size that waits, or everything once the oldest waited long enough."""
        count, oldest_s, timeout_s = self._candidates(now_s)
        if not count:
            self._timer_s = inf
            return []
        sizes, delay_s = self._preferred, self.max_queue_delay_s
        # Not `now - oldest >= delay`: the timer below must find its own sum.
        delayed_enough = delay_s > 0 and now_s >= oldest_s + delay_s
        preferred = bisect_right(sizes, count)
        if preferred and not delayed_enough:
            return self._take(sizes[preferred - 1])
        if delayed_enough or delay_s == 0:
            return self._take(count)
        self._timer_s = min(oldest_s + delay_s, timeout_s)
        return []

    def _candidates(self, now_s: float) -> tuple[int, float, float]:
        """Return how many requests can be in the next batch, since when the oldest waits, when the next times out."""
        count, oldest_s, timeout_s = 0, inf, inf
        for level in self._levels:
            if level.timeout_s < inf:
                self._expire(level, now_s)
                timeout_s = min(timeout_s, _first(level.queue) + level.timeout_s)
            for queue in (level.queue, level.delayed):
                if queue and count < self.max_batch_size:
                    count += len(queue)
                    oldest_s = min(oldest_s, _first(queue))
            if count >= self.max_batch_size:
                return self.max_batch_size, oldest_s, timeout_s
        return count, oldest_s, timeout_s

    def _expire(self, level: _Level, now_s: float) -> None:
        """Reject or delay those at the head of a level that waited too long; all of a level may wait equally long."""
        queue = level.queue
        while queue and now_s >= _first(queue) + level.timeout_s:
            request, since_s = queue.popitem(last=False)
            if level.policy.timeout_action == "delay":
                level.delayed[request] = since_s
            else:
                self._rejected.append((request, "waited longer than default_timeout_s"))

    def _take(self, count: int) -> list[Request]:
        batch: list[Request] = []
        for level in self._levels:
            for queue in (level.queue, level.delayed):
                while queue:
                    batch.append(queue.popitem(last=False)[0])
                    if len(batch) == count:
                        return batch
        return batch

    def timer_s(self) -> float:
        """Return when the oldest has waited long enough, or the next one times out."""
        return self._timer_s
