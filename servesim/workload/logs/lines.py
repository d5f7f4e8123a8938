"""Logs that are JSON lines: one object per request."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from servesim.workload.base import BLOCK_REQUESTS
from servesim.workload.logs.parse import Faults, RowFault
from servesim.workload.logs.rows import Layout, RawRows
from servesim.workload.logs.tables import is_error
from servesim.workload.logs.text import open_text

ROOT_PARENT = -1


def jsonl_rows(path: str, layout: Layout, faults: Faults, *, is_request: Callable[[Any], bool]) -> Iterator[RawRows]:
    """Yield the rows of a JSON-lines file in batches; blank lines, and objects that are no request, are skipped."""
    chains = Chains() if layout.parent else None
    with open_text(path) as file:
        lines = enumerate(file, 1)
        while batch := list(islice(lines, BLOCK_REQUESTS)):
            records, found = [], []
            for line, text in batch:
                if text.isspace():
                    continue
                record = _record(text)
                if isinstance(record, str):
                    found.append(RowFault(line, "no JSON object", record))
                elif is_request(record):
                    records.append((line, record))
            if found:
                faults.report(found)
            if records:
                yield _raw(records, layout, chains)


def _record(text: str) -> dict[str, Any] | str:
    """Return the object in a line, or what is wrong with it."""
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        cut = "" if text.endswith(("\n", "\r")) else " (the last line of the file: cut short?)"
        return f"not a JSON object: {json_fault(error, text)}{cut}"
    return record if isinstance(record, dict) else f"expected a JSON object, not {type(record).__name__}"


def json_fault(error: Exception, line: str) -> str:
    """Return why one line is no JSON, without the parser's own line numbers, which count from this line."""
    if not isinstance(error, json.JSONDecodeError):
        return str(error)
    if error.pos >= len(line.rstrip()) or error.msg.startswith("Unterminated"):
        return f"it breaks off after {len(line.rstrip())} characters"
    return f"{error.msg.removesuffix(' at')} at column {error.pos + 1}"


def _raw(records: list[tuple[int, dict[str, Any]]], layout: Layout, chains: Chains | None) -> RawRows:
    def column(path: str | None) -> list[Any] | None:
        return None if path is None else [at(record, path) for _, record in records]

    prompt, output = column(layout.prompt_tokens), column(layout.output_tokens)
    assert prompt is not None
    assert output is not None
    errors = column(layout.error)
    session = column(layout.session)
    if chains is not None and session is not None:
        session = [chains.root(own, parent) for own, parent in zip(session, column(layout.parent) or (), strict=True)]
    failed = None if errors is None else [is_error(error) for error in errors]
    lines = [line for line, _ in records]
    return RawRows(lines, column(layout.arrival), prompt, output, failed, session, column(layout.prefix))


def at(record: Any, path: str) -> Any:
    """Return the value at a dotted path, or None; a key that itself holds dots is tried first."""
    if isinstance(record, dict) and path in record:
        return record[path]
    for key in path.split("."):
        if not isinstance(record, dict):
            return None
        record = record.get(key)
    return record


class Chains:
    """Conversations given as requests that each name the one before."""

    def __init__(self) -> None:
        self._roots: dict[Any, Any] = {}

    def root(self, own: Any, parent: Any) -> Any:
        """Return the first request of the chain; a parent outside the file begins one."""
        root = own if parent in (None, ROOT_PARENT, str(ROOT_PARENT)) else self._roots.get(parent, parent)
        self._roots[own] = root
        return root
