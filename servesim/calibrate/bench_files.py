"""Result files of load generators, as loads of which something was measured.

Per request, with or without the time of every token: vLLM's and SGLang's detailed files, guidellm's, aiperf's
`profile_export.jsonl`, inference-perf's per-request file. As aggregates: their plain files and summaries.
docs/logs.md says how each is recognised.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from servesim.calibrate.loads import Aggregate, Floats, Load, Requests, checked_aggregate, sorted_requests
from servesim.calibrate.vllm_iterations import lines
from servesim.errors import InputError, Problem
from servesim.workload.logs import formats
from servesim.workload.logs.benchmarks import read_runs
from servesim.workload.logs.documents import first_of, read_document
from servesim.workload.logs.lines import at, json_fault
from servesim.workload.logs.tables import is_error


def read_loads(path: Path) -> list[Load]:
    """Return every load in a result file; InputError if it is none, or has nothing to calibrate from."""
    return [checked_aggregate(load) if isinstance(load, Aggregate) else load for load in _loads(path)]


def _loads(path: Path) -> list[Load]:
    name = str(path)
    if path.suffix in (".yaml", ".yml"):
        raise InputError(Problem("is YAML; expected a result file of a load generator", file=name))
    next(lines(path), None)  # says that the file cannot be read, in one way for all formats
    kind = formats.detect(name)
    if kind in ("vllm_bench", "sglang_bench"):
        return [_vllm(name, run) for run in read_runs(name)]
    if kind == "guidellm":
        return list(_guidellm(name))
    if kind == "aiperf":
        return [_aiperf_requests(path)]
    if kind == "inference_perf":
        document = read_document(name)
        return [_inference_perf(name, document) if isinstance(document, list) else _lifecycle(name, document)]
    document = _document(name)
    if isinstance(document, dict) and {"time_to_first_token", "request_count"} <= set(document):
        return [_aiperf_summary(name, document)]
    known = "vLLM's and SGLang's bench, guidellm, aiperf, inference-perf"
    raise InputError(Problem(f"is not a result file of a load generator that is known: {known}", file=name))


def _document(name: str) -> Any:
    try:
        return read_document(name)
    except InputError:
        return None


# ---- vLLM and SGLang ----------------------------------------------------------------------------------------------


def _vllm(name: str, run: Any) -> Load:
    lists = ("input_lens", "output_lens", "ttfts", "itls", "start_times")
    if all(isinstance(at(run, key), list) for key in lists):
        return _vllm_detailed(name, run)
    measured = {}
    for metric, key in (("ttft_s", "ttft"), ("tpot_s", "tpot"), ("e2e_s", "e2el")):
        for statistic, prefix in (("mean", "mean"), ("p50", "median"), ("p99", "p99")):
            value = first_of(run, f"{prefix}_{key}_ms", *([f"{prefix}_e2e_latency_ms"] if key == "e2el" else []))
            if isinstance(value, int | float) and value > 0:
                measured[metric, statistic] = float(value) / 1e3
    completed = at(run, "completed")
    if not measured or not isinstance(completed, int) or completed < 1:
        raise InputError(Problem("no mean_ttft_ms, mean_tpot_ms and completed: not a finished benchmark", file=name))
    if not at(run, "total_input_tokens") or not at(run, "total_output_tokens"):
        message = "neither single requests with start_times nor total_input_tokens and total_output_tokens"
        raise InputError(Problem(f"holds {message}", file=name))
    try:
        rate = float(at(run, "request_rate") or math.inf)  # "inf" is text in the file
    except (TypeError, ValueError) as error:
        raise InputError(
            Problem(f"request_rate is {run['request_rate']!r:.60}: expected a number", file=name)
        ) from error
    concurrency = at(run, "max_concurrency")
    return Aggregate(
        name,
        rate if math.isfinite(rate) else None,
        float(at(run, "burstiness") or 1.0),
        int(concurrency) if concurrency else None,
        completed,
        float(run["total_input_tokens"]) / completed,
        float(run["total_output_tokens"]) / completed,
        measured,
    )


_LISTS = ("start_times", "input_lens", "output_lens", "ttfts")
_UNEQUAL = "start_times, input_lens, output_lens, ttfts and itls have different lengths"


def _vllm_detailed(name: str, run: Any) -> Requests:
    count = len(run["start_times"])
    if any(len(run[key]) != count for key in ("input_lens", "output_lens", "ttfts", "itls")):
        raise InputError(Problem(_UNEQUAL, file=name))
    errors = list(run.get("errors") or ()) + [""] * count
    answered = [i for i in range(count) if not is_error(errors[i]) and run["output_lens"][i]]
    for i in answered:
        gaps = run["itls"][i]
        _refuse_text(name, i + 1, [run[key][i] for key in _LISTS], gaps if isinstance(gaps, list) else [gaps])
    tokens = [run["start_times"][i] + run["ttfts"][i] + np.append(0.0, np.cumsum(run["itls"][i])) for i in answered]
    start = [run["start_times"][i] for i in answered]
    return sorted_requests(
        name, start, [run["input_lens"][i] for i in answered], [run["output_lens"][i] for i in answered],
        [run["ttfts"][i] for i in answered], [float(t[-1] - s) for t, s in zip(tokens, start, strict=True)], tokens,
        count - len(answered),
    )  # fmt: skip


def _refuse_text(name: str, number: int, *parts: Sequence[Any]) -> None:
    """Raise InputError for the first value of a request that is no number."""
    for value in (value for part in parts for value in part):
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise InputError(Problem(f"request {number}: {value!r:.60} where a number is expected", file=name))


# ---- guidellm -----------------------------------------------------------------------------------------------------


def _guidellm(name: str) -> Iterator[Load]:
    found = at(read_document(name), "benchmarks")
    if not isinstance(found, list) or not found:
        raise InputError(Problem("no list benchmarks: not a guidellm benchmarks.json", file=name))
    for number, benchmark in enumerate(found, 1):
        title = name if len(found) == 1 else f"{name}#{number}"
        requests = at(benchmark, "requests.successful") or []
        rows = [_guidellm_row(record) for record in requests]
        part = next((number for number, row in enumerate(rows, 1) if None in row), None)
        if rows and part is None:
            for at_row, row in enumerate(rows, 1):
                _refuse_text(title, at_row, row)
            columns: list[Any] = [list(column) for column in zip(*rows, strict=True)]
            start, prompt, output, ttft, e2e = columns
            yield sorted_requests(title, start, prompt, output, ttft, e2e, None, 0)
        else:
            message = "holds no requests with times of first and last token; let guidellm keep them"
            if part is not None:
                message = f"request {part} lacks a start, a length, or the time of its first or last token"
            raise InputError(Problem(message, file=title))


def _guidellm_row(record: Any) -> tuple[Any, ...]:
    start = first_of(record, "request_start_time", "info.timings.request_start", "start_time")
    first = first_of(record, "first_token_iteration", "info.timings.first_token_iteration", "first_token_time")
    last = first_of(record, "last_token_iteration", "info.timings.last_token_iteration", "last_token_time")
    end = last if last is not None else first_of(record, "request_end_time", "info.timings.request_end", "end_time")
    ttft_ms = at(record, "time_to_first_token_ms")
    ttft = _seconds(ttft_ms) if ttft_ms is not None else _between(start, first)
    prompt = first_of(record, "prompt_tokens", "input_metrics.text_tokens")
    output = first_of(record, "output_tokens", "output_metrics.text_tokens")
    return start, prompt, output, ttft, _between(start, end)


def _seconds(milliseconds: Any) -> Any:
    return milliseconds / 1e3 if isinstance(milliseconds, int | float) else milliseconds


def _between(start: Any, end: Any) -> Any:
    """Return the seconds between two times; None where one is missing, what is no number as it is."""
    wrong = next((value for value in (start, end) if not isinstance(value, int | float)), None)
    return end - start if isinstance(start, int | float) and isinstance(end, int | float) else wrong


# ---- aiperf -------------------------------------------------------------------------------------------------------


def _aiperf_requests(path: Path) -> Requests:
    rows, gaps, failed = [], [], 0
    for number, line in lines(path):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise InputError(
                Problem(f"not a JSON object: {json_fault(error, line)} (cut short?)", file=str(path), line=number)
            ) from error
        if not formats.is_request("aiperf", record):
            continue
        if at(record, "error"):
            failed += 1
            continue
        start = at(record, "metadata.request_start_ns")
        values = [_aiperf_value(record, key) for key in _AIPERF_METRICS]
        if start is None or None in values:
            message = f"no request_start_ns, {', '.join(_AIPERF_METRICS[:-1])} or {_AIPERF_METRICS[-1]}"
            raise InputError(Problem(message, file=str(path), line=number))
        rows.append((start / 1e9, *values))
        gaps.append(_aiperf_gaps(record))
    columns: list[Any] = [list(column) for column in zip(*rows, strict=True)] or [[]] * 5
    start, prompt, output, ttft, e2e = columns
    tokens = None
    if all(found is not None for found in gaps):
        tokens = [
            s + t + np.append(0.0, np.cumsum(found))
            for s, t, found in zip(start, ttft, gaps, strict=True)
            if found is not None
        ]
    return sorted_requests(str(path), start, prompt, output, ttft, e2e, tokens, failed)


def _aiperf_value(record: Any, key: str) -> float | None:
    """Return a metric in tokens or seconds."""
    found = at(record, f"metrics.{key}")
    if not isinstance(found, dict) or not isinstance(found.get("value"), int | float):
        return None
    return float(found["value"]) * _UNITS.get(str(found.get("unit", "")), 1.0)


def _aiperf_gaps(record: Any) -> Floats | None:
    """Return the seconds between the chunks of a streamed answer; None where they are not kept."""
    found = at(record, "metrics.inter_chunk_latency")
    if not isinstance(found, dict) or not isinstance(found.get("value"), list):
        return None
    unit = _UNITS.get(str(found.get("unit", "")), 1.0)
    return np.asarray(found["value"], dtype=np.float64) * unit


_AIPERF_METRICS = ("input_sequence_length", "output_sequence_length", "time_to_first_token", "request_latency")
_UNITS = {"ms": 1e-3, "us": 1e-6, "ns": 1e-9}


def _aiperf_summary(name: str, document: Any) -> Aggregate:
    def statistic(key: str, which: str) -> float | None:
        found = document.get(key)
        value = found.get(which) if isinstance(found, dict) else None
        return None if value is None else float(value) * _UNITS.get(str(found.get("unit", "")), 1.0)

    measured = {}
    for metric, key in (
        ("ttft_s", "time_to_first_token"),
        ("tpot_s", "inter_token_latency"),
        ("e2e_s", "request_latency"),
    ):
        for ours, theirs in (("mean", "avg"), ("p50", "p50"), ("p99", "p99")):
            value = statistic(key, theirs)
            if value is not None and value > 0:
                measured[metric, ours] = value
    load = first_of(document, "input_config.loadgen") or {}
    rate, concurrency = load.get("request_rate"), load.get("concurrency")
    return Aggregate(
        name, float(rate) if rate else None, 1.0, int(concurrency) if concurrency and not rate else None,
        int(statistic("request_count", "avg") or 0), statistic("input_sequence_length", "avg") or 0.0,
        statistic("output_sequence_length", "avg") or 0.0, measured,
    )  # fmt: skip


# ---- inference-perf -----------------------------------------------------------------------------------------------


def _inference_perf(name: str, document: list[Any]) -> Requests:
    start, prompt, output, tokens, failed = [], [], [], [], 0
    for number, record in enumerate(document, 1):
        times = first_of(record, "info.response_metrics.output_token_times", "info.output_token_times")
        if is_error(at(record, "error")) or not times:
            failed += 1
            continue
        length = first_of(record, "info.request_metrics.text.input_tokens", "info.input_tokens")
        if length is None or at(record, "start_time") is None:
            raise InputError(Problem(f"request {number} has no start_time or input_tokens", file=name))
        _refuse_text(name, number, [record["start_time"], length], times if isinstance(times, list) else [times])
        start.append(float(record["start_time"]))
        prompt.append(float(length))
        output.append(float(len(times)))
        tokens.append(np.asarray(times, dtype=np.float64))
    ttft = [float(t[0] - s) for t, s in zip(tokens, start, strict=True)]
    e2e = [float(t[-1] - s) for t, s in zip(tokens, start, strict=True)]
    return sorted_requests(name, start, prompt, output, ttft, e2e, tokens, failed)


def _lifecycle(name: str, document: Any) -> Aggregate:
    measured = {}
    for metric, key in (
        ("ttft_s", "time_to_first_token"),
        ("tpot_s", "time_per_output_token"),
        ("e2e_s", "request_latency"),
    ):
        for ours, theirs in (("mean", "mean"), ("p50", "median"), ("p99", "p99")):
            value = at(document, f"successes.latency.{key}.{theirs}")
            if isinstance(value, int | float) and value > 0:
                measured[metric, ours] = float(value)
    rate = first_of(document, "load_summary.requested_rate", "load_summary.achieved_rate")
    count = first_of(document, "successes.count", "load_summary.count")
    prompt, output = at(document, "successes.prompt_len.mean"), at(document, "successes.output_len.mean")
    if not measured or None in (rate, count, prompt, output):
        message = "no latencies, rate, count, prompt_len or output_len: use per_request_lifecycle_metrics.json"
        raise InputError(Problem(message, file=name))
    return Aggregate(name, float(rate), 1.0, None, int(count), float(prompt), float(output), measured)
