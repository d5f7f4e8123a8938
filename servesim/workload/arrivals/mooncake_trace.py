"""Mooncake traces."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from itertools import islice
from typing import Any, Literal

import numpy as np

from servesim.errors import InputError, Problem
from servesim.registry import register
from servesim.workload.base import BLOCK_REQUESTS
from servesim.workload.trace import MAX_PROBLEMS, TraceArrivals, TraceRows, is_token_count

_KEYS = ("timestamp", "input_length", "output_length")


@register("arrivals")
class MooncakeTraceArrivals(TraceArrivals):
    """Requests of a Mooncake trace: JSON lines with timestamp (ms), input_length, output_length, hash_ids.

    `hash_ids`, the prefix-cache blocks, are not replayed: requests share no prefix.
    Source: Qin et al., "Mooncake: a KVCache-centric disaggregated architecture for LLM serving", FAST 2025.
    """

    kind: Literal["mooncake_trace"] = "mooncake_trace"

    def rows(self) -> Iterator[TraceRows]:
        """Yield the file's rows; raise InputError naming the first faulty ones. Blank lines are skipped."""
        with open(self.path, encoding="utf-8-sig") as file:
            lines = enumerate(file, 1)
            while batch := list(islice(lines, BLOCK_REQUESTS)):
                numbered = [(line, text) for line, text in batch if not text.isspace()]
                if numbered:
                    yield self._parse(numbered)

    def _parse(self, numbered: list[tuple[int, str]]) -> TraceRows:
        rows: list[tuple[float, int, int]] = []
        problems: list[Problem] = []
        for line, text in numbered:
            row = _row(text)
            if isinstance(row, str):
                problems.append(Problem(row, file=self.path, line=line))
                if len(problems) == MAX_PROBLEMS:
                    break
            else:
                rows.append(row)
        if problems:
            raise InputError(problems)
        time_ms, prompt, output = zip(*rows, strict=True)
        lines = np.array([line for line, _ in numbered])
        return TraceRows(np.array(time_ms, dtype=np.float64) / 1e3, np.array(prompt), np.array(output), lines)


def _row(text: str) -> tuple[float, int, int] | str:
    """Return (time_ms, prompt, output), or what is wrong with the line."""
    try:
        record: Any = json.loads(text)
    except ValueError as error:
        cut = "" if text.endswith("\n") else " (the last line of the file: cut short?)"
        return f"not a JSON object: {error}{cut}"
    if not isinstance(record, dict):
        return f"expected a JSON object, not {type(record).__name__}"
    missing = [key for key in _KEYS if key not in record]
    if missing:
        return f"missing key {', '.join(missing)}"
    time_ms, prompt, output = (record[key] for key in _KEYS)
    if type(time_ms) not in (int, float) or not math.isfinite(time_ms) or abs(time_ms) > 1e15:
        return f"timestamp is {time_ms!r}: expected milliseconds"
    for key, tokens, minimum in (("input_length", prompt, 1), ("output_length", output, 0)):
        if not is_token_count(tokens, minimum=minimum):
            return f"{key} is {tokens!r}: expected a whole number of tokens, at least {minimum}"
    return time_ms, prompt, output
