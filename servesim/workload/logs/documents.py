"""Logs that are one JSON document and so must be read whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from servesim.errors import InputError, Problem
from servesim.workload.logs.lines import at
from servesim.workload.logs.rows import RawRows
from servesim.workload.logs.text import open_text

CHARACTERS_PER_TOKEN = 4
"""English text in the vocabularies of current models has about four characters a token; code and other languages
have fewer. A rule of thumb (OpenAI, "What are tokens and how to count them?"), not a count."""


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


def first_of(record: Any, *paths: str) -> Any:
    """Return the value at the first of these dotted paths that has one; None where none has."""
    return next((value for path in paths if (value := at(record, path)) is not None), None)


def sharegpt_rows(path: str) -> Iterator[RawRows]:
    """Yield the first exchange of every conversation, as the usual benchmarks use them; `line` is its number.

    Token counts are characters / 4, at least 1. There are no times. Conversations of fewer than two turns are left out.
    """
    document = read_document(path)
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
    text = first_of(turn, "value", "content")
    return max(1, round(len(text) / CHARACTERS_PER_TOKEN)) if isinstance(text, str) else None
