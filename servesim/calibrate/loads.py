"""Loads that a server was under, and what a load generator measured of them; impossible values are refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from servesim.errors import InputError, Problem
from servesim.workload.base import MAX_TOKENS

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_MAX_PROBLEMS = 5
_CLOCK_S = 1e-3  # what times rounded apart may differ by
_COPIES = 0.01  # share of requests equal to another one in everything: files that were joined twice


@dataclass(frozen=True, slots=True)
class Requests:
    """The answered requests of one load, in order of start; times in seconds.

    `token_s` holds, per request, when each output token arrived, where the file has that. `failed` requests are left
    out and counted.
    """

    name: str
    start_s: Floats
    prompt_tokens: Floats
    output_tokens: Floats
    ttft_s: Floats
    e2e_s: Floats
    token_s: list[Floats] | None
    failed: int = 0

    @property
    def tpot_s(self) -> Floats:
        """(E2E - TTFT) / (output - 1) of the requests with two tokens or more."""
        several = self.output_tokens > 1
        return (self.e2e_s - self.ttft_s)[several] / (self.output_tokens[several] - 1.0)

    @property
    def copies(self) -> int:
        """How many requests equal another one in start, lengths and latencies, if they are more than chance makes."""
        columns = (self.start_s, self.prompt_tokens, self.output_tokens, self.ttft_s, self.e2e_s)
        found = len(self.start_s) - len(np.unique(np.column_stack(columns), axis=0))
        return found if found > _COPIES * len(self.start_s) else 0


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One load of which only averages and percentiles are known.

    `request_rate_rps` None: closed loop, or all at once where `max_concurrency` is None too. `measured` maps
    (ttft_s, tpot_s or e2e_s, mean, p50, ...) to seconds.
    """

    name: str
    request_rate_rps: float | None
    burstiness: float
    max_concurrency: int | None
    num_requests: int
    prompt_tokens: float
    output_tokens: float
    measured: dict[tuple[str, str], float]


Load = Requests | Aggregate


def checked_aggregate(load: Aggregate) -> Aggregate:
    """Return the load; InputError with everything about it that cannot be."""
    numbers = {
        "request rate": (load.request_rate_rps, 1e-9, np.inf),
        "burstiness": (load.burstiness, 1e-3, 1e6),
        "concurrency": (load.max_concurrency, 1, 1e6),
        "number of requests": (load.num_requests, 1, 1e7),
        "mean prompt tokens": (load.prompt_tokens, 1, MAX_TOKENS),
        "mean output tokens": (load.output_tokens, 1, MAX_TOKENS),
    }
    problems = [
        Problem(f"{what}: {value:g} is not between {low:g} and {high:g}", file=load.name)
        for what, (value, low, high) in numbers.items()
        if value is not None and not low <= value <= high
    ]
    if problems:
        raise InputError(problems)
    return load


def sorted_requests(
    name: str,
    start: Sequence[float],
    prompt: Sequence[float],
    output: Sequence[float],
    ttft: Sequence[float],
    e2e: Sequence[float],
    tokens: list[Floats] | None,
    failed: int,
) -> Requests:
    """Return requests in order of start, which counts from the first; InputError for values that none can have."""
    columns = [np.asarray(values, dtype=np.float64) for values in (start, prompt, output, ttft, e2e)]
    if not len(columns[0]):
        raise InputError(Problem("no request was answered", file=name))
    _refuse_impossible(name, columns, tokens)
    order = np.argsort(columns[0], kind="stable")
    first = columns[0][order[0]]
    start_s, prompt_tokens, output_tokens, ttft_s, e2e_s = (values[order] for values in columns)
    times = None if tokens is None else [tokens[i] - first for i in order]
    return Requests(name, start_s - first, prompt_tokens, output_tokens, ttft_s, e2e_s, times, failed)


def _refuse_impossible(name: str, columns: Sequence[Floats], tokens: list[Floats] | None) -> None:
    _, prompt, output, ttft, e2e = columns
    count = f"expected a whole number, 1 to {MAX_TOKENS}"
    back = [bool(len(times)) and float(np.diff(times, prepend=times[0]).min()) < -_CLOCK_S for times in tokens or ()]
    missing = np.asarray(~np.isfinite(np.column_stack(columns)).all(axis=1), dtype=np.bool_)
    faults: tuple[tuple[Bools, Callable[[int], str]], ...] = (
        (missing, lambda at: "no start, length or latency"),
        (_no_count(prompt), lambda at: f"{prompt[at]:g} prompt tokens: {count}"),
        (_no_count(output), lambda at: f"{output[at]:g} output tokens: {count}"),
        (ttft < 0, lambda at: f"a TTFT of {ttft[at]:g} s"),
        (e2e < 0.99 * ttft - _CLOCK_S, lambda at: f"an E2E of {e2e[at]:g} s, below its TTFT of {ttft[at]:g} s"),
        (np.array(back, dtype=np.bool_), lambda at: "token times that go back"),
    )
    for bad, what in faults:
        if bad.any():  # what follows from the first fault is no news
            found = map(int, np.flatnonzero(bad)[:_MAX_PROBLEMS])
            raise InputError([Problem(f"answered request {at + 1} has {what(at)}", file=name) for at in found])


def _no_count(values: Floats) -> Bools:
    found: Bools = (values < 1) | (values > MAX_TOKENS) | (values != np.floor(values))
    return found
