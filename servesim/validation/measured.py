"""Measured runs from files: per-request latencies in the formats of docs/logs.md that hold them, or aggregate rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from servesim.errors import InputError, Problem
from servesim.validation.aggregates import Aggregate, aggregates
from servesim.validation.measured_requests import Requests, is_number, scaled, total
from servesim.validation.runs import Run
from servesim.workload.logs.benchmarks import read_runs
from servesim.workload.logs.documents import first_of, read_document
from servesim.workload.logs.formats import detect
from servesim.workload.logs.lines import at, json_fault
from servesim.workload.logs.rows import SYNONYMS
from servesim.workload.logs.tables import is_error
from servesim.workload.logs.text import named_faults, open_text

ARRIVAL = ("queued_ts", *SYNONYMS["arrival"])
PROMPT = (*SYNONYMS["prompt_tokens"], "input_toks", "prompt")
OUTPUT = (*SYNONYMS["output_tokens"], "output_toks", "output")
FIRST_TOKEN_AT = ("first_token_ts", "first_token_s", "first_token")
LAST_TOKEN_AT = ("last_token_ts", "last_token_s", "last_token", "finish_s")
# Unit in the name; without one, seconds.
TTFT = ("ttft_s", "ttft_ms", "ttft", "time_to_first_token_ms", "time_to_first_token")
E2E = ("e2e_s", "e2e_ms", "e2e", "e2el_ms", "latency_s", "latency_ms", "request_latency", "latency")


def read_measured(path: Path) -> Run | list[Aggregate]:
    """Return the run in a file, or its aggregate rows where it holds no single requests; InputError if neither."""
    with named_faults(str(path)):
        format = detect(str(path))
        reader = _READERS.get(format)
        if reader is None:
            known = ", ".join(sorted(set(_READERS) - {"sharegpt"}))
            raise InputError(Problem(f"{format} holds no latencies; expected one of {known}", file=str(path)))
        found = reader(path)
    return found if isinstance(found, list) else found.run()


# ---- tables: a column per quantity --------------------------------------------------------------------------------


def _csv(path: Path) -> Requests | list[Aggregate]:
    with open_text(str(path)) as file:
        try:
            return _table(path, pd.read_csv(file))
        except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
            raise InputError(Problem(f"is not a sound CSV table: {error}", file=str(path))) from error


def _parquet(path: Path) -> Requests | list[Aggregate]:
    return _table(path, pd.read_parquet(path))


def _json_lines(path: Path) -> Requests | list[Aggregate]:
    records = []
    with open_text(str(path)) as file:
        for number, line in enumerate(file, 1):
            if line.isspace():
                continue
            try:
                records.append(json.loads(line))
            except (ValueError, RecursionError) as error:
                message = f"not a JSON object: {json_fault(error, line)}"
                raise InputError(Problem(message, file=str(path), line=number)) from error
    return _records(path, records)


def _json_list(path: Path) -> Requests | list[Aggregate]:
    document = read_document(str(path))
    if any(isinstance(at(one, "conversations") or at(one, "conversation"), list) for one in document):
        raise InputError(Problem("is a list of conversations, which holds no latencies", file=str(path)))
    return _records(path, document)


def _records(path: Path, records: list[Any]) -> Requests | list[Aggregate]:
    wrong = next((number for number, one in enumerate(records, 1) if not isinstance(one, dict)), None)
    if wrong is not None or not records:
        message = "the list is empty" if wrong is None else f"element {wrong} is not a JSON object of one request"
        raise InputError(Problem(message, file=str(path)))
    return _table(path, pd.DataFrame(records))


def _table(path: Path, frame: pd.DataFrame) -> Requests | list[Aggregate]:
    table = _Table(path, frame)
    arrival, prompt = table.column(ARRIVAL), table.column(PROMPT)
    if arrival is None or prompt is None:
        rows = aggregates([{str(k): v for k, v in row.items()} for row in frame.to_dict("records")], str(path))
        if rows:
            return rows
        raise table.refused("no column of arrivals or aggregate latencies")
    output = table.column(OUTPUT)
    if output is None:
        raise table.refused("no column of output tokens")
    ttft, e2e = table.latency(TTFT, arrival, FIRST_TOKEN_AT), table.latency(E2E, arrival, LAST_TOKEN_AT)
    if ttft is None and e2e is None:
        raise table.refused(
            f"no column of latencies ({TTFT[0]}, {TTFT[1]}, {E2E[0]}, {E2E[1]}, {FIRST_TOKEN_AT[0]}, ...)"
        )
    completed = np.full(len(frame), True)
    if "outcome" in frame:
        completed = (frame["outcome"] == "completed").to_numpy()
    cached = table.column(("cached_tokens",))
    missing = np.full(len(frame), np.nan)
    columns = [missing if one is None else one for one in (arrival, prompt, output, ttft, e2e, cached)]
    found = Requests(path, cached=None if cached is None else [])
    for good, *row, hit in zip(completed.tolist(), *(column.tolist() for column in columns), strict=True):
        if not good:
            found.leave_out()
        elif found.add(*row) and found.cached is not None:
            found.cached.append(0 if np.isnan(hit) else int(hit))
    return found


class _Table:
    """A table whose columns are asked for by any of their usual names."""

    def __init__(self, path: Path, frame: pd.DataFrame) -> None:
        self._path, self._frame = path, frame

    def refused(self, message: str) -> InputError:
        names = ", ".join(map(str, list(self._frame.columns)[:30]))
        hint = "; columns are separated by commas" if len(self._frame.columns) == 1 and set(names) & set(";\t|") else ""
        return InputError(Problem(f"{message}; it has {names}{hint}", file=str(self._path)))

    def column(self, names: Sequence[str]) -> Any:
        """Return the first of these columns as numbers (NaN where empty), dates as seconds; None if it has none."""
        name = next((name for name in names if name in self._frame), None)
        if name is None:
            return None
        column = self._frame[name]
        if pd.api.types.is_datetime64_any_dtype(column):
            return _seconds(column)
        numbers = pd.to_numeric(column, errors="coerce")
        text = (column.notna() & numbers.isna()).to_numpy()
        if text.any() and names == ARRIVAL:
            dates = pd.to_datetime(column, utc=True, format="ISO8601", errors="coerce")
            if not (column.notna() & dates.isna()).any():
                return _seconds(dates)
        if text.any():
            row = int(text.argmax())
            message = f"row {row + 1}: {name} is {column.iloc[row]!r:.60}: expected a number"
            raise InputError(Problem(message, file=str(self._path)))
        return numbers.to_numpy(np.float64)

    def latency(self, names: Sequence[str], arrival: Any, moments: Sequence[str]) -> Any:
        """Return a latency in seconds, whatever unit its name says, or from the moment when it ended."""
        name = next((name for name in names if name in self._frame), None)
        if name is not None:
            return self.column((name,)) / (1e3 if name.endswith("_ms") else 1.0)
        moment = self.column(moments)
        return None if moment is None else moment - arrival


def _seconds(dates: Any) -> Any:
    """Return dates as seconds since 1970, NaN where there is none."""
    naive = dates.dt.tz_convert(None) if dates.dt.tz is not None else dates
    since = (naive - pd.Timestamp(0)) / pd.Timedelta(seconds=1)
    return since.to_numpy(np.float64)


# ---- load generators ----------------------------------------------------------------------------------------------


_LISTS = ("input_lens", "output_lens", "ttfts", "itls", "start_times", "errors")


def _vllm_bench(path: Path) -> Requests | list[Aggregate]:
    runs = [run for run in read_runs(str(path)) if isinstance(run, dict)]
    detailed = [run for run in runs if isinstance(run.get("ttfts"), list) and isinstance(run.get("input_lens"), list)]
    if not detailed:
        return aggregates(runs, str(path))
    if len(runs) > 1:
        message = f"holds {len(runs)} benchmarks with single requests; give each in a file of its own"
        raise InputError(Problem(message, file=str(path)))
    run, found = detailed[0], Requests(path)
    count = len(run["ttfts"])
    lists = {name: run.get(name) or None for name in _LISTS}
    lengths = {name: len(one) for name, one in lists.items() if isinstance(one, list)}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise InputError(Problem(f"lists of different lengths: {said}", file=str(path)))
    rows = zip(*(lists[name] if name in lengths else [None] * count for name in _LISTS), strict=True)
    for prompt, output, ttft, itl, start, error in rows:
        if is_error(error):
            found.leave_out()
            continue
        gaps = itl if isinstance(itl, list) else []
        found.add(start, prompt, output, ttft, total([ttft, *gaps]) if gaps or output == 1 else None, gaps)
    return found


def _guidellm(path: Path) -> Requests | list[Aggregate]:
    benchmarks = at(read_document(str(path)), "benchmarks") or []
    requests = at(benchmarks[0], "requests.successful") if len(benchmarks) == 1 else None
    if not requests:
        return aggregates(benchmarks, str(path))
    found = Requests(path)
    for record in requests:
        found.add(
            first_of(record, "request_start_time", "info.timings.request_start", "start_time"),
            first_of(record, "prompt_tokens", "input_metrics.text_tokens"),
            first_of(record, "output_tokens", "output_metrics.text_tokens"),
            scaled(first_of(record, "time_to_first_token_ms"), 1e-3),
            first_of(record, "request_latency"),
        )
    return found


def _aiperf(path: Path) -> Requests:
    found = Requests(path)
    for record in read_runs(str(path)):
        if at(record, "metadata.benchmark_phase") not in (None, "profiling"):
            continue
        if at(record, "error"):
            found.leave_out()
            continue
        ttft, e2e = (at(record, f"metrics.{name}.value") for name in ("time_to_first_token", "request_latency"))
        found.add(
            scaled(at(record, "metadata.request_start_ns"), 1e-9),
            at(record, "metrics.input_sequence_length.value"),
            at(record, "metrics.output_sequence_length.value"),
            scaled(ttft, 1e-3),
            scaled(e2e, 1e-3),
        )
    return found


def _inference_perf(path: Path) -> Requests:
    found = Requests(path)
    document = read_document(str(path))
    if not isinstance(document, list):
        message = "is a summary, which tells too little; expected per_request_lifecycle_metrics.json"
        raise InputError(Problem(message, file=str(path)))
    for record in document:
        if is_error(at(record, "error")):
            found.leave_out()
            continue
        start, end = at(record, "start_time"), at(record, "end_time")
        tokens = first_of(record, "info.output_token_times", "info.response_metrics.output_token_times") or []
        sound = isinstance(tokens, list) and all(map(is_number, tokens))
        found.add(
            start,
            first_of(record, "info.request_metrics.text.input_tokens", "info.input_tokens"),
            first_of(record, "info.response_metrics.server_usage.completion_tokens", "info.output_tokens"),
            _after(start, tokens[0] if sound else total(tokens)) if tokens else None,
            _after(start, end),
            np.diff(tokens).tolist() if sound else (),
        )
    return found


def _after(start: Any, end: Any) -> Any:
    """Return the seconds from start to end; what is no number as it is."""
    return total([end, -start]) if is_number(start) else start


_READERS: dict[str, Any] = {
    "csv": _csv,
    "jsonl": _json_lines,
    "parquet": _parquet,
    "sharegpt": _json_list,
    "vllm_bench": _vllm_bench,
    "sglang_bench": _vllm_bench,
    "guidellm": _guidellm,
    "aiperf": _aiperf,
    "inference_perf": _inference_perf,
}
