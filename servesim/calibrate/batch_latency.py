"""Calibration files from measured batch latencies: `python -m servesim.calibrate.batch_latency DATA_DIR --out DIR`.

DATA_DIR holds `gpu-batches/triton_static_batch_latency.csv` (or is the file itself): a row per batch size with the
columns path, section, gpu, batch and lat (ms). The same input gives the same bytes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import yaml

from servesim.catalog.batch_calibrations import BatchCalibration, BatchPoint, interpolated_s
from servesim.catalog.calibrations import ErrorSummary
from servesim.catalog.entries import parse_yaml
from servesim.errors import InputError

LATENCIES = "triton_static_batch_latency.csv"
AIM = 0.05
LARGEST_MEDIAN = 0.1  # what is missed by more is not worth shipping
METHOD = (
    "Latency at the client of Triton Inference Server with static batches and one request at a time (perf_analyzer), "
    "host and transport included; straight lines between the measured batch sizes"
)
_REPORT = """\
# Calibration of batch times

How long a batch of whole requests takes, per model, GPU and software: what was measured, and how well sizes that were
held back are predicted. This page is written by `python -m servesim.calibrate.batch_latency DATA_DIR --out
servesim/catalog/batch_calibrations --report docs/batch-calibration.md`; do not edit it.

Measured by NVIDIA with Triton Inference Server and published in the READMEs of DeepLearningExamples (Apache-2.0 or
BSD-3-Clause, by model): the mean latency of one request at a time that is a whole batch. It was taken at the client, so
the host's work and the transport of the inputs are in it. Where inputs are large (images above all) and several
requests are under way, a server overlaps transport and computation: then these times are too long
(docs/batching.md has an example).

The form is a straight line between each two measured sizes; beyond the largest the last line goes on, and a run's
summary warns. Each size but the smallest and the largest is predicted from the other sizes. Sizes are a factor of 2
to 8 apart, so that is harder than what the files, which have them all, are used for. A median above 10 % is not
shipped.

{tasks}

By deployment, errors in percent; with one size held back median and p90 are the same number:

{entries}
"""
_MODELS = {  # part of the source's path -> (model, task)
    "ConvNets/triton/resnet50": ("resnet50", "image classification"),
    "TensorFlow/Classification/ConvNets": ("resnet50-tf", "image classification"),
    "GPUNet/triton": ("gpunet", "image classification"),
    "Forecasting/TFT": ("tft", "time-series forecasting"),
    "LanguageModeling/BERT": ("bert", "text encoder"),
    "Segmentation/nnUNet": ("nnunet", "image segmentation"),
    "SpeechSynthesis/FastPitch": ("fastpitch", "speech synthesis"),
    "Recommendation/WideAndDeep": ("wide-and-deep", "recommendation"),
}
_GPUS = {"A100": "a100_sxm", "V100": "v100_sxm_32gb", "T4": "t4", "A30": "a30", "A40": "a40"}
_SOFTWARE = {
    "onnx runtime tensorrt": "onnx-trt",
    "backend accelerator tensorrt": "trt-accelerator",
    "onnx runtime": "onnx",
    "nvidia tensorrt": "trt",
    "tf-trt": "tf-trt",
    "tensorflow": "tensorflow",
    "pytorch": "pytorch",
    "fp16": "fp16",
    "fp32": "fp32",
    "electricity": "electricity",
    "traffic": "traffic",
}


def model_of(path: str) -> tuple[str, str]:
    """Return (model, task) of the README a row was taken from."""
    for part, (model, task) in _MODELS.items():
        if part in path:
            size = re.search(r"/triton/([^/]+)/README", path)
            return (f"{model}-{size[1].lower()}" if size and model in ("gpunet", "bert") else model), task
    raise InputError(f"{path}: not a model that is known here")


def variant_of(section: str) -> str:
    """Return the software and precision that a section of results is of, as `onnx-trt-accelerator-fp16`."""
    text, found = section.rpartition(" > ")[2].partition("{")[0].lower(), []
    for words, short in _SOFTWARE.items():
        if words in text:
            found.append((text.index(words), short))
            text = text.replace(words, "#" * len(words), 1)
    return "-".join(short for _, short in sorted(found, key=lambda one: (one[1] in ("fp16", "fp32"), *one)))


def gpu_of(text: str) -> str:
    """Return the GPU's name in the catalog, or as it would be there."""
    for part, name in _GPUS.items():
        if re.search(rf"\b{part}\b", text):
            return name
    raise InputError(f"{text}: not a GPU that is known here")


