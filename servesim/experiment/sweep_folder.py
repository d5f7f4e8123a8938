"""A sweep's folder: one file for each finished point, whole or absent, and one sweep at a time."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from servesim.errors import InputError, Problem, ServesimError

LOCK, POINTS, TEMPORARY = ".lock", "points", ".part"
OUTPUTS = ("sweep.json", "points.parquet", "sensitivity.json")
SCENARIO, REPORT = "scenario.yaml", "report.html"
_PICTURES = ("curves", "frontier")
_KNOWN = {
    LOCK,
    POINTS,
    *OUTPUTS,
    SCENARIO,
    REPORT,
    *(f"{name}.{style}" for name in _PICTURES for style in ("png", "svg")),
}


class SweepFolder:
    """Holds the folder's lock while it is entered. The lock is the kernel's, so that it ends with the process."""

    def __init__(self, directory: str | Path, resume: bool = False) -> None:
        self.directory = Path(directory).resolve()
        self._resume = resume
        self._lock: int | None = None

    def __enter__(self) -> Self:
        """Make the folder if need be. Raises InputError if it holds anything else, or a sweep not to be resumed."""
        if self.directory.exists() and not self.directory.is_dir():
            raise InputError(Problem(f"-o {self.directory}: is a file; expected a directory"))
        existing = sorted(path.name for path in self.directory.iterdir()) if self.directory.exists() else []
        strange = [name for name in existing if name not in _KNOWN and not name.endswith(TEMPORARY)]
        if strange:
            raise InputError(Problem(f"-o {self.directory}: is not (only) a sweep: it holds {strange[0]!r}"))
        try:
            self._points.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.directory / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise InputError(Problem(f"-o {self.directory}: cannot be written: {error.strerror}")) from None
        self._lock_it(lock)
        try:
            if not self._resume and (any(self._points.glob("*.json")) or set(existing) & set(OUTPUTS)):
                raise InputError(Problem(f"-o {self.directory}: holds a sweep already; --resume goes on with it"))
            for path in (*self._points.glob(f"*{TEMPORARY}"), *self.directory.glob(f"*{TEMPORARY}")):
                path.unlink()  # a killed sweep was writing it
        except BaseException:
            self._unlock()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let others have the folder."""
        self._unlock()

    @property
    def _points(self) -> Path:
        return self.directory / POINTS

    def _lock_it(self, lock: int) -> None:
        # Never deleted: a second process might have opened it just before, and lock what nobody else sees.
        self._lock = lock
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(self._lock, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._lock)
            self._lock = None
            raise ServesimError(f"{self.directory}: another sweep (process {holder}) is at work here") from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def stored(self, key: str) -> dict[str, Any] | None:
        """Return the outcome of a point if it is there and in order; failed ones are to be tried again."""
        try:
            found = json.loads((self._points / f"{key}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        good = isinstance(found, dict) and found.get("key") == key and "summary" in found
        return found if good else None

    def store(self, key: str, outcome: dict[str, Any]) -> None:
        """Write the outcome of a point."""
        self.write(f"{POINTS}/{key}.json", lambda path: write_json(path, {"key": key, **outcome}))

    def discard_outputs(self) -> None:
        """Remove what an earlier sweep said in the end: it is not what this one will."""
        for name in _KNOWN - {LOCK, POINTS}:
            (self.directory / name).unlink(missing_ok=True)

    def write(self, name: str, fill: Callable[[Path], object]) -> None:
        """Let `fill` write a file under a temporary name, and move it to its place."""
        target = self.directory / name
        part = target.with_name(target.name + TEMPORARY)
        fill(part)
        os.replace(part, target)


def write_json(path: Path, value: Any) -> None:
    """Write plain data as JSON."""
    path.write_text(json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")
