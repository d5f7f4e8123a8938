"""Any log of requests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from servesim.errors import InputError, Problem
from servesim.registry import register
from servesim.workload.logs.log_file import LogFile
from servesim.workload.trace import TraceArrivals, TraceRows


@register("arrivals")
class LogArrivals(LogFile, TraceArrivals):
    """Requests of a log in any of the usual formats, with their own lengths; docs/logs.md says what each holds.

    A failed request counts as one without output: `zero_output: drop` leaves it out. Sessions and shared prefixes are
    not replayed. ServeGen's descriptions are drawn with a fixed seed. ShareGPT's and SGLang's files have no times: use
    the joint length law `log` with arrivals of your choice.
    """

    kind: Literal["log"] = "log"

    sorting_advice: ClassVar[str] = "sort the log, or say unsorted: sort"

    def rows(self) -> Iterator[TraceRows]:
        """Yield the log's rows; raise InputError naming the first faulty ones."""
        format = self.found_format()
        if format != "servegen" and self.layout(format).arrival is None:
            message = f"{format} has no times: use lengths: {{kind: log, path: ...}} with arrivals such as poisson"
            raise InputError(Problem(message, file=self.path))
        for rows in self.batches():
            if len(rows.line):
                yield TraceRows(rows.time_s, rows.prompt_tokens, rows.output_tokens, rows.line)
