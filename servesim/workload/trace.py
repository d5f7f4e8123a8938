"""Replaying recorded requests: the window, the time scale and the faults that every trace format shares."""

from __future__ import annotations

import csv
from abc import abstractmethod
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from servesim.errors import InputError, Problem, unreadable
from servesim.workload.base import MAX_TOKENS, Arrivals, Block, FloatArray, IntArray

MAX_PROBLEMS = 10
"""Faults named before a reader gives up: enough to see a pattern, few enough to read."""


class TraceRows(NamedTuple):
    """Consecutive rows of a trace file, each of shape (n,): times from any origin, counts >= 1 (output >= 0)."""

    time_s: FloatArray
    prompt_tokens: IntArray
    output_tokens: IntArray
    line: IntArray

    def select(self, which: slice | IntArray) -> TraceRows:
        """Return the rows at these positions."""
        return TraceRows(self.time_s[which], self.prompt_tokens[which], self.output_tokens[which], self.line[which])


class TraceArrivals(Arrivals):
    """Recorded requests, with their own lengths, read as a stream."""

    sorting_advice: ClassVar[str] = "sort the trace by time"
    path: Annotated[str, Field(min_length=1, description="The trace file.")]
    rate_scale: Annotated[float, Field(gt=0, le=1e6, description="Speed of replay: 2 halves every gap.")] = 1.0
    start_s: Annotated[float, Field(ge=0, description="Start of the window, in trace seconds after its first row.")] = (
        0.0
    )
    end_s: Annotated[float, Field(gt=0, description="End of the window (exclusive); none: the whole trace.")] | None = (
        None
    )
    max_requests: Annotated[int, Field(ge=1, description="Replay at most this many requests.")] | None = None
    zero_output: Annotated[
        Literal["refuse", "drop"],
        Field(description="What to do with a row that generated no token: an input error, or leave it out and count."),
    ] = "refuse"

    @model_validator(mode="after")
    def _window_is_not_empty(self) -> TraceArrivals:
        if self.end_s is not None and self.end_s <= self.start_s:
            raise ValueError(f"end_s ({self.end_s:g}) must be after start_s ({self.start_s:g})")
        return self

    @property
    def ends_by_itself(self) -> bool:
        """True: with its file."""
        return True

    @abstractmethod
    def rows(self) -> Iterator[TraceRows]:
        """Yield the file's rows in order, a few thousand at a time; raise InputError for any that is malformed."""

    def joint(self, seed: int = 0, class_name: str = "") -> TraceReplay:
        """Return the requests inside the window as blocks, the window's start shifted to 0 and time scaled.

        Recorded requests are the same under every seed; kinds that draw theirs look at it and at the class.
        """
        return TraceReplay(self)


class TraceReplay(Iterator[Block]):
    """One pass over a trace. `dropped_zero_output` counts the rows left out so far.

    Raises InputError for a file that cannot be read, has no rows, is not sorted by time, or has a row without
    output while the specification refuses those; and for a window that holds no row.
    """

    def __init__(self, spec: TraceArrivals) -> None:
        self.spec = spec
        self.dropped_zero_output = 0
        self._blocks = self._read()

    def __next__(self) -> Block:
        return next(self._blocks)

    def _read(self) -> Iterator[Block]:
        left = self.spec.max_requests
        empty = True
        for window in self._windowed():
            rows = self._with_output(window, left)
            if len(rows.line):
                empty = False
                arrival_s = (rows.time_s - self.spec.start_s) / self.spec.rate_scale
                yield Block(arrival_s.tolist(), rows.prompt_tokens.tolist(), rows.output_tokens.tolist())
            if left is not None:
                left -= len(rows.line)
                if left == 0:
                    return
        if empty:
            raise InputError(Problem("no request of the trace lies inside the window", file=self.spec.path))

    def _with_output(self, rows: TraceRows, limit: int | None) -> TraceRows:
        """Return the first `limit` rows that generate tokens; refuse or count the rows without output among them."""
        served = np.flatnonzero(rows.output_tokens)[:limit]
        read = len(rows.line) if limit is None or len(served) < limit else int(served[-1]) + 1
        dropped = read - len(served)
        if dropped and self.spec.zero_output == "refuse":
            line = int(rows.line[np.argmin(rows.output_tokens)])
            message = "the row generates 0 tokens; `zero_output: drop` leaves such rows out"
            raise InputError(Problem(message, file=self.spec.path, line=line))
        self.dropped_zero_output += dropped
        return rows.select(served) if dropped else rows.select(slice(read))

    def _windowed(self) -> Iterator[TraceRows]:
        """Yield rows inside the window, with times from the trace's first row."""
        spec = self.spec
        for rows in self._sorted():
            first, last = np.searchsorted(rows.time_s, [spec.start_s, np.inf if spec.end_s is None else spec.end_s])
            yield rows.select(slice(first, last))
            if last < len(rows.time_s):
                return

    def _sorted(self) -> Iterator[TraceRows]:
        first_s: float | None = None
        last_s = 0.0
        for rows in self._opened():
            if first_s is None:
                first_s = last_s = float(rows.time_s[0])
            steps = np.diff(rows.time_s, prepend=last_s)
            if steps.min() < 0:
                at = int(np.argmax(steps < 0))
                message = f"the time is {-steps[at]:.6f} s before the row above; {self.spec.sorting_advice}"
                raise InputError(Problem(message, file=self.spec.path, line=int(rows.line[at])))
            last_s = float(rows.time_s[-1])
            yield rows._replace(time_s=rows.time_s - first_s)
        if first_s is None:
            raise InputError(Problem("the trace has no rows", file=self.spec.path))

    def _opened(self) -> Iterator[TraceRows]:
        try:
            yield from self.spec.rows()
        except OSError as error:
            raise unreadable(error, self.spec.path) from error
        except (UnicodeDecodeError, csv.Error) as error:
            raise InputError(Problem(f"the trace is not readable text: {error}", file=self.spec.path)) from error


def is_token_count(tokens: object, *, minimum: int) -> bool:
    """Return whether `tokens` is a whole number between `minimum` and the largest count servesim accepts."""
    return type(tokens) is int and minimum <= tokens <= MAX_TOKENS
