"""Results of load generators, read whole: `vllm bench serve`, SGLang's bench_serving, guidellm, inference-perf.

A file may hold several benchmarks, each a load of its own, as a sweep writes them: one after the other they are no
workload that anybody sent, so one is chosen by its number or name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from servesim.errors import InputError, Problem
from servesim.workload.logs.documents import first_of, read_document
from servesim.workload.logs.lines import at, json_fault
from servesim.workload.logs.rows import RawRows
from servesim.workload.logs.tables import is_error
from servesim.workload.logs.text import open_text

Which = int | str | None
"""Which benchmark of a file: its number from 1, its name, or None where there is one only."""

_MAX_LISTED = 20
_VLLM_LISTS = ("start_times", "input_lens", "output_lens")
_SGLANG_LISTS = ("input_lens", "output_lens")
_INFERENCE_PERF_OUTPUT = (
    "info.response_metrics.server_usage.completion_tokens",
    "info.response_metrics.output_tokens",
    "info.output_tokens",
)


def chosen_benchmark(path: str, found: Sequence[Any], name: Callable[[Any], str], which: Which) -> Any:
    """Return the benchmark asked for; raise InputError, with a list of what there is, where that is not one."""
    names = [name(entry) for entry in found]
    if which is None and len(found) == 1:
        return found[0]
    matches = [entry for entry, own in zip(found, names, strict=True) if own == which]
    if isinstance(which, int) and 1 <= which <= len(found):
        return found[which - 1]
    if len(matches) == 1:
        return matches[0]
    listed = [f"{number} ({own})" for number, own in enumerate(names[:_MAX_LISTED], 1)]
    listed += ["..."] if len(found) > _MAX_LISTED else []
    if which is None:
        message = f"the file holds {len(found)} benchmarks; say which with benchmark"
    else:
        message = f"{len(matches) or 'no'} benchmarks are called {which!r}; give the number"
    raise InputError(Problem(f"{message}: {', '.join(listed)}", file=path))


def read_runs(path: str) -> list[Any]:
    """Return the JSON documents of a file: one, or one a line (runs appended to one file)."""
    with open_text(path) as file:
        text = file.read()
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    try:
        runs = [json.loads(line) for _, line in lines]
    except (ValueError, RecursionError):
        first = lines[0][1].rstrip() if lines else ""
        if not (first.startswith("{") and first.endswith("}")):
            return [read_document(path)]  # one document over several lines
        for number, line in lines:
            try:
                json.loads(line)
            except (ValueError, RecursionError) as error:
                message = f"not a JSON object: {json_fault(error, line)} (cut short?)"
                raise InputError(Problem(message, file=path, line=number)) from error
        raise
    return runs


def vllm_bench_rows(path: str, which: Which) -> Iterator[RawRows]:
    """Yield the requests of `vllm bench serve --save-result --save-detailed`; `line` is the request's number.

    A request with an error or without a token of output is a failed one. `--append-result` makes several runs.
    """
    run = chosen_benchmark(path, read_runs(path), _run_name, which)
    lines, failed = _per_request(path, run, _VLLM_LISTS, "--save-result --save-detailed")
    yield RawRows(lines, run["start_times"], run["input_lens"], run["output_lens"], failed)


def sglang_bench_rows(path: str, which: Which) -> Iterator[RawRows]:
    """Yield the requests of a line of SGLang's bench_serving `--output-file`; `line` is the request's number.

    Needs `--output-details`. The file has no times of the requests. Failed ones have output 0.
    """
    run = chosen_benchmark(path, read_runs(path), _run_name, which)
    lines, failed = _per_request(path, run, _SGLANG_LISTS, "--output-details")
    yield RawRows(lines, None, run["input_lens"], run["output_lens"], failed)


def _run_name(run: Any) -> str:
    parts = []
    for key in ("tag", "label", "request_rate", "max_concurrency"):
        value = at(run, key)
        if value is not None:
            parts.append(str(value) if key in ("tag", "label") else f"{key}={value}")
    return " ".join(parts) or "unnamed"


def _per_request(path: str, run: Any, names: Sequence[str], flags: str) -> tuple[list[int], list[bool]]:
    """Return the requests' numbers and which failed; raise InputError where the lists per request are not there."""
    missing = [name for name in names if not isinstance(at(run, name), list)]
    if missing:
        raise InputError(Problem(f"no list {', '.join(missing)}: run the benchmark with {flags}", file=path))
    lengths = [len(run[name]) for name in names]
    if len(set(lengths)) > 1:
        counts = f"{', '.join(map(str, lengths[:-1]))} and {lengths[-1]} entries"
        raise InputError(Problem(f"{', '.join(names[:-1])} and {names[-1]} have {counts}", file=path))
    failed = [is_error(error) for error in run.get("errors") or ()][: lengths[0]]
    failed += [False] * (lengths[0] - len(failed))
    return list(range(1, lengths[0] + 1)), failed


