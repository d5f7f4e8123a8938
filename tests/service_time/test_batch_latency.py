"""Batch times from measured latencies: the form, its errors on sizes held back, and the catalog made of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from servesim.calibrate.batch_latency import (
    AIM,
    LARGEST_MEDIAN,
    LATENCIES,
    gpu_of,
    held_back,
    main,
    model_of,
    summary,
    to_yaml,
    variant_of,
)
from servesim.catalog.batch_calibrations import (
    BatchCalibration,
    batch_calibration,
    batch_calibrations,
    interpolated_s,
    read_batch_calibration,
)
from servesim.errors import InputError
from servesim.service_time.base import Deployment
from servesim.service_time.batch_calibrated import BatchCalibrated
from tests.data import ROOT, shared_data

SIZES = (1, 2, 4, 8, 16, 32, 64)


def truth_ms(size: int) -> float:
    """A made-up machine: hardly any slower up to 8, then linear."""
    return 2.0 + 0.02 * size + 0.3 * max(0, size - 8)


def write_latencies(path: Path) -> None:
    section = (
        '"Deploying > Offline scenario > Offline: NVIDIA A30, ONNX Runtime with FP16, Backend accelerator TensorRT"'
    )
    rows = [f"PyTorch/LanguageModeling/BERT/triton/large/README.md,{section},A30,{n},{truth_ms(n)}" for n in SIZES]
    rows += [row.replace("A30", "T4") for row in rows[:2]]  # two sizes are too few
    path.write_text("\n".join(["path,section,gpu,batch,lat", *reversed(rows)]) + "\n")


@pytest.fixture
def fitted(tmp_path: Path) -> BatchCalibration:
    write_latencies(tmp_path / "latencies.csv")
    result = CliRunner().invoke(main, [str(tmp_path / "latencies.csv"), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    (path,) = (tmp_path / "out").rglob("*.yaml")
    assert path.relative_to(tmp_path / "out").as_posix() == "bert-large/a30/onnx-trt-accelerator-fp16.yaml"
    return read_batch_calibration(path)


def test_a_file_predicts_what_was_measured_and_what_lies_between(fitted: BatchCalibration) -> None:
    for size in range(1, 65):
        assert interpolated_s(fitted.points, size) == pytest.approx(1e-3 * truth_ms(size), rel=1e-5)
    assert interpolated_s(fitted.points, 100) == pytest.approx(1e-3 * truth_ms(100), rel=1e-5)


def test_a_larger_batch_never_takes_less() -> None:
    assert interpolated_s([(1, 1.0), (2, 3.0), (4, 2.0)], 9) == 2.0


def test_held_back_sizes_are_predicted_without_themselves() -> None:
    """At 8, where the line bends, 4 and 16 predict 2.08 + 2.64 / 3 = 2.96 ms; 2.16 were measured."""
    points = [(size, truth_ms(size)) for size in SIZES]
    expected = [0.0, 0.0, (2.08 + (4.72 - 2.08) / 3) / 2.16 - 1, None, 0.0]
    found = held_back(points)
    assert len(found) == 5
    for one, value in zip(found, expected, strict=True):
        assert value is None or one == pytest.approx(value, abs=1e-12)


def test_a_wrong_fit_is_found_out() -> None:
    """The control: sizes taken for their square roots, or one time in ten off, do not pass for a good calibration."""
    points = [(size, truth_ms(size)) for size in (1, 16, 24, 32, 48, 64)]
    assert summary(held_back(points)).median < AIM
    assert summary(held_back([(size, seconds * (3 if size == 24 else 1)) for size, seconds in points])).median > AIM
    assert summary(held_back([(size, 1e-3 * size**3) for size, _ in points])).median > LARGEST_MEDIAN


@pytest.mark.parametrize("name", batch_calibrations())
def test_a_catalogued_file_states_its_own_error(name: str) -> None:
    entry = batch_calibration(name)
    assert entry.name == name
    assert summary(held_back(entry.points)) == entry.held_back
    assert entry.held_back.median <= LARGEST_MEDIAN
    assert read_text(name) == to_yaml(entry)


def read_text(name: str) -> str:
    return (ROOT / "servesim/catalog/batch_calibrations" / f"{name}.yaml").read_text(encoding="utf-8")


def test_every_kind_of_model_is_predicted_within_five_percent() -> None:
    entries = [batch_calibration(name) for name in batch_calibrations()]
    tasks = {entry.task for entry in entries}
    assert tasks >= {"image classification", "text encoder", "speech synthesis", "image segmentation", "recommendation"}
    for task in tasks:
        errors = [error for entry in entries if entry.task == task for error in held_back(entry.points)]
        assert np.median(errors) <= AIM, task


def test_the_catalog_is_what_the_command_makes(tmp_path: Path) -> None:
    data = shared_data("gpu-batches", LATENCIES)
    report = tmp_path / "report.md"
    result = CliRunner().invoke(main, [str(data), "--out", str(tmp_path), "--report", str(report)])
    assert result.exit_code == 0, result.output
    made = {path.relative_to(tmp_path).with_suffix("").as_posix(): path for path in tmp_path.rglob("*.yaml")}
    assert sorted(made) == sorted(batch_calibrations())
    assert all(path.read_text(encoding="utf-8") == read_text(name) for name, path in made.items())
    assert report.read_text() == (ROOT / "docs/batch-calibration.md").read_text()


def test_names_come_from_the_source() -> None:
    assert model_of("PyTorch/LanguageModeling/BERT/triton/dist4l/README.md") == ("bert-dist4l", "text encoder")
    assert variant_of("a > Offline: NVIDIA DGX-1 (1x V100 32GB), TF-TRT with FP16") == "tf-trt-fp16"
    assert gpu_of('DGX-1 (1x V100 32GB) > {"GPU": "x"') == "v100_sxm_32gb"
    for wrong in (lambda: model_of("x/README.md"), lambda: gpu_of("B200")):
        with pytest.raises(InputError):
            wrong()


def test_times_know_their_range_and_origin() -> None:
    times = BatchCalibrated(name="bert-large/a30/trt-fp16").build(Deployment())
    assert times.batch_s(8, 1, 1) == 0.0316
    assert times.batch_s(12, 1, 1) == pytest.approx((0.0316 + 0.0631) / 2)
    assert times.batch_s(5000, 1, 1) > times.batch_s(16, 1, 1)
    assert times.validity.max_batch_size == 16
    assert times.origin.measured


@pytest.mark.parametrize(
    "text",
    [
        "points: [[1, 0.1]]",
        "schema_version: x\npoints: []",
        "points: [[2, 0.1], [1, 0.2]]",
        "points: [1, 2]",
        "points: [[1, 0.1",
    ],
)
def test_a_broken_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"broken\.yaml"):
        read_batch_calibration(path)
    with pytest.raises(InputError, match="no such file"):
        read_batch_calibration(tmp_path / "none.yaml")
