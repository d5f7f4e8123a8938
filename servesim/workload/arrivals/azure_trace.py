"""Azure LLM inference traces of 2023 and 2024."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Literal

import numpy as np

from servesim.errors import InputError, Problem
from servesim.registry import register
from servesim.workload.base import BLOCK_REQUESTS, MAX_TOKENS, IntArray
from servesim.workload.trace import MAX_PROBLEMS, TraceArrivals, TraceRows, is_token_count

_COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_TIME = re.compile(r"((?:19|20)\d\d-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d{1,9})?)(?:\+00:00|Z)?", re.ASCII)


@register("arrivals")
class AzureTraceArrivals(TraceArrivals):
    """Requests of an Azure LLM inference trace: CSV columns TIMESTAMP, ContextTokens, GeneratedTokens, in any order.

    Times are naive with up to nine fractional digits (2023) or carry `+00:00` and may lack the fraction (2024); both
    count as UTC. Further columns are ignored.
    Source: Azure Public Dataset, AzureLLMInferenceTrace 2023 and 2024 (CC-BY-4.0), described in Patel et al.,
    "Splitwise: Efficient generative LLM inference using phase splitting", ISCA 2024.
    """

    kind: Literal["azure_trace"] = "azure_trace"

    def rows(self) -> Iterator[TraceRows]:
        """Yield the file's rows; raise InputError naming the first faulty ones."""
        # The csv module keeps exact line numbers and costs about a microsecond a row, less than simulating it.
        with open(self.path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, quoting=csv.QUOTE_NONE)
            columns = self._columns(next(reader, []))
            origin: np.datetime64 | None = None
            while True:
                first_line = reader.line_num + 1
                table = list(islice(reader, BLOCK_REQUESTS))
                while table and not table[-1]:
                    table.pop()
                if not table:
                    return
                times, prompt, output = self._parse(table, columns, first_line)
                origin = times[0] if origin is None else origin
                lines = np.arange(first_line, first_line + len(table))
                yield TraceRows((times - origin).astype(np.int64) / 1e9, prompt, output, lines)

    def _columns(self, header: Sequence[str]) -> tuple[int, ...]:
        if not header:
            raise InputError(Problem("the file is empty", file=self.path))
        names = [name.strip() for name in header]
        missing = [column for column in _COLUMNS if column not in names]
        if missing:
            message = f"missing column {', '.join(missing)}; the header has {', '.join(names)}"
            raise InputError(Problem(message, file=self.path, line=1))
        return tuple(names.index(column) for column in _COLUMNS)

    def _parse(
        self, table: list[list[str]], columns: tuple[int, ...], first_line: int
    ) -> tuple[Any, IntArray, IntArray]:
        """Return the block's times (datetime64[ns]), prompt and output tokens. Fast; who is at fault comes later."""
        try:
            texts, prompt_texts, output_texts = ([row[column] for row in table] for column in columns)
            times = np.array([_TIME.fullmatch(text)[1] for text in texts], dtype="datetime64[ns]")  # type: ignore[index]
            prompt, output = _counts(prompt_texts), _counts(output_texts)
            if prompt.min() >= 1 and max(prompt.max(), output.max()) <= MAX_TOKENS:
                return times, prompt, output
        except (IndexError, TypeError, ValueError, OverflowError):
            pass
        raise InputError(self._problems(table, columns, first_line))

    def _problems(self, table: list[list[str]], columns: tuple[int, ...], first_line: int) -> list[Problem]:
        """Return what is wrong with a block that failed to parse, row by row."""
        problems = []
        for line, row in enumerate(table, first_line):
            for message in _faults(row, columns):
                problems.append(Problem(message, file=self.path, line=line))
            if len(problems) >= MAX_PROBLEMS:
                break
        return problems


def _counts(texts: list[str]) -> IntArray:
    if not all(map(str.isdecimal, texts)):  # int() alone would let 1_000, +5 and -5 pass
        raise ValueError("not a count")
    return np.array(list(map(int, texts)), dtype=np.int64)


def _faults(row: list[str], columns: tuple[int, ...]) -> Iterator[str]:
    if len(row) <= max(columns):
        yield f"the row is cut short: {len(row)} of at least {max(columns) + 1} fields"
        return
    time, prompt, output = (row[column] for column in columns)
    try:
        match = _TIME.fullmatch(time)
        np.datetime64(match[1] if match else "", "ns")
    except ValueError:
        match = None
    if not match:
        yield f"TIMESTAMP is {time!r}: expected a UTC time such as 2024-05-10 00:00:00.009930+00:00"
    for column, text, minimum in (("ContextTokens", prompt, 1), ("GeneratedTokens", output, 0)):
        if not (text.isdecimal() and is_token_count(int(text), minimum=minimum)):
            yield f"{column} is {text!r}: expected a whole number of tokens, at least {minimum}"
