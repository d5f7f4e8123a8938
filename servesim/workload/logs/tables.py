"""Logs that are tables: where their columns are, and Parquet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from servesim.errors import InputError, Problem
from servesim.workload.base import BLOCK_REQUESTS
from servesim.workload.logs.rows import SYNONYMS, Layout, LogColumns, RawRows, TimeUnit

_OWN_COLUMNS = frozenset({"request_id", "class", "pool", "outcome", "arrival_s", "finish_s"})
_NOT_AN_ERROR = frozenset({"", "0", "false", "none", "null", "nan", "200", "ok", "success"})


def named_layout(path: str, header: Sequence[str], columns: LogColumns, unit: TimeUnit) -> Layout:
    """Return where the columns are: those named, else the first of the usual names that the header has."""
    found: dict[str, str | None] = {"session": columns.session, "error": columns.error}
    problems = []
    for what, usual in SYNONYMS.items():
        named = getattr(columns, what)
        found[what] = named if named else next((name for name in usual if name in header), None)
        if found[what] is None:
            problems.append(f"no column looks like {what}: name it with columns: {{{what}: ...}}")
    problems += [f"missing column {name}" for name in found.values() if name is not None and name not in header]
    if problems:
        there = f"; the file has {', '.join(header[:30])}" if header else "; the file is empty"
        raise InputError([Problem(problem + there, file=path, line=1) for problem in problems])
    return Layout(
        found["arrival"],
        str(found["prompt_tokens"]),
        str(found["output_tokens"]),
        unit,
        session=found["session"],
        error=found["error"],
    )


def is_error(value: Any) -> bool:
    """Return whether the value of an error column says that the request failed."""
    if value is None or isinstance(value, bool | int | float):
        return bool(value) and value == value  # NaN is a gap in a table, not an error
    return not isinstance(value, str) or value.strip().lower() not in _NOT_AN_ERROR


def parquet_columns(path: str) -> dict[str, str]:
    """Return the names and types of a Parquet file's columns."""
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        schema = pyarrow.parquet.read_schema(path)
    except (pyarrow.ArrowException, ValueError) as error:
        raise InputError(Problem(f"not a sound Parquet file: {error}", file=path)) from error
    return {field.name: str(field.type) for field in schema}


def is_own_result(path: str) -> bool:
    """Return whether a Parquet file is a `requests.parquet` of `servesim run`, whose rows are in order of ending."""
    return parquet_columns(path).keys() >= _OWN_COLUMNS


def parquet_rows(path: str, layout: Layout) -> Iterator[RawRows]:
    """Yield a Parquet file's rows in batches; `line` is the row's number. Times of any type become nanoseconds."""
    import pyarrow
    import pyarrow.parquet

    names = [layout.arrival, layout.prompt_tokens, layout.output_tokens, layout.session, layout.error]
    first = 1
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(BLOCK_REQUESTS, columns=list({name for name in names if name})):
                columns = [None if name is None else _plain(batch.column(name)) for name in names]
                arrival, prompt, output, session, error = columns
                assert prompt is not None
                assert output is not None
                failed = None if error is None else [is_error(value) for value in error]
                lines = list(range(first, first + batch.num_rows))
                yield RawRows(lines, arrival, prompt, output, failed, session)
                first += batch.num_rows
    except pyarrow.ArrowException as error:
        raise InputError(Problem(f"not a sound Parquet file: {error}", file=path)) from error


def _plain(column: Any) -> list[Any]:
    import pyarrow

    if pyarrow.types.is_timestamp(column.type):
        column = column.cast(pyarrow.timestamp("ns", tz=column.type.tz), safe=False).cast(pyarrow.int64())
    values: list[Any] = column.to_pylist()
    return values
