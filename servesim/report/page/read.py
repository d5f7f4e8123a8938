"""The files of a result directory, read back and looked over."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from servesim.errors import InputError, Problem

if TYPE_CHECKING:
    import pandas as pd

RUN_FILE = "summary.json"
_SCENARIO, _REQUESTS, _TIMESERIES = "scenario.resolved.yaml", "requests.parquet", "timeseries.parquet"
_VERSION = 2
_NEEDED = ("scenario", "seed", "classes", "pools", "measurement", "warnings", "provenance", "intervals", "why")
_REQUEST_COLUMNS = ["request_id", "class", "outcome", "arrival_s", "ttft_s", "tpot_s", "e2e_s"]


@dataclass(frozen=True, slots=True)
class RunFiles:
    """What a run left: its summary, the scenario as it ran (parsed, and as text), and its tables.

    Of replications the tables are replication 0's. `requests` has one row per request, in the order of request_id;
    `timeseries` one per pool and time bin (docs/metrics.md).
    """

    summary: dict[str, Any]
    scenario: dict[str, Any]
    scenario_text: str
    requests: pd.DataFrame
    timeseries: pd.DataFrame

    @property
    def replications(self) -> int:
        """How many runs the summary is of."""
        found = self.summary.get("replications")
        return 1 if found is None else int(found["number"])

    @property
    def measured(self) -> pd.DataFrame:
        """The completed requests after the warm-up: those whose latencies the summary describes.

        Of replications only the total left out is known; the mean over them is left out of replication 0's.
        """
        left_out = round(self.summary["measurement"]["left_out"] / self.replications)
        rows = self.requests
        kept: pd.DataFrame = rows[(rows["request_id"] >= left_out) & (rows["outcome"] == "completed")]
        return kept


def read_run(directory: Path) -> RunFiles:
    """Return the files of one run or of replications; InputError says what is missing or broken, and where."""
    summary = read_json(directory / RUN_FILE, _VERSION, _NEEDED)
    scenario, text = read_scenario(directory / _SCENARIO)
    requests = _table(directory / _REQUESTS, _REQUEST_COLUMNS).sort_values("request_id", ignore_index=True)
    return RunFiles(summary, scenario, text, requests, _table(directory / _TIMESERIES))


def read_json(path: Path, version: int, needed: Sequence[str]) -> dict[str, Any]:
    """Return a JSON document that servesim wrote; InputError if it is none, of another version, or lacks something."""
    try:
        found = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(Problem("is not JSON", file=str(path), line=error.lineno, column=error.colno)) from error
    if not isinstance(found, dict):
        raise _fault(path, "is not a result of servesim")
    if found.get("schema_version") != version:
        told = found.get("schema_version")
        raise _fault(path, f"schema_version is {told!r}, this servesim reads {version}; make the result again")
    if missing := [name for name in needed if name not in found]:
        raise _fault(path, f"lacks {missing[0]!r}, which it always has")
    return found


def read_scenario(path: Path) -> tuple[dict[str, Any], str]:
    """Return a scenario that servesim wrote, parsed and as text."""
    text = read_text(path)
    try:
        scenario = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise _fault(path, "is not YAML") from error
    if not isinstance(scenario, dict) or not isinstance(scenario.get("workload"), dict):
        raise _fault(path, "is not a scenario")
    return scenario, text


def read_text(path: Path) -> str:
    """Return a text file; InputError if there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise _fault(path, "is missing; the directory does not hold a whole result") from error
    except UnicodeDecodeError as error:
        raise _fault(path, "is not UTF-8 text") from error


def _table(path: Path, columns: list[str] | None = None) -> pd.DataFrame:
    import pandas as pd
    from pyarrow import ArrowException  # type: ignore[import-untyped]

    try:
        return pd.read_parquet(path, columns=columns)
    except FileNotFoundError as error:
        raise _fault(path, "is missing; the directory does not hold a whole result") from error
    except (ArrowException, ValueError) as error:
        raise _fault(path, "is not a table that servesim wrote") from error


def _fault(path: Path, what: str) -> InputError:
    return InputError(Problem(what, file=str(path)))
