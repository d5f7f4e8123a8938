"""Where a result may be written without destroying anything else."""

from __future__ import annotations

import os
from pathlib import Path

from servesim.errors import InputError, Problem

RESULT_FILES = frozenset({"summary.json", "scenario.resolved.yaml", "requests.parquet", "timeseries.parquet"})
# What a result may hold besides: a run with retries writes the first, `servesim report` the second.
OPTIONAL_FILES = frozenset({"attempts.parquet", "report.html"})
PICTURE_FILES = frozenset(f"{name}.{style}" for name in ("latency", "timeline", "causes") for style in ("png", "svg"))


def checked_target(directory: Path, *, force: bool) -> Path:
    """Return the absolute path to write to; InputError if it must not be replaced or cannot be written.

    What exists at the target is replaced as a whole: only an empty directory and an earlier result are, unless `force`.
    """
    target = directory.resolve()
    fault = _fault(target, force)
    if fault is not None:
        raise InputError(Problem(f"-o {directory}: {fault}"))
    return target


def _fault(target: Path, force: bool) -> str | None:
    if target.exists():
        if not target.is_dir():
            return "is a file; expected a directory"
        if Path.cwd().is_relative_to(target) or Path.home().is_relative_to(target):
            return "holds the current or the home directory and cannot be replaced"
        known = RESULT_FILES | OPTIONAL_FILES | PICTURE_FILES
        strange = sorted(entry.name for entry in target.iterdir() if entry.name not in known)
        if strange and not force:
            return f"is not (only) a servesim result: it holds {strange[0]!r}; --force deletes it all"
    parent = next(folder for folder in target.parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        return f"cannot be written: {parent} is not a writable directory"
    return None
