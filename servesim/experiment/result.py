"""The result of one run: numbers, tables, and files."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from servesim.errors import ServesimError
from servesim.experiment.whole_folder import whole_folder
from servesim.metrics.record import RunRecord
from servesim.scenario.schema import Scenario

if TYPE_CHECKING:
    import pandas as pd


class Result:
    """What happened. Everything is computed from the run's record when it is first asked for."""

    def __init__(self, record: RunRecord, scenario: Scenario) -> None:
        self.record = record
        self.scenario = scenario

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The summary of docs/metrics.md and docs/reading-results.md: plain data, ready for JSON."""
        from servesim.experiment.why import why

        summary = self.numbers
        return {**summary, "intervals": self.intervals, "why": why(self.record, self.scenario, summary)}

    @cached_property
    def numbers(self) -> dict[str, Any]:
        """The summary without "intervals" and "why", which cost more."""
        from servesim.metrics.summary import summarise
        from servesim.provenance import with_full_blocks

        summary = summarise(self.record)
        return {**summary, "provenance": with_full_blocks(summary["provenance"], summary["pools"])}

    @cached_property
    def intervals(self) -> dict[str, Any]:
        """The "intervals" of the summary."""
        from servesim.metrics.run_intervals import run_intervals

        found = run_intervals(self.record, self.measured, self.numbers, not self.steady)
        return {**found, "calibration": self.calibration_error}

    @property
    def calibration_error(self) -> dict[str, Any]:
        """The error of the service times, which no number of runs makes smaller."""
        from servesim.provenance import calibration_error

        return calibration_error(self.numbers["provenance"]["validation"])

    @property
    def measured(self) -> RunRecord:
        """The record without its warm-up: what the summary's statistics are of."""
        from servesim.metrics.warmup import measured

        window = self.numbers["measurement"]
        return measured(self.record, window["left_out"], window["start_s"])

    @cached_property
    def steady(self) -> bool:
        """False if some pool holds ever more requests: there is no steady state to have intervals of."""
        from servesim.metrics.overload import overloads

        return not overloads(self.record)

    @cached_property
    def overloaded(self) -> bool:
        """True if more was offered than the system can serve, so that latencies depend on the run's length."""
        from servesim.metrics.overload import overload_warnings

        return bool(overload_warnings(self.record))

    @cached_property
    def requests(self) -> pd.DataFrame:
        """One row per logical request."""
        from servesim.metrics.tables import requests_frame

        return requests_frame(self.record)

    @cached_property
    def attempts(self) -> pd.DataFrame:
        """One row per attempt to have a request served."""
        from servesim.metrics.tables import attempts_frame

        return attempts_frame(self.record)

    @cached_property
    def iterations(self) -> pd.DataFrame:
        """One row per engine iteration."""
        from servesim.metrics.tables import iterations_frame

        return iterations_frame(self.record)

    def token_times(self, request_id: int, attempt: int | None = None) -> list[float]:
        """Return when each output token of a request's last attempt, or of attempt 1, 2, ..., was out, in seconds."""
        from servesim.metrics.tables import token_times

        return token_times(self.record, request_id, attempt)

    def write(
        self,
        directory: str | Path,
        summary: dict[str, Any] | None = None,
        more: Callable[[Path], None] | None = None,
    ) -> None:
        """Write summary.json, scenario.resolved.yaml, requests.parquet and timeseries.parquet to `directory`.

        Where a class retries, attempts.parquet too.

        `summary` is written instead of this result's own, with more said in it; `more` is called with the folder in
        the making to add files.

        The files are made under a temporary name beside it and moved into place at the end, so that a killed run
        leaves either nothing or something whole. An existing directory is replaced.
        """
        from servesim.metrics.tables import write_attempts_parquet, write_requests_parquet, write_timeseries_parquet
        from servesim.scenario.dump import to_yaml

        target = Path(directory)
        if target.exists() and not (target / "summary.json").exists() and (target.is_file() or any(target.iterdir())):
            raise ServesimError(f"{target} holds something that is not a result; it is left as it is")
        with whole_folder(target) as work:
            text = json.dumps(self.summary if summary is None else summary, indent=2, allow_nan=False)
            (work / "summary.json").write_text(text + "\n", encoding="utf-8")
            (work / "scenario.resolved.yaml").write_text(to_yaml(self.scenario), encoding="utf-8")
            write_requests_parquet(self.record, work / "requests.parquet")
            write_timeseries_parquet(self.record, work / "timeseries.parquet")
            if any(spec.retry for spec in self.scenario.workload.classes.values()):
                write_attempts_parquet(self.record, work / "attempts.parquet")
            if more is not None:
                more(work)
