"""Calibration files of batch times: measured points, how well they predict sizes held back, and finding one by name."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from pydantic import PositiveFloat, PositiveInt, ValidationError, model_validator

from servesim.catalog.calibrations import ErrorSummary, Provenance
from servesim.catalog.entries import find, folded, read_mapping
from servesim.errors import InputError, Problem
from servesim.registry import Spec


class BatchPoint(NamedTuple):
    """A measured batch: its size, and its seconds."""

    batch_size: PositiveInt
    seconds: PositiveFloat


class BatchCalibration(Spec):
    """One deployment's batch time: a straight line between each two measured sizes, the last one going on.

    `held_back` has the errors of all sizes but the first and the last, each predicted from the others.
    """

    schema_version: Literal[1]
    model: str
    task: str
    gpu: str
    variant: str
    provenance: Provenance
    held_back: ErrorSummary
    points: list[BatchPoint]

    @model_validator(mode="after")
    def _a_line(self) -> Self:
        sizes = [size for size, _ in self.points]
        if len(sizes) < 2 or any(low >= high for low, high in pairwise(sizes)):
            raise ValueError("points: give two or more, with ascending batch sizes")
        return self

    @property
    def name(self) -> str:
        """The catalog path without its ending."""
        return f"{self.model}/{self.gpu}/{self.variant}"

    @property
    def max_batch_size(self) -> int:
        """The largest size measured; beyond it the line extrapolates."""
        return self.points[-1].batch_size

    def facts(self) -> dict[str, Any]:
        """Return what a result's provenance should repeat."""
        return {
            "source": f"{self.provenance.source} {self.provenance.version}",
            "input_sha256": self.provenance.input_sha256,
            "held_back_error_median": self.held_back.median,
            "held_back_error_p90": self.held_back.p90,
        }


def interpolated_s(points: Sequence[tuple[float, float]], batch_size: float) -> float:
    """Return the seconds of a batch between measured `points` (size, seconds), which ascend by size.

    Sizes outside continue the line of the two points nearest to them, but a larger batch never takes less than the
    largest measured one.
    """
    after = min(max(bisect_right(points, batch_size, key=lambda point: point[0]), 1), len(points) - 1)
    (low, low_s), (high, high_s) = points[after - 1], points[after]
    seconds = low_s + (high_s - low_s) * (batch_size - low) / (high - low)
    return max(seconds, high_s) if batch_size > high else seconds


@cache
def _paths() -> dict[str, Path]:
    root = Path(str(files("servesim.catalog"))) / "batch_calibrations"
    return {path.relative_to(root).with_suffix("").as_posix(): path for path in sorted(root.rglob("*.yaml"))}


def batch_calibrations() -> tuple[str, ...]:
    """Return the names of all catalogued calibrations (`model/gpu/variant`), sorted."""
    return tuple(_paths())


@cache
def batch_calibration(name: str) -> BatchCalibration:
    """Return the catalogued calibration called `name`; InputError names the nearest known ones."""
    model = name[:200].partition("/")[0]
    same = [known for known in _paths() if folded(known.partition("/")[0]) == folded(model)]
    known = {folded(one): path for one, path in _paths().items()}
    return read_batch_calibration(find(name[:200], "batch calibration", known, same or _models()))


def _models() -> list[str]:
    return sorted({f"{name.partition('/')[0]}/..." for name in _paths()})


def _point(found: Any) -> Any:
    """Return a point as the schema wants it; what is none as it is, for the schema to name."""
    if not isinstance(found, list) or len(found) != 2 or not isinstance(found[1], int | float):
        return found
    return (found[0], float(found[1]))


def read_batch_calibration(path: Path) -> BatchCalibration:
    """Return the calibration in the file `path`; InputError if it cannot be read or does not fit the schema."""
    data = read_mapping(path)
    if "points" not in data:
        iterations = {"coefficients", "table"} & set(data)
        other = "holds times of iterations: use kind: calibrated"
        message = other if iterations else "is not a calibration file of batches: it has no `points`"
        raise InputError(Problem(message, file=str(path)))
    if isinstance(data["points"], list):
        data["points"] = [_point(point) for point in data["points"]]
    try:
        return BatchCalibration.model_validate(data)
    except ValidationError as error:
        problems = [
            Problem(part["msg"], path=".".join(map(str, part["loc"])), file=str(path)) for part in error.errors()
        ]
        raise InputError(problems) from error
