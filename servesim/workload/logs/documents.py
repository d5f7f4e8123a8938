"""Logs that are one JSON document and so must be read whole: results of load generators, and ShareGPT."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from servesim.errors import InputError, Problem
from servesim.workload.logs.lines import at
from servesim.workload.logs.rows import RawRows
from servesim.workload.logs.text import open_text

CHARACTERS_PER_TOKEN = 4
"""English text in the vocabularies of current models has about four characters a token; code and other languages
have fewer. A rule of thumb (OpenAI, "What are tokens and how to count them?"), not a count."""

_BENCH_LISTS = ("start_times", "input_lens", "output_lens")


def read_document(path: str) -> Any:
    """Return the JSON document in a file; raise InputError with the line where it breaks off or is malformed."""
    with open_text(path) as file:
        text = file.read()
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", None)
        cut = " (cut short?)" if getattr(error, "pos", 0) >= len(text.rstrip()) - 1 else ""
        raise InputError(Problem(f"not a JSON document: {error}{cut}", file=path, line=line)) from error


def vllm_bench_rows(path: str, document: Any) -> Iterator[RawRows]:
    """Yield the requests of `vllm bench serve --save-result --save-detailed`; `line` is the request's number.

    A request with an error or without a token of output is a failed one.
    """
    missing = [name for name in _BENCH_LISTS if not isinstance(at(document, name), list)]
    if missing:
        message = f"no list {', '.join(missing)}: run the benchmark with --save-result --save-detailed"
        raise InputError(Problem(message, file=path))
    times, prompts, outputs = (document[name] for name in _BENCH_LISTS)
    if not len(times) == len(prompts) == len(outputs):
        message = (
            f"start_times, input_lens and output_lens have {len(times)}, {len(prompts)} and {len(outputs)} entries"
        )
        raise InputError(Problem(message, file=path))
    errors = document.get("errors") or [""] * len(times)
    failed = [bool(error) for error in errors][: len(times)]
    failed += [False] * (len(times) - len(failed))
    yield RawRows(list(range(1, len(times) + 1)), times, prompts, outputs, failed)


def guidellm_rows(path: str, document: Any) -> Iterator[RawRows]:
    """Yield the requests of a guidellm benchmarks.json that holds one benchmark; `line` is the request's number.

    Errored and incomplete requests count as failed. Of a sweep the file has several benchmarks, each a load of its
    own: those are refused, since one after the other they are no workload anybody sent.
    """
    benchmarks = at(document, "benchmarks")
    if not isinstance(benchmarks, list) or not benchmarks:
        raise InputError(Problem("no list benchmarks: not a guidellm benchmarks.json", file=path))
    if len(benchmarks) > 1:
        message = f"the file holds {len(benchmarks)} benchmarks; keep the one to be replayed"
        raise InputError(Problem(message, file=path))
    found = [
        (record, status != "successful")
        for status in ("successful", "incomplete", "errored")
        for record in at(benchmarks[0], f"requests.{status}") or ()
    ]
    if not found:
        raise InputError(Problem("the benchmark lists no requests", file=path))
    records = [record for record, _ in found]
    yield RawRows(
        list(range(1, len(records) + 1)),
        [_first(record, "request_start_time", "info.timings.request_start", "start_time") for record in records],
        [_first(record, "prompt_tokens", "input_metrics.text_tokens") for record in records],
        [_first(record, "output_tokens", "output_metrics.text_tokens") for record in records],
        [failed for _, failed in found],
    )


def _first(record: Any, *paths: str) -> Any:
    return next((value for path in paths if (value := at(record, path)) is not None), None)


def sharegpt_rows(path: str, document: Any) -> Iterator[RawRows]:
    """Yield the first exchange of every conversation, as the usual benchmarks use them; `line` is its number.

    Token counts are characters / 4, at least 1. There are no times. Conversations of fewer than two turns are left out.
    """
    if not isinstance(document, list):
        raise InputError(Problem("expected a JSON list of conversations", file=path))
    lines, prompts, outputs = [], [], []
    for number, conversation in enumerate(document, 1):
        turns = at(conversation, "conversations") or at(conversation, "conversation")
        if not isinstance(turns, list):
            raise InputError(Problem(f"conversation {number} has no list `conversations`", file=path))
        if len(turns) < 2:
            continue
        lines.append(number)
        prompts.append(_estimated_tokens(turns[0]))
        outputs.append(_estimated_tokens(turns[1]))
    if not lines:
        raise InputError(Problem("no conversation has two turns", file=path))
    yield RawRows(lines, None, prompts, outputs)


def _estimated_tokens(turn: Any) -> int | None:
    text = _first(turn, "value", "content")
    return max(1, round(len(text) / CHARACTERS_PER_TOKEN)) if isinstance(text, str) else None


READERS: dict[str, Callable[[str, Any], Iterator[RawRows]]] = {
    "vllm_bench": vllm_bench_rows,
    "guidellm": guidellm_rows,
    "sharegpt": sharegpt_rows,
}
