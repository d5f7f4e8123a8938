"""The files of a sweep's folder, read back and looked over."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from servesim.errors import InputError, Problem
from servesim.report.page.read import read_json, read_scenario, read_text

SWEEP_FILE, SENSITIVITY_FILE = "sweep.json", "sensitivity.json"
_SCENARIO, _POINTS = "scenario.yaml", "points"
_VERSION = 1
_NEEDED = ("scenario", "replications", "settings", "points", "frontier")
_NEEDED_OF_SENSITIVITY = ("scenario", "replications", "seeds", "key", "base", "changes", "skipped")


@dataclass(frozen=True, slots=True)
class SweepFiles:
    """What a sweep or a sensitivity left: its document, and what its points are changes of, parsed and as text.

    `first` is the whole summary of the first point that did not fail, None if all did.
    """

    found: dict[str, Any]
    scenario: dict[str, Any]
    scenario_text: str
    first: dict[str, Any] | None


def read_sweep(directory: Path) -> SweepFiles:
    """Return the files of a finished sweep; InputError says what is missing or broken, and where."""
    found = read_json(directory / SWEEP_FILE, _VERSION, _NEEDED)
    key = next((row["key"] for row in found["points"] if row["error"] is None), None)
    return _files(directory, found, key)


def read_sensitivity(directory: Path) -> SweepFiles:
    """Return the files of a finished `sweep --sensitivity`."""
    found = read_json(directory / SENSITIVITY_FILE, _VERSION, _NEEDED_OF_SENSITIVITY)
    return _files(directory, found, found["key"])


def _files(directory: Path, found: dict[str, Any], key: str | None) -> SweepFiles:
    scenario, text = read_scenario(directory / _SCENARIO)
    return SweepFiles(found, scenario, text, None if key is None else _summary(directory / _POINTS / f"{key}.json"))


def _summary(path: Path) -> dict[str, Any]:
    text = read_text(path)
    try:
        found: dict[str, Any] = json.loads(text)["summary"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(Problem("is not a point of a sweep", file=str(path))) from error
    return found
