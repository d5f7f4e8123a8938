"""Requests of a measured run in the making: every value checked, what is missing or left out counted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from servesim.errors import InputError, Problem
from servesim.validation.runs import Floats, Run, gap_statistics, in_order_of_arrival
from servesim.workload.base import MAX_TOKENS

_MAX_PROBLEMS = 5
_COPIES = 0.01
"""Share of requests equal to another one in everything from which on a file is taken for joined twice."""


def is_number(value: Any) -> bool:
    """Return whether the value is a number, NaN included."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def scaled(value: Any, factor: float) -> Any:
    """Return a number times `factor`; what is none as it is, for `Requests.add` to name."""
    return value * factor if is_number(value) else value


def total(values: Sequence[Any]) -> Any:
    """Return the sum of numbers, or the first value that is none."""
    if all(map(is_number, values)):
        return float(sum(values))
    return next(value for value in values if not is_number(value))


@dataclass
class Requests:
    """The requests of the file `path`: one tuple each of arrival, prompt and output tokens, TTFT, E2E (seconds)."""

    path: Path
    rows: list[tuple[float, float, float, float, float]] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    cached: list[int] | None = None
    seen: int = 0
    problems: list[Problem] = field(default_factory=list)

    def leave_out(self) -> None:
        """Count a request that failed."""
        self.seen += 1

    def add(self, arrival: Any, prompt: Any, output: Any, ttft: Any, e2e: Any, gaps: Sequence[Any] = ()) -> bool:
        """Add a request; None where a value is missing. Return False for one without output, which is left out."""
        self.seen += 1
        if output is None or (is_number(output) and (math.isnan(output) or output == 0)):
            return False
        row = (
            self._seconds("arrival", arrival),
            self._tokens("prompt tokens", prompt),
            self._tokens("output tokens", output),
            self._seconds("TTFT", ttft),
            self._seconds("E2E", e2e),
        )
        self.rows.append(row)
        self.gaps += [float(gap) for gap in gaps if is_number(gap)]
        return True

    def _seconds(self, what: str, value: Any) -> float:
        if value is None or is_number(value):
            return math.nan if value is None else float(value)
        self._refuse(f"{what} is {_short(value)}: expected a number")
        return math.nan

    def _tokens(self, what: str, value: Any) -> float:
        if value is None or (is_number(value) and math.isnan(value)):
            self._refuse(f"{what} are missing")
        elif not is_number(value) or not 1 <= value <= MAX_TOKENS or value != int(value):
            self._refuse(f"{what} are {_short(value)}: expected a whole number, 1 to {MAX_TOKENS}")
        else:
            return float(value)
        return 1.0

    def _refuse(self, message: str) -> None:
        if len(self.problems) < _MAX_PROBLEMS:
            self.problems.append(Problem(f"request {self.seen}: {message}", file=str(self.path)))

    def run(self) -> Run:
        """Return them in order of arrival; in the file's order, all at 0, where it has no times."""
        if self.problems:
            raise InputError(self.problems)
        arrival, prompt, output, ttft, e2e = np.array(self.rows, dtype=np.float64).reshape(-1, 5).T
        if np.isnan(ttft).all() and np.isnan(e2e).all():
            raise InputError(Problem("holds no request with a latency: nothing to compare with", file=str(self.path)))
        _check_latencies(ttft, e2e, self.path)
        timed = self._timed(arrival)
        run = Run(
            self.path.name,
            arrival if timed else np.zeros(len(arrival)),
            prompt.astype(np.int64),
            output.astype(np.int64),
            ttft,
            e2e,
            gap_statistics(np.array(self.gaps)),
            None if self.cached is None else np.array(self.cached, dtype=np.int64),
            timed,
            tuple(self._notes(ttft, e2e, timed)),
        )
        return in_order_of_arrival(run)

    def _timed(self, arrival: Floats) -> bool:
        """Return whether the requests have times; InputError where only some have, or one is infinite."""
        missing = np.isnan(arrival)
        for what, bad in (("missing", missing), ("infinite", np.isinf(arrival))):
            if bad.any() and not missing.all():
                message = f"the arrival is {what} in {bad.sum()} of {len(bad)} completed requests, first in number "
                raise InputError(Problem(f"{message}{bad.argmax() + 1}", file=str(self.path)))
        return not missing.any()

    def _notes(self, ttft: Floats, e2e: Floats, timed: bool) -> list[str]:
        count = len(self.rows)
        notes = []
        if left_out := self.seen - count:
            notes.append(f"{left_out} of {self.seen} requests are left out: failed, or without output tokens")
        for what, values in (("TTFT", ttft), ("E2E", e2e)):
            missing = int(np.isnan(values).sum())
            if missing == count:
                notes.append(f"the file holds no {what}")
            elif missing:
                notes.append(
                    f"the {what} of {missing} of {count} requests is missing: they are replayed but not compared by it"
                )
        if (copies := count - len(set(map(str, self.rows)))) > _COPIES * count and timed:
            notes.append(
                f"{copies} of {count} requests equal another one in arrival, lengths and latencies: "
                "was the file joined twice?"
            )
        return notes


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _check_latencies(ttft: Floats, e2e: Floats, path: Path) -> None:
    """Refuse what no clock measures; 1 % and 1 ms are left for columns that were rounded apart."""
    faults = {
        "TTFT is negative or infinite": (ttft < 0) | np.isinf(ttft),
        "E2E is not above 0, or infinite": (e2e <= 0) | np.isinf(e2e),
        "E2E is below TTFT (is one of them in other units?)": e2e < 0.99 * ttft - 0.001,
    }
    problems = [
        Problem(
            f"{what} in {bad.sum()} of {len(bad)} completed requests, first in number {bad.argmax() + 1}: "
            f"TTFT {ttft[bad.argmax()]:g} s, E2E {e2e[bad.argmax()]:g} s",
            file=str(path),
        )
        for what, bad in faults.items()
        if bad.any()
    ]
    if not problems and not (ttft > 0).any() and not (e2e > 0).any():
        problems = [Problem("every latency is 0: nothing to compare with", file=str(path))]
    if problems:
        raise InputError(problems)
