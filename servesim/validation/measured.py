"""Measured runs from files: per-request latencies in the formats of docs/logs.md that hold them, or aggregate rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from servesim.errors import InputError, Problem
from servesim.validation.aggregates import Aggregate, aggregates
from servesim.validation.runs import Floats, Run, gap_statistics, in_order_of_arrival
from servesim.workload.logs.benchmarks import read_runs
from servesim.workload.logs.documents import first_of, read_document
from servesim.workload.logs.formats import detect
from servesim.workload.logs.lines import at
from servesim.workload.logs.rows import SYNONYMS
from servesim.workload.logs.tables import is_error
from servesim.workload.logs.text import named_faults

ARRIVAL = ("queued_ts", *SYNONYMS["arrival"])
PROMPT = (*SYNONYMS["prompt_tokens"], "input_toks", "prompt")
OUTPUT = (*SYNONYMS["output_tokens"], "output_toks", "output")
FIRST_TOKEN_AT = ("first_token_ts", "first_token_s", "first_token")
LAST_TOKEN_AT = ("last_token_ts", "last_token_s", "last_token", "finish_s")
# Unit in the name; without one, seconds.
TTFT = ("ttft_s", "ttft_ms", "ttft", "time_to_first_token_ms", "time_to_first_token")
E2E = ("e2e_s", "e2e_ms", "e2e", "e2el_ms", "latency_s", "latency_ms", "request_latency", "latency")


@dataclass
class Requests:
    """Requests in the making: one list per quantity, seconds; `gaps` pools token gaps."""

    arrival: list[float] = field(default_factory=list)
    prompt: list[int] = field(default_factory=list)
    output: list[int] = field(default_factory=list)
    ttft: list[float] = field(default_factory=list)
    e2e: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    cached: list[int] | None = None

    def add(self, arrival: Any, prompt: Any, output: Any, ttft: Any, e2e: Any, gaps: Sequence[float] = ()) -> None:
        """Add a request that completed; None where a value is missing."""
        self.arrival.append(math.nan if arrival is None else float(arrival))
        self.prompt.append(int(prompt))
        self.output.append(int(output))
        self.ttft.append(math.nan if ttft is None else float(ttft))
        self.e2e.append(math.nan if e2e is None else float(e2e))
        self.gaps += gaps

    def run(self, path: Path) -> Run:
        """Return them in order of arrival; in the file's order, all at 0, where it has no times."""
        ttft, e2e = np.array(self.ttft), np.array(self.e2e)
        if not len(ttft) or (np.isnan(ttft).all() and np.isnan(e2e).all()):
            raise InputError(Problem("holds no request with a latency: nothing to compare with", file=str(path)))
        _check_latencies(ttft, e2e, path)
        arrival = np.array(self.arrival)
        timed = not np.isnan(arrival).any()
        run = Run(
            path.name,
            arrival if timed else np.zeros(len(arrival)),
            np.array(self.prompt, dtype=np.int64),
            np.array(self.output, dtype=np.int64),
            ttft,
            e2e,
            gap_statistics(np.array(self.gaps)),
            None if self.cached is None else np.array(self.cached, dtype=np.int64),
            timed,
        )
        return in_order_of_arrival(run)


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


def read_measured(path: Path) -> Run | list[Aggregate]:
    """Return the run in a file, or its aggregate rows where it holds no single requests; InputError if neither."""
    if not path.exists():
        raise InputError(Problem("there is no such file", file=str(path)))
    with named_faults(str(path)):
        format = detect(str(path))
        reader = _READERS.get(format)
        if reader is None:
            known = ", ".join(sorted(_READERS))
            raise InputError(Problem(f"{format} holds no latencies; expected one of {known}", file=str(path)))
        found = reader(path)
    return found if isinstance(found, list) else found.run(path)


def _table(path: Path, format: str) -> Requests | list[Aggregate]:
    frame = _frame(path, format)
    names = list(frame.columns)
    arrival, ttft = _named(frame, ARRIVAL), _latency(frame, TTFT)
    if arrival is None or _named(frame, PROMPT) is None:
        rows = aggregates([{str(k): v for k, v in row.items()} for row in frame.to_dict("records")], str(path))
        if rows:
            return rows
        raise InputError(
            Problem(f"no column of arrivals or aggregate latencies; it has {_listed(names)}", file=str(path))
        )
    prompt, output = _named(frame, PROMPT), _named(frame, OUTPUT)
    if output is None:
        raise InputError(Problem(f"no column of output tokens; it has {_listed(names)}", file=str(path)))
    if ttft is None and (first := _named(frame, FIRST_TOKEN_AT)) is not None:
        ttft = first - arrival
    e2e = _latency(frame, E2E)
    if e2e is None and (last := _named(frame, LAST_TOKEN_AT)) is not None:
        e2e = last - arrival
    good = output.to_numpy(np.float64) > 0
    if "outcome" in frame:
        good &= (frame["outcome"] == "completed").to_numpy()
    missing = np.full(len(frame), math.nan)
    columns = [missing if one is None else one.to_numpy(np.float64) for one in (arrival, prompt, output, ttft, e2e)]
    found = Requests()
    for row in zip(*(column[good].tolist() for column in columns), strict=True):
        found.add(*row)
    if "cached_tokens" in frame:
        found.cached = frame["cached_tokens"].fillna(0)[good].astype(int).tolist()
    return found


