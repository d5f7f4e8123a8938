"""What `servesim calibrate torch` is asked for, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from servesim.calibrate.torch_device import Device
from servesim.calibrate.torch_measure import Repeats
from servesim.calibrate.torch_subjects import Subject
from servesim.catalog.batch_calibrations import BatchCalibration
from servesim.catalog.calibrations import Calibration


@dataclass(frozen=True, slots=True)
class Plan:
    """What to profile and how: the options of `servesim calibrate torch`.

    `ranks` are the devices that share the model, where it is split; known once its processes have met.
    """

    subject: Subject
    device: Device
    gpu: str
    dtype: str
    quantization: str | None
    compiled: bool
    budget_s: float
    points: int
    rule: Repeats
    seed: int
    max_num_seqs: int | None
    max_context: int | None
    max_prefill_tokens: int | None
    max_batch_size: int | None
    output: Path
    picture: Path | None
    date: str | None
    resume: bool
    tensor_parallel_size: int = 1
    ranks: tuple[str, ...] = ()

    @property
    def raw_path(self) -> Path:
        """Where the raw points go: beside the calibration."""
        return self.output.with_suffix(".points.csv")

    @property
    def precision(self) -> str:
        """The number format of the weights."""
        return self.quantization or self.dtype

    def identity(self) -> dict[str, Any]:
        """Return what two campaigns must have in common for their points to belong together."""
        return {
            "model": self.subject.name, "gpu": self.gpu, "dtype": self.dtype, "quantization": self.quantization,
            "compile": self.compiled, "item": self.subject.item, "clock": self.device.clock,
            "threads": self.device.threads, "software": self.device.software(), "seed": self.seed,
            "tensor_parallel_size": self.tensor_parallel_size,
        }  # fmt: skip

    def method(self) -> str:
        """Return how it was measured, for the file."""
        clock = "CUDA events" if self.device.is_cuda else (
            "wall clock" if self.device.clock == "wall" else "processor time of the one thread"
        )  # fmt: skip
        rule = self.rule
        parts = [
            f"random weights; {clock}; {rule.warm_up} warm-up runs, then until the 95 % interval of the median lies "
            f"within {100 * rule.tolerance:g} % or {rule.most} runs or {rule.max_s:g} s; random order",
            f"threads: {self.device.threads}" if not self.device.is_cuda else "decode as CUDA graphs",
        ]
        if self.compiled:
            parts.append("torch.compile")
        if self.ranks:
            library = "NCCL" if self.device.is_cuda else "gloo"
            parts.append(f"tensor parallel over {', '.join(self.ranks)} by {library}; the slowest rank's time")
        parts += [f"{name} {value}" for name, value in self.subject.item.items()]
        return "; ".join(parts)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The calibration made, what to print, and the same as data."""

    entry: Calibration | BatchCalibration
    text: list[str]
    facts: dict[str, Any]