def held_back(points: Sequence[tuple[float, float]]) -> list[float]:
    """Return |predicted / measured - 1| of every size but the outer ones, each predicted without itself."""
    return [
        abs(interpolated_s([*points[:i], *points[i + 1 :]], points[i][0]) / points[i][1] - 1)
        for i in range(1, len(points) - 1)
    ]


def summary(errors: Sequence[float]) -> ErrorSummary:
    """Return the errors in brief, rounded to five digits so that files do not depend on the last bit."""
    numbers = {"median": np.median(errors), "p90": np.quantile(errors, 0.9), "max": np.max(errors)}
    return ErrorSummary(**{name: float(f"{value:.5g}") for name, value in numbers.items()}, n=len(errors))


def calibrations(path: Path) -> Iterator[BatchCalibration]:
    """Yield a calibration of each deployment with three or more batch sizes."""
    table, digest = pd.read_csv(path), hashlib.sha256(path.read_bytes()).hexdigest()
    for labels, rows in table.groupby(["path", "section", "gpu"], sort=True):
        source, section, gpu = map(str, labels)
        rows = rows.sort_values("batch")
        points = [
            BatchPoint(int(b), float(f"{1e-3 * ms:.6g}")) for b, ms in zip(rows["batch"], rows["lat"], strict=True)
        ]
        if len(points) < 3:
            continue
        model, task = model_of(source)
        yield BatchCalibration.model_validate(
            {
                "schema_version": 1,
                "model": model,
                "task": task,
                "gpu": gpu_of(gpu),
                "variant": variant_of(section),
                "provenance": {
                    "source": "NVIDIA DeepLearningExamples",
                    "version": source,
                    "licence": "Apache-2.0 or BSD-3-Clause, by model",
                    "method": METHOD,
                    "input_file": path.name,
                    "input_sha256": digest,
                    "rows": len(points),
                },
                "held_back": summary(held_back(points)),
                "points": points,
            }
        )


def to_yaml(entry: BatchCalibration) -> str:
    """Return the file's text."""
    data: dict[str, Any] = {**entry.model_dump(), "points": [list(point) for point in entry.points]}
    text: str = yaml.safe_dump(data, sort_keys=False, width=120, default_flow_style=None)
    again = parse_yaml(text)
    again["points"] = [tuple(point) for point in again["points"]]
    if BatchCalibration.model_validate(again) != entry:
        raise AssertionError("a calibration does not survive its file")
    return text


def task_lines(entries: Sequence[BatchCalibration]) -> list[str]:
    """Return a markdown table of the held-back errors by task, in percent, over the files that are shipped."""
    lines = ["| Task | Files | Held back | Median | p90 |", "|---|---|---|---|---|"]
    for task in sorted({entry.task for entry in entries}):
        points = [entry.points for entry in entries if entry.task == task and shipped(entry)]
        error = summary([one for line in points for one in held_back(line)])
        lines.append(f"| {task} | {len(points)} | {error.n} | {100 * error.median:.1f} | {100 * error.p90:.1f} |")
    return lines


def shipped(entry: BatchCalibration) -> bool:
    """Say whether a calibration predicts well enough."""
    return entry.held_back.median <= LARGEST_MEDIAN


def report_lines(entries: Sequence[BatchCalibration]) -> list[str]:
    """Return a markdown table of the held-back errors, in percent."""
    lines = ["| Calibration | Sizes | Held back | Median | p90 | |", "|---|---|---|---|---|---|"]
    for entry in sorted(entries, key=lambda one: one.name):
        error, sizes = entry.held_back, f"{entry.points[0].batch_size} to {entry.max_batch_size}"
        verdict = "" if error.median <= AIM else "above 5 %" if shipped(entry) else "not shipped"
        numbers = f"{error.n} | {100 * error.median:.1f} | {100 * error.p90:.1f}"
        lines.append(f"| {entry.name} | {sizes} | {numbers} | {verdict} |")
    return lines


@click.command()
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="where to write <model>/<gpu>/*.yaml")
@click.option("--report", type=click.Path(path_type=Path), help="write the errors to this file")
def main(data: Path, out: Path | None, report: Path | None) -> None:
    """Print the held-back errors of every deployment under DATA; write files of those within the limit."""
    entries = list(calibrations(data if data.is_file() else data / "gpu-batches" / LATENCIES))
    click.echo("\n".join(report_lines(entries)))
    for entry in entries:
        if out is not None and shipped(entry):
            path = out / f"{entry.name}.yaml"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(to_yaml(entry), encoding="utf-8")
    if report is not None:
        text = _REPORT.format(tasks="\n".join(task_lines(entries)), entries="\n".join(report_lines(entries)))
        report.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
