"""From raw values to clean rows, and to the faults by row."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from servesim.errors import InputError, Problem
from servesim.workload.base import MAX_TOKENS, FloatArray, IntArray
from servesim.workload.logs.rows import Layout, LogRows, RawRows, TimeUnit
from servesim.workload.trace import MAX_PROBLEMS

_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000, "iso8601": 1_000_000_000}
_ISO = re.compile(r"((?:19|20)\d\d-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d{1,9})?)(?:Z|([+-])(\d\d):?(\d\d))?", re.ASCII)
_WHOLE = re.compile(r"(-?\d+)(?:\.0*)?", re.ASCII)
_LATEST_S = 1e11  # the year 5138: a larger number of seconds is milliseconds or less


class RowFault(NamedTuple):
    """The first fault of a row. `what` names it without the row's own text, which may be private."""

    line: int
    what: str
    message: str


@dataclass(slots=True)
class Faults:
    """Faults found in a log: raised at once, or kept, the faulty rows left out, where `keep`.

    `kinds` counts the faulty rows by what is wrong: a column's name, or that a line is no JSON object.
    """

    path: str
    keep: bool = False
    rows: int = 0
    problems: list[Problem] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)

    def report(self, found: Sequence[RowFault]) -> None:
        """Take one fault per faulty row; raise InputError with the first of them unless they are kept."""
        self.rows += len(found)
        self.kinds.update(fault.what for fault in found)
        room = MAX_PROBLEMS - len(self.problems)
        self.problems += [Problem(fault.message, file=self.path, line=fault.line) for fault in found[:room]]
        if self.problems and not self.keep:
            raise InputError(self.problems)


class Parser:
    """Parses one file's rows, batch by batch; remembers the first row's time, from which all others count."""

    def __init__(self, layout: Layout, time_unit: TimeUnit, faults: Faults) -> None:
        self.layout = layout
        self.time_unit = time_unit
        self.faults = faults
        self._origin: Any = None

    def rows(self, raw: RawRows) -> LogRows:
        """Return the clean rows of a batch, which may be none where faults are kept."""
        try:
            return self._fast(raw)
        except (TypeError, ValueError, OverflowError, InputError):
            found = dict(self._faulty(raw))
            if not found:
                raise
            self.faults.report([RowFault(raw.line[at], *fault) for at, fault in found.items()])
            sound = [at for at in range(len(raw.line)) if at not in found]
            return self._fast(_chosen(raw, sound))

    def _fast(self, raw: RawRows) -> LogRows:
        failed = raw.failed or ()
        prompts, outputs = raw.prompt, raw.output
        if any(failed):  # such a request's tokens may never have been counted
            outputs = [0 if bad else value for value, bad in zip(outputs, failed, strict=True)]
            prompts = [
                1 if bad and _count(value) is None else value for value, bad in zip(prompts, failed, strict=True)
            ]
        prompt, output = _counts(prompts), _counts(outputs)
        prompt[(output == 0) & (prompt == 0)] = 1
        if len(prompt) and (min(prompt.min() - 1, output.min()) < 0 or max(prompt.max(), output.max()) > MAX_TOKENS):
            raise ValueError("a count is out of range")
        time_s = np.full(len(prompt), np.nan) if raw.time is None else self._times(raw.time)
        return LogRows(time_s, prompt, output, np.array(raw.line, dtype=np.int64), raw.session, raw.prefix)

    def _times(self, values: list[Any]) -> FloatArray:
        """Return seconds after the first row ever parsed; raise ValueError for what is no time."""
        if not values:
            return np.empty(0)
        if self.time_unit == "iso8601":
            ticks: FloatArray | IntArray = _iso_ns(values)
        else:
            ticks = _numbers(values)
        if self._origin is None:
            if self.time_unit == "s" and abs(float(ticks[0])) > _LATEST_S:
                raise ValueError("too large for seconds")
            self._origin = ticks[0]
        seconds: FloatArray = (ticks - self._origin).astype(np.float64) / _PER_SECOND[self.time_unit]
        return seconds

    def _faulty(self, raw: RawRows) -> Iterator[tuple[int, tuple[str, str]]]:
        """Yield position, column and first fault of every faulty row; slow, for when something is known to be wrong."""
        names = self.layout
        for at, (prompt, output) in enumerate(zip(raw.prompt, raw.output, strict=True)):
            failed = raw.failed is not None and raw.failed[at]
            fault, column = None, str(names.arrival)
            if raw.time is not None:
                fault = self._time_fault(raw.time[at])
            if fault is None and not failed:
                served = _count(output) != 0
                column = names.output_tokens
                fault = _count_fault(column, output, 0)
                if fault is None:
                    column = names.prompt_tokens
                    fault = _count_fault(column, prompt, 1 if served else 0)
            if fault is not None:
                yield at, (column, fault)

    def _time_fault(self, value: Any) -> str | None:
        name = self.layout.arrival
        if value is None or value == "":
            return f"{name} is missing"
        try:
            if self.time_unit == "iso8601":
                _iso_ns([value])
            elif self.time_unit == "s" and abs(float(value)) > _LATEST_S:
                return f"{name} is {_short(value)}, too large for seconds: say time_unit: ms, us or ns"
            else:
                _numbers([value])
        except (TypeError, ValueError, OverflowError):
            return f"{name} is {_short(value)}: expected {_expected_time(self.time_unit)}"
        return None


