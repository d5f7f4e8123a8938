"""Per-iteration records of vLLM as `servesim.calibrate.vllm_hook` writes them: JSON lines, plain or gzipped.

The first line says how the engine was set up (`meta`), every other one is an iteration: `t0`/`t1` start and end of
`Scheduler.schedule`, `t2`/`t3` of `update_from_output` (s); `pf` its prefill chunks as [request, tokens, tokens
computed before, tokens of the request]; `nd` decoding sequences and `dctx` their summed context; `run`/`wait` requests
in the queues after scheduling; `fin` the requests that ended.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from servesim.calibrate.iterations import Floats, Iterations
from servesim.errors import InputError, Problem, unreadable
from servesim.workload.logs.lines import json_fault
from servesim.workload.logs.text import GZIP, first_bytes

_NEEDED = ("t0", "t1", "t2", "t3", "pf", "nd", "dctx", "run", "wait", "fin")
_MAX_PROBLEMS = 5
_MOST = 10**10  # tokens of all contexts of a batch


class Recorded(NamedTuple):
    """What a file of iterations holds: the engine's settings as recorded, and the iterations."""

    meta: dict[str, Any]
    iterations: Iterations


def read_recorded(path: Path) -> Recorded:
    """Return the iterations in `path`; InputError with the first faulty lines if some cannot be read.

    Scheduling and execution in turn: the device's time lies between the two, `t2 - t1`, and the host's is all the
    rest up to the next iteration. Under one-ahead scheduling (`async` in the meta line) they overlap, so that an
    iteration takes from one update to the next and the host's part is not known.
    """
    meta: dict[str, Any] = {}
    rows, problems = [], []
    for number, line in lines(path):
        try:
            record = json.loads(line)
            if not isinstance(record, dict):
                raise _FaultyError("not a JSON object")
            if "meta" in record:
                inner = record["meta"]
                meta = inner if isinstance(inner, dict) else record
                continue
            missing = [key for key in _NEEDED if key not in record]
            if missing:
                raise _FaultyError(f"no {', '.join(missing)}: not an iteration as servesim's vLLM hook records them")
            rows.append(_row(record))
        except _FaultyError as error:
            problems.append(Problem(str(error), file=str(path), line=number))
        except (ValueError, RecursionError) as error:
            cut = "" if line.endswith("\n") else " (the last line: cut short? Without it the file can be read)"
            problems.append(Problem(f"not a JSON object: {json_fault(error, line)}{cut}", file=str(path), line=number))
        if len(problems) == _MAX_PROBLEMS:
            break
    if problems:
        raise InputError(problems)
    rows = [row for row in rows if row[0] + row[3] > 0]
    if not rows:
        raise InputError(Problem("holds no iterations", file=str(path)))
    return Recorded(meta, _iterations(np.asarray(rows, dtype=np.float64), one_ahead=bool(meta.get("async"))))


def is_recorded(path: Path) -> bool:
    """Return whether the first line is JSON, as the hook writes it, and not of a text log; InputError if empty."""
    first = next((line for _, line in lines(path)), None)
    if first is None:
        raise InputError(Problem("the file is empty", file=str(path)))
    return first.lstrip().startswith("{")


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file that are not blank, with their numbers; InputError if it cannot be read."""
    try:
        opened = gzip.open if first_bytes(str(path)).startswith(GZIP) else open
        with opened(path, "rt", encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line
    except (OSError, EOFError) as error:
        raise unreadable(error, str(path)) from error


class _FaultyError(Exception):
    """A line that is no iteration, and why."""


def _row(record: dict[str, Any]) -> tuple[float, ...]:
    """Return an iteration's numbers; _FaultyError for one that no engine can have had."""
    for name in ("nd", "dctx", "run", "wait"):
        _count(name, record[name])
    for name in ("t0", "t1", "t2", "t3"):
        if not isinstance(record[name], int | float) or not math.isfinite(record[name]):
            raise _FaultyError(f"{name} is {record[name]!r:.60}: expected a time in seconds")
    if not isinstance(record["pf"], list) or not isinstance(record["fin"], list):
        raise _FaultyError("pf and fin: expected lists")
    if any(not isinstance(chunk, list) or len(chunk) < 3 for chunk in record["pf"]):
        raise _FaultyError("pf: expected chunks as [request, tokens, tokens computed before, tokens of the request]")
    chunks = [(_count("pf", tokens), _count("pf", before)) for _, tokens, before, *_ in record["pf"]]
    pairs = sum(tokens * before + tokens * (tokens + 1) // 2 for tokens, before in chunks)
    goes_on = record["run"] - len(record["fin"]) > 0 or record["wait"] > 0
    return (
        sum(tokens for tokens, _ in chunks), len(chunks), pairs, record["nd"], record["dctx"],
        record["t0"], record["t1"], record["t2"], record["t3"], goes_on,
    )  # fmt: skip


def _count(name: str, value: Any) -> int:
    """Return a whole number of sequences or tokens."""
    if not isinstance(value, int) or not 0 <= value <= _MOST:
        raise _FaultyError(f"{name} is {value!r:.60}: expected a whole number, 0 to {_MOST}")
    return value


def _iterations(rows: Floats, one_ahead: bool) -> Iterations:
    *work, t0, t1, t2, t3, goes_on = rows.T
    following = np.append(t0[1:], np.nan)
    if one_ahead:
        busy = np.append(False, goes_on[:-1] > 0)
        device_s = np.where(busy, t3 - np.append(np.nan, t3[:-1]), np.nan)
        host_s = np.full(len(t0), np.nan)
    else:
        device_s = t2 - t1
        gap_s = np.where(goes_on > 0, following - t3, np.nan)
        host_s = (t1 - t0) + (t3 - t2) + gap_s
    sound = np.isfinite(device_s) & (device_s > 0)
    prefill_tokens, prefill_seqs, pairs, decode_seqs, context = work
    inside, part = np.zeros(len(t0)), np.zeros(len(t0), dtype=np.int64)
    found = Iterations(prefill_tokens, prefill_seqs, pairs, decode_seqs, context, device_s, host_s, inside, part)
    return found[sound]
