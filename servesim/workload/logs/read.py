"""A whole log in memory, for describing and fitting."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from servesim.errors import InputError, Problem
from servesim.workload.base import FloatArray, IntArray
from servesim.workload.logs.log_file import LogFile
from servesim.workload.logs.parse import Faults
from servesim.workload.logs.rows import Layout, LogRows, joined
from servesim.workload.logs.servegen import left_out, read_clients

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Log:
    """A log's sound rows in order of time, and what was wrong with it.

    `served` excludes requests without output. `disordered` counts rows that were before the row above in time.
    """

    file: LogFile
    format: str
    layout: Layout | None
    rows: LogRows
    faults: Faults
    disordered: int
    notes: tuple[str, ...] = ()

    @property
    def timed(self) -> bool:
        """Whether the log says when requests came."""
        return not bool(np.isnan(self.rows.time_s).any())

    @property
    def served(self) -> LogRows:
        """The rows that generated at least one token, their times from the first of them."""
        rows = self.rows.select(np.flatnonzero(self.rows.output_tokens))
        return rows._replace(time_s=rows.time_s - rows.time_s[:1]) if len(rows.line) else rows

    @property
    def requests(self) -> tuple[FloatArray, IntArray, IntArray]:
        """Times from 0 in seconds, prompt and output tokens of the served rows, each of shape (n,), for fits."""
        served = self.served
        return served.time_s, served.prompt_tokens, served.output_tokens


def read_log(file: LogFile, *, start_s: float = 0.0, end_s: float = math.inf) -> Log:
    """Return the rows between two times, in seconds after the first row; raise InputError where there are none.

    Faulty rows are counted and left out, rows out of order are counted and sorted; `refuse_faulty` refuses the former.
    """
    format = file.found_format()
    faults = Faults(file.path, keep=True)
    batches, origin_s = [], None
    for batch in file.batches(faults):
        if not len(batch.line):
            continue
        origin_s = float(batch.time_s[0]) if origin_s is None else origin_s
        batches.append(batch._replace(time_s=batch.time_s - origin_s))
        if format == "servegen" and batches[-1].time_s[-1] >= end_s:
            break  # two weeks of requests otherwise; other formats may be out of order
    if not batches:
        raise InputError(faults.problems or Problem("the log has no sound rows", file=file.path))
    rows = joined(batches)
    disordered = int(np.count_nonzero(np.diff(rows.time_s) < 0))
    if disordered:
        rows = rows.select(np.argsort(rows.time_s, kind="stable"))
        rows = rows._replace(time_s=rows.time_s - rows.time_s[0])
    if start_s > 0 or end_s < math.inf:
        rows = rows.select(np.flatnonzero((rows.time_s >= start_s) & (rows.time_s < end_s)))
        if not len(rows.line):
            raise InputError(Problem("no row of the log lies inside the window", file=file.path))
    notes = tuple(left_out(read_clients(file.path))) if format == "servegen" else ()
    layout = None if format == "servegen" else file.layout(format)
    return Log(file, format, layout, rows, faults, disordered, notes)


def refuse_faulty(log: Log) -> None:
    """Raise InputError with the first faulty rows, if any, and how many there are."""
    faults = log.faults
    if faults.rows:
        message = f"{faulty_rows(faults)}; mend the log, or leave them out with --skip-faulty"
        raise InputError([*faults.problems[:_SHOWN], Problem(message, file=faults.path)])


def faulty_rows(faults: Faults) -> str:
    """Return how many rows are faulty and in what, without any text of theirs."""
    kinds = ", ".join(f"{what} ({rows})" for what, rows in faults.kinds.most_common())
    return f"{faults.rows} faulty row{'s' if faults.rows > 1 else ''}: {kinds}"
