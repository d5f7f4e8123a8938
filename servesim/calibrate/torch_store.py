"""Raw points on disk: one CSV line per visit, written as it is measured, and read back to resume."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from servesim.calibrate.torch_measure import Measured
from servesim.calibrate.torch_points import BatchPoint, IterationPoint
from servesim.errors import InputError, Problem

_NUMBERS = ("seconds", "low_s", "high_s", "spread", "runs", "is_stable", "visit", "at_s")
_STATE = ("sm_clock_mhz", "power_w", "temperature_c", "cpu_mhz")
_HEAD = "# servesim raw points "


class RawPoints:
    """The file of a campaign's points; its first line says of what they are, so that no two campaigns are mixed."""

    def __init__(self, path: Path, kind: type[IterationPoint] | type[BatchPoint], identity: dict[str, Any]) -> None:
        self.path = path
        self._kind = kind
        self._identity = json.dumps(identity, sort_keys=True)
        self._shape = [field.name for field in fields(kind)]

    def start(self) -> None:
        """Write the file's head."""
        self.path.write_text(self._head() + ",".join([*self._shape, *_NUMBERS, *_STATE]) + "\n", encoding="utf-8")

    def _head(self) -> str:
        return f"{_HEAD}{self._identity}\n"

    def add(self, one: Measured[Any]) -> None:
        """Append one visit; it is on disk when this returns."""
        numbers = [repr(getattr(one, name)) for name in ("seconds", "low_s", "high_s", "spread", "runs")]
        numbers += [str(int(one.is_stable)), str(one.visit), f"{one.at_s:.3f}"]
        state = [f"{one.state[name]:g}" if name in one.state else "" for name in _STATE]
        with self.path.open("a", encoding="utf-8") as file:
            file.write(",".join([*map(str, asdict(one.point).values()), *numbers, *state]) + "\n")

    def read(self) -> list[Measured[Any]]:
        """Return the visits stored; InputError if the file is of another campaign. A torn last line is left out."""
        try:
            text = self.path.read_text(encoding="utf-8")
        except OSError as error:
            raise InputError(Problem(f"nothing to resume: {error.strerror}", file=str(self.path))) from error
        head, _, rest = text.partition("\n")
        if head + "\n" != self._head():
            raise InputError(Problem(self._difference(head), file=str(self.path), line=1))
        whole = rest[: rest.rfind("\n") + 1]
        rows = csv.DictReader(whole.splitlines())
        found = [self._measured(row, line) for line, row in enumerate(rows, 3)]
        if whole != rest:
            self.path.write_text(head + "\n" + whole, encoding="utf-8")
        return found

    def sha256(self) -> str:
        """Return the hash of the file."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    def _measured(self, row: dict[str, str], line: int) -> Measured[Any]:
        try:
            point = self._kind(*(int(row[name]) for name in self._shape))
            values = {name: float(row[name]) for name in _NUMBERS}
            state = {name: float(row[name]) for name in _STATE if row.get(name)}
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(Problem(f"is not a raw point: {error}", file=str(self.path), line=line)) from None
        seconds = values["seconds"]
        if not math.isnan(seconds) and seconds <= 0:
            raise InputError(Problem(f"seconds must be positive, got {seconds:g}", file=str(self.path), line=line))
        counts: dict[str, Any] = {"runs": int(values.pop("runs")), "visit": int(values.pop("visit"))}
        return Measured(point, **{**values, **counts, "is_stable": bool(values["is_stable"])}, state=state)

    def _difference(self, head: str) -> str:
        """Return in which of its facts the stored campaign is another one."""
        try:
            stored = json.loads(head.removeprefix(_HEAD)) if head.startswith(_HEAD) else None
        except ValueError:
            stored = None
        if not isinstance(stored, dict):
            return "is not a file of raw points; expected the one that the interrupted campaign wrote"
        mine = json.loads(self._identity)
        differ = [name for name in sorted({*stored, *mine}) if stored.get(name) != mine.get(name)]
        words = "; ".join(f"{name} {stored.get(name)!r} there, {mine.get(name)!r} asked for" for name in differ)
        return f"holds points of another campaign: {words}"


def limit_of(found: Sequence[Measured[BatchPoint]]) -> int | None:
    """Return the largest batch size that fitted if a larger one did not, else None."""
    if all(one.fits for one in found):
        return None
    return max((one.point.batch_size for one in found if one.fits), default=0)
