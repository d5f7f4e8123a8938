"""Logs that are CSV tables of any delimiter."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import IO, Any

from servesim.errors import InputError, Problem
from servesim.workload.base import BLOCK_REQUESTS
from servesim.workload.logs.rows import Layout, RawRows
from servesim.workload.logs.tables import is_error
from servesim.workload.logs.text import open_text

MAX_RECORD_LINES = 1000
"""Lines of one row, which quoted text may hold; beyond, a quote was not closed."""


def csv_header(path: str) -> tuple[list[str], str]:
    """Return a CSV file's column names and its delimiter, of comma, semicolon and tab the most frequent there."""
    with open_text(path) as file:
        first = file.readline().rstrip("\r\n")
    delimiter = max(",;\t", key=first.count)
    return [name.strip() for name in next(csv.reader([first], delimiter=delimiter), [])], delimiter


class _Lines:
    """A file's lines for a CSV reader: `first` is the line on which the row being read begins, `last` the one read."""

    def __init__(self, file: IO[str], path: str) -> None:
        self.first = 1
        self.last = 0
        self.ended = False
        self._file = file
        self._path = path

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._file.readline()
        if not line:
            self.ended = True
            raise StopIteration
        self.last += 1
        if self.last - self.first > MAX_RECORD_LINES:
            raise self.open_quote()
        return line

    def open_quote(self) -> InputError:
        """Return the error that a quote on the row's first line is not closed."""
        swallowed = self.last - self.first
        message = "a quote opens here and is not closed"
        if not self.ended:
            message += f": it swallows more than {MAX_RECORD_LINES} lines that follow"
        elif swallowed:
            message += f": it swallows the {swallowed} lines that follow, to the end of the file"
        return InputError(Problem(message, file=self._path, line=self.first))


def _records(path: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield every row that is not blank, the header too, with the line on which it begins."""
    with open_text(path) as file:
        lines = _Lines(file, path)
        try:
            for row in csv.reader(lines, delimiter=delimiter):
                if lines.ended:  # the reader wanted more than there was: only a quote left open makes it
                    raise lines.open_quote()
                if row:
                    yield lines.first, row
                lines.first = lines.last + 1
        except csv.Error as error:
            raise InputError(
                Problem(f"not a sound row of a CSV table: {error}", file=path, line=lines.first)
            ) from error


def csv_rows(path: str, layout: Layout) -> Iterator[RawRows]:
    """Yield a CSV file's rows in batches; a row that is cut short has None for what it lacks."""
    header, delimiter = csv_header(path)
    names = (layout.arrival, layout.prompt_tokens, layout.output_tokens, layout.session, layout.error)
    missing = [name for name in names if name is not None and name not in header]
    if missing:
        message = f"missing column {', '.join(missing)}; the header has {', '.join(header[:30])}"
        raise InputError(Problem(message, file=path, line=1))
    for name in names:
        if name is not None and header.count(name) > 1:
            numbers = [str(number) for number, own in enumerate(header, 1) if own == name]
            message = f"columns {' and '.join(numbers)} have the same name {name!r}: rename all but one"
            raise InputError(Problem(message, file=path, line=1))
    places = [None if name is None else header.index(name) for name in names]
    numbered = islice(_records(path, delimiter), 1, None)
    while batch := list(islice(numbered, BLOCK_REQUESTS)):
        yield _raw([line for line, _ in batch], [row for _, row in batch], places)


def _raw(lines: list[int], rows: list[list[str]], places: Sequence[int | None]) -> RawRows:
    arrival, prompt, output, session, error = (None if at is None else _column(rows, at) for at in places)
    assert prompt is not None
    assert output is not None
    failed = None if error is None else [is_error(value) for value in error]
    return RawRows(lines, arrival, prompt, output, failed, session)


def _column(rows: list[list[str]], at: int) -> list[Any]:
    try:
        return [row[at] for row in rows]
    except IndexError:
        return [row[at] if at < len(row) else None for row in rows]
