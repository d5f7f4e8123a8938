"""Observed pairs of lengths."""

from __future__ import annotations

import csv
import math
from functools import cached_property
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, Strict, model_validator

from servesim.errors import InputError, Problem
from servesim.registry import register
from servesim.workload.base import MAX_TOKENS, FloatArray, IntArray, JointLengths, Tokens

Weight = Annotated[float, Field(ge=0, le=1e12)]
_MAX_PROBLEMS = 10

PairRow = Annotated[tuple[Tokens, Tokens], Strict(False)] | Annotated[tuple[Tokens, Tokens, Weight], Strict(False)]


@register("joint_length")
class EmpiricalLengths(JointLengths):
    """Pairs drawn with replacement from observed ones, in proportion to their weights.

    Pairs are `rows` of [prompt, output] or [prompt, output, weight], or a CSV `file` whose header names the columns
    prompt_tokens, output_tokens and perhaps weight (further columns are ignored). A missing weight is 1.
    """

    kind: Literal["empirical"] = "empirical"
    rows: Annotated[tuple[PairRow, ...], Strict(False), Field(min_length=1)] | None = None
    file: Annotated[str, Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.rows is None) == (self.file is None):
            raise ValueError("give either rows or file")
        if self.rows is not None and not any(_weight(row) for row in self.rows):
            raise ValueError("at least one weight must be above 0")
        return self

    @cached_property
    def _table(self) -> tuple[IntArray, IntArray, FloatArray]:
        rows = self.rows if self.rows is not None else read_pairs(str(self.file))
        pairs = np.array([row[:2] for row in rows], dtype=np.int64)
        return pairs[:, 0], pairs[:, 1], np.cumsum([_weight(row) for row in rows])

    def draw_pairs(self, rng: np.random.Generator, n: int) -> tuple[IntArray, IntArray]:
        """Return `n` independent (prompt, output) counts, each of shape (n,); raise InputError for a bad file."""
        prompt, output, cumulative = self._table
        chosen = np.searchsorted(cumulative, rng.random(n) * cumulative[-1], side="right")
        # A draw just below 1 may round up to the total; the last row with a weight takes it.
        chosen = np.minimum(chosen, np.searchsorted(cumulative, cumulative[-1]))
        return prompt[chosen], output[chosen]


def _weight(row: tuple[Any, ...]) -> float:
    return float(row[2]) if len(row) == 3 else 1.0


def read_pairs(path: str) -> list[tuple[int, int, float]]:
    """Return the (prompt, output, weight) rows of a CSV file; raise InputError naming the first faulty ones."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = {"prompt_tokens", "output_tokens"} - set(reader.fieldnames or ())
            if missing:
                raise InputError(Problem(f"missing column {', '.join(sorted(missing))}", file=path, line=1))
            rows = [(_pair(record), reader.line_num) for record in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(Problem(f"cannot read the length pairs: {error}", file=path)) from error
    problems = [Problem(row, file=path, line=line) for row, line in rows if isinstance(row, str)]
    if problems:
        raise InputError(problems[:_MAX_PROBLEMS])
    pairs = [row for row, _ in rows if not isinstance(row, str)]
    if not any(weight for _, _, weight in pairs):
        raise InputError(Problem("the file has no row with a weight above 0", file=path))
    return pairs


def _pair(record: dict[str, str | None]) -> tuple[int, int, float] | str:
    """Return (prompt, output, weight), or what is wrong with the row."""
    try:
        prompt, output = int(record["prompt_tokens"] or ""), int(record["output_tokens"] or "")
        weight = float(record.get("weight", "1") or "")
    except ValueError:
        return f"expected whole numbers of tokens and a weight, not {', '.join(map(str, record.values()))}"
    if not (1 <= prompt <= MAX_TOKENS and 1 <= output <= MAX_TOKENS):
        return f"token counts must be 1 to {MAX_TOKENS}, not {prompt} and {output}"
    if not (math.isfinite(weight) and weight >= 0):
        return f"the weight must be 0 or more, not {weight}"
    return prompt, output, weight
