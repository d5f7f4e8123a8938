"""What clients do while they wait: lose patience, interrupt an answer, try again. Specifications and their draws.

All draws belong to the logical request: its ordinal within its class, and for the wait before a retry the attempt too.
A request tried again has the same patience, and would be interrupted at the same place, each time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf, log1p
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from servesim import rng as random_streams
from servesim.registry import Spec
from servesim.request import OUTCOMES
from servesim.workload.base import BLOCK_REQUESTS, Length
from servesim.workload.length_field import LengthField

Seconds = Annotated[float, Field(gt=0, le=1e9)]
Retried = Literal["rejected", "timed_out", "abandoned", "failed"]


class PatienceSpec(Spec):
    """The client leaves (outcome `abandoned`) if nothing has come after a random time."""

    mean_s: Seconds = Field(description="mean time that a client waits, seconds")
    distribution: Literal["exponential", "fixed"] = Field("exponential", description="law of that time")
    until: Literal["first_token", "scheduled"] = Field(
        "first_token", description="what ends the wait: the first token, or being taken into service"
    )

    def draw_s(self, uniform: float) -> float:
        """Return how long a client waits, seconds, from a number uniform in [0, 1)."""
        return self.mean_s if self.distribution == "fixed" else _exponential(self.mean_s, uniform)


class CancelSpec(Spec):
    """The client interrupts its request (outcome `cancelled`), having read enough."""

    probability: float = Field(gt=0, le=1, description="fraction of requests whose client would interrupt")
    after_tokens: LengthField | None = Field(None, description="law of the output tokens after which it stops")
    after_mean_s: Seconds | None = Field(
        None, description="mean of the exponential time after which it stops, seconds from when it was sent"
    )

    @model_validator(mode="after")
    def _one_clock(self) -> Self:
        if (self.after_tokens is None) == (self.after_mean_s is None):
            raise ValueError("give either after_tokens or after_mean_s")
        return self


class RetryBudgetSpec(Spec):
    """Bounds the retries of a class: in no window more than ratio * first attempts + min_retries_rps * window.

    This is the retry budget of service meshes, with their usual values; source: Finagle's `RetryBudget`
    (percentCanRetry, minRetriesPerSec, ttl) and Linkerd's ServiceProfile (retryRatio, minRetriesPerSecond, ttl).
    """

    ratio: float = Field(0.2, ge=0, le=1000, description="retries allowed for each first attempt")
    min_retries_rps: float = Field(10.0, ge=0, le=1e9, description="retries per second allowed besides")
    window_s: Seconds = Field(10.0, description="how far back attempts count, seconds")


class RetrySpec(Spec):
    """The client sends a request that ended badly again, after a wait that grows from attempt to attempt.

    Defaults of attempts and first wait are those of common API client libraries (3 attempts, 0.5 s, doubling). Jitter
    after M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015: `full` is uniform in [0, wait],
    `equal` half of it fixed; `exponential` has the wait as its mean, which makes a retrial queue.
    """

    on: list[Retried] = Field(
        ["rejected", "timed_out", "failed"],
        min_length=1,
        description="ends that are retried",
        json_schema_extra={"uniqueItems": True},
    )
    max_attempts: Annotated[int, Field(ge=2, le=1_000_000)] | Literal["unlimited"] = Field(
        3, description="attempts in all, the first one included"
    )
    backoff_s: Seconds = Field(0.5, description="wait before the second attempt, seconds")
    multiplier: float = Field(2.0, ge=1, le=1000, description="how much longer each wait is than the one before")
    max_backoff_s: Seconds = Field(60.0, description="longest wait before jitter, seconds")
    jitter: Literal["none", "full", "equal", "exponential"] = Field("full", description="randomness of the wait")
    budget: RetryBudgetSpec | None = Field(None, description="bound on the retries of the whole class")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.max_backoff_s < self.backoff_s:
            raise ValueError(f"max_backoff_s: {self.max_backoff_s:g} is less than backoff_s, {self.backoff_s:g}")
        twice = [name for name in self.on if self.on.count(name) > 1]
        if twice:
            raise ValueError(f"on: {twice[0]} is there twice")
        return self

    @property
    def attempts(self) -> float:
        """The most attempts of one request; infinite if unlimited."""
        return inf if self.max_attempts == "unlimited" else self.max_attempts

    @property
    def outcomes(self) -> frozenset[int]:
        """The outcomes after which a client tries again."""
        return frozenset(OUTCOMES.index(name) for name in self.on)

    def wait_s(self, attempts: int, uniform: float) -> float:
        """Return the wait after so many attempts (1, 2, ...), seconds, from a number uniform in [0, 1)."""
        try:
            wait_s = min(self.backoff_s * self.multiplier ** (attempts - 1), self.max_backoff_s)
        except OverflowError:
            wait_s = self.max_backoff_s
        if self.jitter == "full":
            return wait_s * uniform
        if self.jitter == "equal":
            return wait_s * 0.5 * (1 + uniform)
        return _exponential(wait_s, uniform) if self.jitter == "exponential" else wait_s


class RetryBudget:
    """A class's budget during one run: remembers when it was filled and spent over the last window."""

    def __init__(self, spec: RetryBudgetSpec) -> None:
        self._spec = spec
        self._least = spec.min_retries_rps * spec.window_s
        self._firsts: deque[float] = deque()
        self._retries: deque[float] = deque()
        self.refused = 0

    def first_attempt(self, now_s: float) -> None:
        """Count a first attempt."""
        self._forget(self._firsts, now_s)
        self._firsts.append(now_s)

    def allows(self, now_s: float) -> bool:
        """Say whether one more retry is allowed now, and count it."""
        self._forget(self._firsts, now_s)
        self._forget(self._retries, now_s)
        if len(self._retries) + 1 > self._spec.ratio * len(self._firsts) + self._least:
            self.refused += 1
            return False
        self._retries.append(now_s)
        return True

    def _forget(self, times_s: deque[float], now_s: float) -> None:
        oldest_s = now_s - self._spec.window_s
        while times_s and times_s[0] <= oldest_s:
            times_s.popleft()


