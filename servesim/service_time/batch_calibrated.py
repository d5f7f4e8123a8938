"""Batch time from a calibration file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from servesim.catalog.batch_calibrations import (
    BatchCalibration,
    batch_calibration,
    interpolated_s,
    read_batch_calibration,
)
from servesim.errors import InputError
from servesim.registry import register
from servesim.service_time.base import BatchTime, BatchTimeSpec, Deployment, Origin, Validity

_TABLE = 4096


class CalibratedBatchTime(BatchTime):
    """The lines between measured sizes; small sizes are worked out beforehand."""

    def __init__(self, entry: BatchCalibration) -> None:
        self._points = entry.points
        self._seconds = [interpolated_s(entry.points, size) for size in range(min(entry.max_batch_size, _TABLE) + 1)]
        self.validity = Validity(max_batch_size=entry.max_batch_size)
        self.origin = Origin(entry.name, measured=True, note=entry.provenance.method, facts=entry.facts())

    def batch_s(self, batch_size: int, prompt_tokens: int, output_tokens: int) -> float:
        """Return the seconds of a batch of this size; items have the size that was measured."""
        if batch_size < len(self._seconds):
            return self._seconds[batch_size]
        return interpolated_s(self._points, batch_size)


@register("service_time")
class BatchCalibrated(BatchTimeSpec):
    """A measured batch time that ships with servesim (`servesim list batch-calibrations`), or a `file` of that form.

    Every request is one item of the size that was measured; the pool's `model` is left out. Error and range come with
    the file, and results beyond the largest batch measured say so.
    """

    kind: Literal["batch_calibrated"] = "batch_calibrated"
    name: str | None = Field(None, description="catalog name, model/gpu/variant")
    file: str | None = Field(None, description="path of a calibration file instead")

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.name is None) == (self.file is None):
            raise ValueError("give either name or file")
        return self

    def build(self, deployment: Deployment) -> CalibratedBatchTime:
        """Return the model; InputError if there is none of this name, or if it is of another GPU than the pool's."""
        entry = batch_calibration(self.name) if self.name is not None else read_batch_calibration(Path(self.file or ""))
        if deployment.gpu is not None and deployment.gpu.name != entry.gpu:
            raise InputError(f"{entry.name} was measured on {entry.gpu}, the pool's GPU is {deployment.gpu.name}")
        return CalibratedBatchTime(entry)
