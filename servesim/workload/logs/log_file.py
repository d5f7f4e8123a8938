"""A log file and how to read it: the keys that every kind made of a log has."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from servesim.errors import InputError, Problem
from servesim.registry import Spec
from servesim.workload.logs import formats
from servesim.workload.logs.benchmarks import guidellm_rows, inference_perf_rows, sglang_bench_rows, vllm_bench_rows
from servesim.workload.logs.csv_table import csv_header, csv_rows
from servesim.workload.logs.documents import sharegpt_rows
from servesim.workload.logs.formats import Format
from servesim.workload.logs.lines import at, json_fault, jsonl_rows
from servesim.workload.logs.parse import Faults, Parser
from servesim.workload.logs.rows import SYNONYMS, Layout, LogColumns, LogRows, RawRows, TimeUnit, joined
from servesim.workload.logs.servegen import servegen_rows
from servesim.workload.logs.tables import is_own_result, named_layout, parquet_columns, parquet_rows
from servesim.workload.logs.text import named_faults, open_text

_BENCHMARK_READERS = {
    "vllm_bench": vllm_bench_rows,
    "sglang_bench": sglang_bench_rows,
    "guidellm": guidellm_rows,
    "inference_perf": inference_perf_rows,
}
_OWN_COLUMNS = ("auto", "csv", "jsonl", "parquet")


class LogFile(Spec):
    """Where a log is and how it is written. Formats other than csv, jsonl and parquet know their columns."""

    path: Annotated[str, Field(min_length=1, description="The log file.")]
    format: Annotated[Format, Field(description="How it is written; auto: by what it holds.")] = "auto"
    columns: Annotated[LogColumns, Field(description="Names of the columns, where the usual ones do not fit.")] = (
        LogColumns()
    )
    time_unit: Annotated[
        TimeUnit | None, Field(description="Unit of the times; none: the format's, s, or ISO 8601 text.")
    ] = None
    unsorted: Annotated[
        Literal["refuse", "sort"], Field(description="Rows out of order: an input error, or read all and sort.")
    ] = "refuse"

    benchmark: Annotated[
        Annotated[int, Field(ge=1)] | Annotated[str, Field(min_length=1, max_length=500)] | None,
        Field(description="Which benchmark of a file with several: its number from 1, or its name."),
    ] = None

    @model_validator(mode="after")
    def _columns_belong_to_free_formats(self) -> LogFile:
        if self.format not in _OWN_COLUMNS and self.columns != LogColumns():
            raise ValueError(f"format {self.format} knows its columns; for others say format: csv, jsonl or parquet")
        return self

    def found_format(self) -> str:
        """Return the format, looked for in the file where it is not given."""
        with named_faults(self.path):
            return self.format if self.format != "auto" else formats.detect(self.path)

    def batches(self, faults: Faults | None = None) -> Iterator[LogRows]:
        """Yield the log's clean rows in batches, in the file's order or sorted by time.

        Raises InputError for what cannot be read, and for faulty rows unless `faults` keeps them.
        """
        with named_faults(self.path):
            format = self.found_format()
            if format == "servegen":
                yield from servegen_rows(self.path)
                return
            source = self._parsed(format, faults or Faults(self.path))
            yield from _sorted(source) if self._sorts(format) else source

    def _sorts(self, format: str) -> bool:
        """Return whether rows are sorted: asked for, or in the order in which requests ended by the format's nature."""
        by_end = format in formats.COMPLETION_ORDER or (format == "parquet" and is_own_result(self.path))
        return by_end or self.unsorted == "sort"

    def layout(self, format: str) -> Layout:
        """Return where this file keeps what."""
        if format == "csv":
            return named_layout(self.path, csv_header(self.path)[0], self.columns, self.time_unit or "s")
        if format == "parquet":
            return named_layout(self.path, list(parquet_columns(self.path)), self.columns, self.time_unit or "s")
        if format == "jsonl":
            return self._jsonl_layout()
        return formats.optional_layout(self.path, format)

    def _jsonl_layout(self) -> Layout:
        """Return the layout by the first line's keys; nested ones can only be named."""
        with open_text(self.path) as file:
            number, first = next(((at, line) for at, line in enumerate(file, 1) if not line.isspace()), (1, ""))
        try:
            record = json.loads(first)
        except (ValueError, RecursionError) as error:
            message = f"not a JSON object: {json_fault(error, first)}"
            raise InputError(Problem(message, file=self.path, line=number)) from error
        named = [name for name in self.columns.model_dump().values() if name is not None]
        usual = {name for names in SYNONYMS.values() for name in names}
        header = [*(record if isinstance(record, dict) else ()), *named]
        header += [name for name in usual if name not in header and at(record, name) is not None]
        return named_layout(self.path, header, self.columns, self.time_unit or "s")

    def _parsed(self, format: str, faults: Faults) -> Iterator[LogRows]:
        layout = self.layout(format)
        parser: Parser | None = None
        for raw in self._raw(format, layout, faults):
            if parser is None:
                parser = Parser(layout, self._unit(layout, raw), faults)
            yield parser.rows(raw)

    def _raw(self, format: str, layout: Layout, faults: Faults) -> Iterator[RawRows]:
        if self.benchmark is not None and format not in formats.SEVERAL_BENCHMARKS:
            raise InputError(Problem(f"benchmark: a log of format {format} holds no benchmarks", file=self.path))
        if format in _BENCHMARK_READERS:
            return _BENCHMARK_READERS[format](self.path, self.benchmark)
        if format == "sharegpt":
            return sharegpt_rows(self.path)
        if format == "parquet":
            return parquet_rows(self.path, layout)
        if format == "csv" or format in formats.CSV_FORMATS:
            return csv_rows(self.path, layout)
        return jsonl_rows(self.path, layout, faults, is_request=partial(formats.is_request, format))

    def _unit(self, layout: Layout, raw: RawRows) -> TimeUnit:
        """Return the unit of the times: given, the format's, or what the first value shows."""
        if self.time_unit is not None:
            return self.time_unit
        if raw.time and layout.time_unit == "s":
            first = raw.time[0]
            if isinstance(first, str) and first[:2] in ("19", "20") and "-" in first[1:]:
                return "iso8601"
            if self.found_format() == "parquet" and "timestamp" in parquet_columns(self.path)[str(layout.arrival)]:
                return "ns"
        return layout.time_unit


def _sorted(source: Iterator[LogRows]) -> Iterator[LogRows]:
    batches = list(source)
    if batches:
        rows = joined(batches)
        rows = rows.select(np.argsort(rows.time_s, kind="stable"))
        if len(rows.line):
            yield rows._replace(time_s=rows.time_s - rows.time_s[0])