def guidellm_rows(path: str, which: Which) -> Iterator[RawRows]:
    """Yield the requests of one benchmark of a guidellm benchmarks.json; `line` is the request's number.

    Errored and incomplete requests count as failed. guidellm may keep a sample of the requests only, which is no load.
    """
    found = at(read_document(path), "benchmarks")
    if not isinstance(found, list) or not found:
        raise InputError(Problem("no list benchmarks: not a guidellm benchmarks.json", file=path))
    benchmark = chosen_benchmark(path, found, _strategy_name, which)
    requests = [
        (record, status != "successful")
        for status in ("successful", "incomplete", "errored")
        for record in at(benchmark, f"requests.{status}") or ()
    ]
    if not requests:
        raise InputError(Problem("the benchmark lists no requests", file=path))
    total = at(benchmark, "metrics.request_totals.total")
    if isinstance(total, int) and total > len(requests):
        message = f"the benchmark lists {len(requests)} of its {total} requests: let guidellm keep all, not a sample"
        raise InputError(Problem(message, file=path))
    records = [record for record, _ in requests]
    yield RawRows(
        list(range(1, len(records) + 1)),
        [first_of(record, "request_start_time", "info.timings.request_start", "start_time") for record in records],
        [first_of(record, "prompt_tokens", "input_metrics.text_tokens") for record in records],
        [first_of(record, "output_tokens", "output_metrics.text_tokens") for record in records],
        [failed for _, failed in requests],
    )


def _strategy_name(benchmark: Any) -> str:
    """Return a name such as constant@2.5, after guidellm's own: the strategy and its rate or number of streams."""
    strategy = first_of(benchmark, "config.strategy", "scheduler.strategy", "args.strategy")
    if not isinstance(strategy, dict):
        return str(strategy or "unnamed")
    kind = str(first_of(strategy, "type_", "kind", "type") or "unnamed")
    amount = first_of(strategy, "rate", "streams", "max_concurrency")
    return kind if amount is None or kind in ("throughput", "synchronous") else f"{kind}@{amount:g}"


def inference_perf_rows(path: str, _: Which) -> Iterator[RawRows]:
    """Yield the requests of an inference-perf per_request_lifecycle_metrics.json; `line` is the request's number.

    The server's own count of output tokens is taken where it gave one, as the tool's summary does. All stages of a
    run are one load.
    """
    document = read_document(path)
    if not isinstance(document, list) or not document:
        message = (
            "expected a list of requests: set report.request_lifecycle.per_request and use "
            "per_request_lifecycle_metrics.json, not a summary"
        )
        raise InputError(Problem(message, file=path))
    yield RawRows(
        list(range(1, len(document) + 1)),
        [at(record, "start_time") for record in document],
        [first_of(record, "info.request_metrics.text.input_tokens", "info.input_tokens") for record in document],
        [first_of(record, *_INFERENCE_PERF_OUTPUT) for record in document],
        [is_error(at(record, "error")) for record in document],
    )