@dataclass(frozen=True, slots=True)
class Clients:
    """The clients of one class under one seed."""

    seed: int
    class_name: str
    patience: PatienceSpec | None = None
    cancel: CancelSpec | None = None
    retry: RetrySpec | None = None


@dataclass(frozen=True, slots=True)
class Nature:
    """What one client is like: infinite where it never leaves for that reason.

    `patience_s` and `stop_s` count from when the request is sent, `stop_tokens` output tokens.
    """

    patience_s: float = inf
    stop_s: float = inf
    stop_tokens: float = inf


class Natures:
    """The clients of one class, in the order of their requests."""

    def __init__(self, clients: Clients) -> None:
        self._patience, self._cancel = clients.patience, clients.cancel
        seed, class_name = clients.seed, clients.class_name
        self._patience_at = random_streams.KeyedUniform(seed, "patience", class_name)
        self._whether_at = random_streams.KeyedUniform(seed, "cancel", class_name, "whether")
        self._when_at = random_streams.KeyedUniform(seed, "cancel", class_name, "when")
        law = None if clients.cancel is None else clients.cancel.after_tokens
        self._tokens = None if law is None else _token_counts(law, seed, class_name)
        self._ordinal = 0

    def take(self) -> Nature:
        """Return the next client's nature."""
        ordinal = self._ordinal
        self._ordinal = ordinal + 1
        patience, cancel = self._patience, self._cancel
        patience_s = inf if patience is None else patience.draw_s(self._patience_at.at(ordinal))
        # Drawn for those too who would not stop: changing the probability leaves the others as they are.
        tokens = inf if self._tokens is None else next(self._tokens)
        if cancel is None or self._whether_at.at(ordinal) >= cancel.probability:
            return Nature(patience_s)
        mean_s = cancel.after_mean_s
        return Nature(patience_s, inf if mean_s is None else _exponential(mean_s, self._when_at.at(ordinal)), tokens)


def _token_counts(law: Length, seed: int, class_name: str) -> Iterator[int]:
    rng = random_streams.stream(seed, "cancel", class_name, "tokens")
    while True:
        yield from law.draw(rng, BLOCK_REQUESTS).tolist()


def _exponential(mean: float, uniform: float) -> float:
    return -mean * log1p(-uniform)
