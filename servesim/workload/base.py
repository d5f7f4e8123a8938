"""What arrives: the interfaces of arrival processes and token-length laws.

Lengths are whole tokens, at least 1. Times are seconds from the start of the run.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from servesim.registry import Kind, KindSpec

BLOCK_REQUESTS = 4096
"""Requests drawn at a time: large enough to hide numpy's call cost, small enough to never matter in memory."""

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

MAX_TOKENS = 10_000_000
"""The largest count accepted, far above any model's context: a larger one is a mistake, and sums stay in int64."""

Tokens = Annotated[int, Field(ge=1, le=MAX_TOKENS)]
RequestRate = Annotated[float, Field(ge=1e-9, le=1e9, description="Mean requests per second.")]


class Block(NamedTuple):
    """Consecutive requests of one class as plain lists of equal length, which the event loop iterates fastest."""

    arrival_s: list[float]
    prompt_tokens: list[int]
    output_tokens: list[int]


class Arrivals(KindSpec):
    """When requests of one class arrive.

    Every kind extends `TimedArrivals` or `TraceArrivals`, or is `closed_loop` or `sessions`, whose times depend on the
    system.
    """

    nesting: ClassVar[int] = 0
    """How deep kinds of arrivals are nested in this one at most: it may hold kinds of a lower level."""

    @property
    def is_stationary(self) -> bool:
        """True where any stretch of arrivals is like any other, so that a system they load has a steady state."""
        return False

    @property
    def needs_num_requests(self) -> bool:
        """True where a duration alone would never end the source."""
        return False

    @property
    def ends_by_itself(self) -> bool:
        """True where no limit is needed to end the source."""
        return False


class TimedArrivals(Arrivals):
    """Open-loop arrivals whose times do not depend on the system."""

    @abstractmethod
    def times(self, rng: np.random.Generator) -> Iterator[FloatArray]:
        """Yield non-decreasing arrival times in seconds, in blocks of any size >= 1, without end or finite."""


def timed_below(nesting: int) -> Kind:
    """Return the annotation of a field that holds any timed arrivals of a nesting level below this one."""
    return Kind("arrivals", lambda cls: issubclass(cls, TimedArrivals) and cls.nesting < nesting)


class Length(KindSpec):
    """The law of one token count, of the prompt or of the output."""

    @abstractmethod
    def draw(self, rng: np.random.Generator, n: int) -> IntArray:
        """Return `n` independent token counts, each >= 1, shape (n,)."""


class JointLengths(KindSpec):
    """The joint law of a request's prompt and output tokens."""

    max_total_tokens: Annotated[int, Field(ge=2)] | None = Field(
        default=None,
        description="Cap on prompt + output: the prompt is cut to leave room for one token, then the output to fit.",
    )

    @abstractmethod
    def draw_pairs(self, rng: np.random.Generator, n: int) -> tuple[IntArray, IntArray]:
        """Return `n` independent (prompt, output) counts before the cap, each of shape (n,)."""

    def draw_from(self, rng: np.random.Generator, first: int, n: int) -> tuple[IntArray, IntArray]:
        """Return the counts of requests `first`, ... of a class (from 0); laws that change along it look at `first`."""
        return self.draw_pairs(rng, n)

    def draw(self, rng: np.random.Generator, n: int, first: int = 0) -> tuple[IntArray, IntArray]:
        """Return the (prompt, output) token counts of `n` requests, each >= 1, each of shape (n,)."""
        return cap_total(*self.draw_from(rng, first, n), self.max_total_tokens)


@dataclass(frozen=True, slots=True)
class IndependentLengths:
    """A prompt law and an output law that know nothing of each other, with the joint laws' optional cap."""

    prompt: Length
    output: Length
    max_total_tokens: int | None = None


def cap_total(prompt: IntArray, output: IntArray, max_total_tokens: int | None) -> tuple[IntArray, IntArray]:
    """Return the counts with prompt + output <= `max_total_tokens` (>= 2), both still >= 1."""
    if max_total_tokens is None:
        return prompt, output
    prompt = np.minimum(prompt, max_total_tokens - 1)
    return prompt, np.minimum(output, max_total_tokens - prompt)
