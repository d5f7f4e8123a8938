"""What every log reader hands over: raw values as the file holds them, then clean rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from servesim.registry import Spec
from servesim.workload.base import FloatArray, IntArray

TimeUnit = Literal["s", "ms", "us", "ns", "iso8601"]
ColumnName = Annotated[str, Field(min_length=1, max_length=500)]

SYNONYMS = {
    "arrival": (
        "arrival",
        "arrival_s",
        "arrival_time",
        "timestamp",
        "TIMESTAMP",
        "Timestamp",
        "time",
        "start_time",
        "ts",
        "created_at",
    ),
    "prompt_tokens": (
        "prompt_tokens",
        "input_tokens",
        "input_length",
        "ContextTokens",
        "Request tokens",
        "isl",
        "in_tok",
        "in_tokens",
        "tokens_in",
    ),
    "output_tokens": (
        "output_tokens",
        "completion_tokens",
        "generated_tokens",
        "output_length",
        "GeneratedTokens",
        "Response tokens",
        "osl",
        "out_tok",
        "out_tokens",
        "tokens_out",
    ),
}
"""Names looked for where a scenario names no column; the first that the file has is taken."""


class LogColumns(Spec):
    """Names of the columns in the file; in JSON a dotted path such as `usage.prompt_tokens` reaches inside."""

    arrival: ColumnName | None = None
    prompt_tokens: ColumnName | None = None
    output_tokens: ColumnName | None = None
    session: ColumnName | None = Field(None, description="What the requests of one conversation have in common.")
    error: ColumnName | None = Field(None, description="Not empty (nor 0 or false) where the request failed.")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a format keeps what; None for what it does not have.

    `prefix` holds a list of identifiers of the prompt's blocks of `prefix_block_tokens` tokens, equal ones shareable.
    `parent` names the request that `session` continues, where sessions are chains. `lengths_exact` is False where
    counts are estimated from text.
    """

    arrival: str | None
    prompt_tokens: str
    output_tokens: str
    time_unit: TimeUnit
    session: str | None = None
    parent: str | None = None
    prefix: str | None = None
    prefix_block_tokens: int = 0
    error: str | None = None
    lengths_exact: bool = True


class RawRows(NamedTuple):
    """Consecutive rows as the file holds them: text, numbers or None where a value is missing; lists of equal length.

    `time` is None in a format without times; `failed`, `session` and `prefix` in one without those.
    """

    line: list[int]
    time: list[Any] | None
    prompt: list[Any]
    output: list[Any]
    failed: list[bool] | None = None
    session: list[Any] | None = None
    prefix: list[Any] | None = None


class LogRows(NamedTuple):
    """Clean rows, each array of shape (n,): seconds after the file's first row, counts >= 1 (output >= 0).

    A failed request has output 0. `line` counts from 1 (in a document without lines: the request's number).
    Without times, `time_s` is NaN.
    """

    time_s: FloatArray
    prompt_tokens: IntArray
    output_tokens: IntArray
    line: IntArray
    session: list[Any] | None = None
    prefix: list[Sequence[int]] | None = None

    def select(self, which: slice | IntArray) -> LogRows:
        """Return the rows at these positions."""
        positions = np.arange(len(self.line))[which]
        arrays = (self.time_s[which], self.prompt_tokens[which], self.output_tokens[which], self.line[which])
        session = None if self.session is None else [self.session[at] for at in positions]
        prefix = None if self.prefix is None else [self.prefix[at] for at in positions]
        return LogRows(*arrays, session, prefix)


def joined(batches: Sequence[LogRows]) -> LogRows:
    """Return consecutive batches (at least one) as one."""
    first = batches[0]
    arrays = [np.concatenate([batch[column] for batch in batches]) for column in range(4)]
    session = None if first.session is None else [value for batch in batches for value in batch.session or ()]
    prefix = None if first.prefix is None else [value for batch in batches for value in batch.prefix or ()]
    return LogRows(arrays[0], arrays[1], arrays[2], arrays[3], session, prefix)
