"""Where a result may be written without destroying anything else."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

from servesim.errors import InputError, Problem

RESULT_FILES = frozenset({"summary.json", "scenario.resolved.yaml", "requests.parquet", "timeseries.parquet"})
_REPORT = "report.html"
# What a result may hold besides: a run with retries writes the first, `servesim report` the second.
OPTIONAL_FILES = frozenset({"attempts.parquet", _REPORT})
PICTURE_FILES = frozenset(f"{name}.{style}" for name in ("latency", "timeline", "causes") for style in ("png", "svg"))


def checked_target(directory: Path, *, force: bool) -> Path:
    """Return the absolute path to write to; InputError if it must not be replaced or cannot be written.

    What exists at the target is replaced as a whole: only an empty directory and an earlier result are, unless `force`.
    """
    target = directory.resolve()
    try:
        fault = _fault(target, force) or _unwritable(target)
    except OSError as error:
        fault = f"cannot be written: {error.strerror}"
    if fault is not None:
        raise InputError(Problem(f"-o {directory}: {fault}"))
    return target


def checked_file(file: Path, *, force: bool, option: str = "-o") -> Path:
    """Return `file`; InputError if it exists, unless `force`, or cannot be written. `option` is what named it."""
    try:
        if file.is_dir():
            fault: str | None = "is a directory; expected a file"
        elif file.exists() and not force:
            fault = "exists already; choose another name, or --force replaces it"
        elif not file.parent.exists():
            fault = f"cannot be written: there is no directory {file.parent}"
        else:
            fault = _unwritable(file.absolute())
    except OSError as error:
        fault = f"cannot be written: {error.strerror}"
    if fault is not None:
        raise InputError(Problem(f"{option} {file}: {fault}"))
    return file


def checked_folder(directory: Path, names: Collection[str]) -> Path:
    """Return `directory`; InputError if it holds anything but files of these names, or cannot be written."""
    if directory.exists() and not directory.is_dir():
        raise InputError(Problem(f"-o {directory}: is a file; expected a directory"))
    there = sorted(path.name for path in directory.iterdir()) if directory.exists() else []
    strange = [name for name in there if name not in names and name != _REPORT]
    if strange:
        raise InputError(Problem(f"-o {directory}: is not (only) an earlier result: it holds {strange[0]!r}"))
    if (fault := _unwritable(directory.resolve())) is not None:
        raise InputError(Problem(f"-o {directory}: {fault}"))
    return directory


def write_folder(directory: Path, files: Mapping[str, str]) -> None:
    """Write text files, each whole or not at all; the page about what was there before is removed."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / _REPORT).unlink(missing_ok=True)
    for name, text in files.items():
        part = directory / f".{name}.{os.getpid()}"
        try:
            part.write_text(text, encoding="utf-8")
            part.replace(directory / name)
        finally:
            part.unlink(missing_ok=True)


def _fault(target: Path, force: bool) -> str | None:
    if not target.exists():
        return None
    if not target.is_dir():
        return "is a file; expected a directory"
    if Path.cwd().is_relative_to(target) or Path.home().is_relative_to(target):
        return "holds the current or the home directory and cannot be replaced"
    known = RESULT_FILES | OPTIONAL_FILES | PICTURE_FILES
    strange = sorted(entry.name for entry in target.iterdir() if entry.name not in known)
    if strange and not force:
        return f"is not (only) a servesim result: it holds {strange[0]!r}; --force deletes it all"
    return None


def _unwritable(target: Path) -> str | None:
    """Return why nothing can be made beside the target, found by trying: permissions do not tell it all."""
    parent = next(folder for folder in target.parents if folder.exists())
    try:
        with tempfile.TemporaryDirectory(prefix=".servesim-", dir=parent):
            return None
    except OSError as error:
        return f"cannot be written: {parent} is not a writable directory ({error.strerror})"