def _expected_time(unit: TimeUnit) -> str:
    example = "a time such as 2024-05-10 00:00:00.009930+00:00"
    return example if unit == "iso8601" else f"a finite number, the time in {unit} (time_unit says otherwise)"


def _count_fault(name: str, value: Any, minimum: int) -> str | None:
    if value is None or value == "":
        return f"{name} is missing"
    count = _count(value)
    if count is None or not minimum <= count <= MAX_TOKENS:
        return f"{name} is {_short(value)}: expected a whole number of tokens, {minimum} to {MAX_TOKENS}"
    return None


def _short(value: Any) -> str:
    text = repr(value)
    text = text if len(text) <= 60 else text[:57] + "..."
    lines = value.count("\n") if isinstance(value, str) else 0
    return f"{text} (a quote that opens here takes in {lines} more lines)" if lines else text


def _counts(values: Sequence[Any]) -> IntArray:
    """Return whole numbers as an array; raise ValueError or TypeError for anything else."""
    if all(type(value) is int for value in values):
        return np.array(values, dtype=np.int64)
    if all(type(value) is str for value in values) and all(map(str.isdecimal, values)):
        return np.array(list(map(int, values)), dtype=np.int64)
    counts = [_count(value) for value in values]
    if None in counts:
        raise ValueError("not a count")
    return np.array(counts, dtype=np.int64)


def _count(value: Any) -> int | None:
    """Return a whole number, also one written 12.0 (as tables with gaps do); None for anything else."""
    if type(value) is int:
        return value
    if isinstance(value, float | np.floating) and math.isfinite(value) and value == int(value):
        return int(value)
    match = _WHOLE.fullmatch(value.strip()) if isinstance(value, str) else None
    return int(match[1]) if match and len(match[1]) < 19 else None


def _numbers(values: Sequence[Any]) -> FloatArray | IntArray:
    """Return finite numbers, exactly where all are whole; raise ValueError or TypeError for anything else."""
    if all(type(value) is int for value in values):
        return np.array(values, dtype=np.int64)
    if any(isinstance(value, bool) or value is None for value in values):
        raise ValueError("not a number")
    texts = [value for value in values if isinstance(value, str)]
    if texts and any("_" in text for text in texts):  # float() would take 1_000
        raise ValueError("not a number")
    if len(texts) == len(values) and all(text.isdecimal() and len(text) < 19 for text in texts):
        return np.array(list(map(int, texts)), dtype=np.int64)
    numbers = np.array([float(value) for value in values])
    if not np.isfinite(numbers).all():
        raise ValueError("not finite")
    return numbers


def _iso_ns(values: Sequence[Any]) -> IntArray:
    """Return nanoseconds of the UTC epoch; a time without an offset counts as UTC."""
    matches = [_ISO.fullmatch(value.strip()) for value in values]
    if None in matches:
        raise ValueError("not a time")
    ticks: IntArray = np.array([match[1] for match in matches], dtype="datetime64[ns]").astype(np.int64)  # type: ignore[index]
    offsets = [(match[2], match[3], match[4]) for match in matches]  # type: ignore[index]
    if any(sign is not None for sign, _, _ in offsets):
        minutes = [0 if s is None else (1 if s == "+" else -1) * (60 * int(h) + int(m)) for s, h, m in offsets]
        ticks = ticks - np.array(minutes, dtype=np.int64) * 60_000_000_000
    return ticks


def _chosen(raw: RawRows, positions: list[int]) -> RawRows:
    return RawRows(*(None if column is None else [column[at] for at in positions] for column in raw))  # type: ignore[arg-type]