def _frame(path: Path, format: str) -> pd.DataFrame:
    if format == "parquet":
        return pd.read_parquet(path)
    return pd.read_csv(path) if format == "csv" else pd.read_json(path, lines=True)


def _named(frame: pd.DataFrame, names: Sequence[str]) -> pd.Series | None:
    name = next((name for name in names if name in frame), None)
    return None if name is None else frame[name]


def _latency(frame: pd.DataFrame, names: Sequence[str]) -> pd.Series | None:
    """Return a latency in seconds, whatever unit its name says."""
    name = next((name for name in names if name in frame), None)
    return None if name is None else frame[name] / (1e3 if name.endswith("_ms") else 1.0)


def _vllm_bench(path: Path) -> Requests | list[Aggregate]:
    runs = [run for run in read_runs(str(path)) if isinstance(run, dict)]
    detailed = [run for run in runs if isinstance(run.get("ttfts"), list) and isinstance(run.get("input_lens"), list)]
    if len(detailed) != 1:
        return aggregates(runs, str(path))
    run, found = detailed[0], Requests()
    starts = run.get("start_times") or [None] * len(run["ttfts"])
    errors = run.get("errors") or [""] * len(run["ttfts"])
    gaps = run.get("itls") or [[]] * len(run["ttfts"])
    rows = zip(starts, run["input_lens"], run["output_lens"], run["ttfts"], gaps, errors, strict=True)
    for start, prompt, output, ttft, itl, error in rows:
        if not is_error(error) and output > 0:
            found.add(start, prompt, output, ttft, ttft + sum(itl) if itl or output == 1 else None, itl)
    return found


def _guidellm(path: Path) -> Requests | list[Aggregate]:
    benchmarks = at(read_document(str(path)), "benchmarks") or []
    requests = at(benchmarks[0], "requests.successful") if len(benchmarks) == 1 else None
    if not requests:
        return aggregates(benchmarks, str(path))
    found = Requests()
    for record in requests:
        ttft_ms = first_of(record, "time_to_first_token_ms")
        found.add(
            first_of(record, "request_start_time", "info.timings.request_start", "start_time"),
            first_of(record, "prompt_tokens", "input_metrics.text_tokens"),
            first_of(record, "output_tokens", "output_metrics.text_tokens"),
            None if ttft_ms is None else ttft_ms / 1e3,
            first_of(record, "request_latency"),
        )
    return found


def _aiperf(path: Path) -> Requests:
    found = Requests()
    for record in read_runs(str(path)):
        if at(record, "metadata.benchmark_phase") not in (None, "profiling") or at(record, "error"):
            continue
        ttft, e2e = (at(record, f"metrics.{name}.value") for name in ("time_to_first_token", "request_latency"))
        found.add(
            at(record, "metadata.request_start_ns") / 1e9,
            at(record, "metrics.input_sequence_length.value"),
            at(record, "metrics.output_sequence_length.value"),
            None if ttft is None else ttft / 1e3,
            None if e2e is None else e2e / 1e3,
        )
    return found


def _inference_perf(path: Path) -> Requests:
    found = Requests()
    for record in read_document(str(path)):
        if is_error(at(record, "error")):
            continue
        start, end = at(record, "start_time"), at(record, "end_time")
        tokens = first_of(record, "info.output_token_times", "info.response_metrics.output_token_times") or []
        found.add(
            start,
            first_of(record, "info.request_metrics.text.input_tokens", "info.input_tokens"),
            first_of(record, "info.response_metrics.server_usage.completion_tokens", "info.output_tokens"),
            tokens[0] - start if tokens else None,
            end - start,
            np.diff(tokens).tolist(),
        )
    return found


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(str, names[:30]))


def _tables() -> Iterator[tuple[str, Any]]:
    for format in ("csv", "jsonl", "parquet"):
        yield format, lambda path, format=format: _table(path, format)


_READERS: dict[str, Any] = {
    **dict(_tables()),
    "vllm_bench": _vllm_bench,
    "sglang_bench": _vllm_bench,
    "guidellm": _guidellm,
    "aiperf": _aiperf,
    "inference_perf": _inference_perf,
}
