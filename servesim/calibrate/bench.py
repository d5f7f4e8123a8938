"""`servesim calibrate bench`: from result files of load generators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from servesim.calibrate.bench_files import read_loads
from servesim.calibrate.bench_simulated import calibrate_simulated
from servesim.calibrate.calibration_file import Source
from servesim.calibrate.iteration_fit import INCLUDED, LEAST_ITERATIONS, Fitted, fit_iterations
from servesim.calibrate.iterations import Iterations, joined
from servesim.calibrate.loads import Load, Requests
from servesim.calibrate.reconstruct import reconstruct
from servesim.calibrate.server import Server
from servesim.calibrate.target import Target, delivered
from servesim.errors import InputError

_LEAST_SHARE = 0.2  # of the iterations seen must be known whole
HOST_NOTE = "in the base and per-sequence terms: from outside, host and device time of an iteration are one"
_METHOD = "iterations reconstructed from the arrivals of all tokens at the client: those that come together are one"


@dataclass(frozen=True, slots=True)
class Outside:
    """What was learnt of an engine from outside: the fit, its iterations, and remarks."""

    fitted: Fitted
    rows: Iterations
    notes: list[str]


def calibrate_bench(files: Sequence[Path], target: Target, server: Server) -> tuple[list[str], dict[str, Any]]:
    """Fit iterations to result files and write the calibration; return lines to print and the same as data.

    Files with the time of every token give iterations one by one. Where none has them, coefficients are those with
    which a simulation of the same loads gives the same latencies. Raises InputError for files that are no such thing.
    """
    loads = [load for file in files for load in read_loads(file)]
    single = [load for load in loads if isinstance(load, Requests)]
    detailed = [load for load in single if load.token_s is not None]
    failed = sum(load.failed for load in single)
    notes = [f"{failed} failed requests are left out"] if failed else []
    notes += [
        f"{load.name}: {load.copies} of {len(load.start_s)} requests equal another one in start, lengths and "
        "latencies: was the file joined twice? The fit is wrong then"
        for load in single
        if load.copies
    ]
    if not detailed:
        return calibrate_simulated(loads, files, target, server, notes)
    left = [load.name for load in loads if not isinstance(load, Requests) or load.token_s is None]
    if left:
        notes.append(f"not used, for want of token times: {', '.join(left)}")
    found = outside(detailed, target, server)
    source = Source("load generator", _names(loads), files, _METHOD, date=target.date)
    return delivered(target, found.fitted, found.rows, source, notes + found.notes, HOST_NOTE, server.given())


def outside(loads: Sequence[Requests], target: Target, server: Server) -> Outside:
    """Return the fit of iterations reconstructed from token times.

    Twice: the second time, prompts are taken to reach the queue as late as the first fit found.
    """
    budget = server.max_num_batched_tokens
    admission_s, fitted, rows = 0.0, None, None
    notes: list[str] = []
    for _ in range(2):
        found = [reconstruct(load, budget, admission_s, server.async_scheduling) for load in loads]
        rows = joined([part for part, _ in found])
        if len(rows) < LEAST_ITERATIONS:
            message = f"{len(rows)} iterations are known whole: a fit needs {LEAST_ITERATIONS} or more"
            raise InputError(message + _slow(loads))
        fitted = fit_iterations(rows, target.model)
        admission_s = fitted.values.get("admission", 0.0)
        notes = [
            f"{load.name}: only {share:.0%} of its iterations could be told apart (a busy client or network?)"
            for load, (_, share) in zip(loads, found, strict=True)
            if share < _LEAST_SHARE
        ]
    assert fitted is not None
    assert rows is not None
    fitted = replace(fitted, host=INCLUDED)
    if "admission" not in fitted.values:
        notes.append("no request found the server idle: the time from a client to the queue cannot be told")
    if not rows.prefill_tokens.any():
        notes.append("no prompt was computed while others decoded, nor alone: what prompts cost cannot be told")
    notes.append(
        f"prompts are taken as computed whole, in chunks of a budget of {budget} tokens (max_num_batched_tokens)"
    )
    return Outside(fitted, rows, notes)


def _slow(loads: Sequence[Requests]) -> str:
    """Return a question where tokens come so slowly that their times are no seconds."""
    gap_s = float(np.median(np.concatenate([np.diff(times) for load in loads for times in load.token_s or ()])))
    return f"; a token comes {gap_s:.3g} s after the other: milliseconds in a field of seconds?" if gap_s > 1.0 else ""


def _names(loads: Sequence[Load]) -> str:
    return f"{len(loads)} load{'s' if len(loads) > 1 else ''}"
