"""Against the iteration grid in the shared data, which was composed from the same database by another program."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

pytest.importorskip("aiconfigurator_core")

from servesim.calibrate.aiconfigurator import _handle, coverage, hub_name, iteration_ms
from servesim.calibrate.target import Target
from servesim.catalog import gpu, model
from servesim.catalog.calibrations import Key, calibration, read_calibration
from servesim.cli import main
from servesim.service_time.calibrated import CalibratedIterationTime
from tests.data import shared_data


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["calibrate", "aiconfigurator", *map(str, arguments)])


def grid_rows(name: str, system: str, backend: str, tp: str, quant: str) -> Iterator[dict[str, str]]:
    with shared_data("gpu-iterations", "aic_iteration_grid.csv").open() as file:
        for row in csv.DictReader(file):
            if (row["model"], row["system"], row["backend"], row["tp"], row["gemm_quant"]) == (
                name, system, backend, tp, quant,
            ):  # fmt: skip
                yield row


@pytest.mark.parametrize(
    ("key", "quant"),
    [
        (Key("llama-3.1-8b", "h100_sxm", "vllm", 1, "bf16", "bf16"), "default"),
        (Key("qwen3-32b", "a100_sxm", "sglang", 2, "bf16", "bf16"), "default"),
        (Key("llama-3.1-70b", "h200_sxm", "trtllm", 4, "fp8", "bf16"), "fp8"),
        (Key("gpt-oss-20b", "h100_sxm", "vllm", 1, "mxfp4", "bf16"), "default"),
        (Key("qwen3-30b-a3b", "b200_sxm", "trtllm", 2, "bf16", "bf16"), "default"),
    ],
    ids=lambda value: value.stem if isinstance(value, Key) else value,
)
def test_rows_of_the_grid_come_out_again(key: Key, quant: str, tmp_path: Path) -> None:
    source = hub_name(key.model)
    rows = list(grid_rows(source, key.gpu, key.backend, str(key.tensor_parallel_size), quant))
    assert rows
    handle = _handle(source, Target(key, model(key.model), tmp_path / "x.yaml", None, None))
    for row in islice(rows, 0, None, 3):
        numbers = [int(row[name]) for name in ("prefill_tokens", "prefill_isl", "decode_batch", "decode_ctx")]
        assert iteration_ms(handle, *numbers) == pytest.approx(float(row["latency_ms"]), abs=6e-5, rel=1e-5), row


def test_the_command_fits_what_the_catalog_has(tmp_path: Path) -> None:
    out = tmp_path / "o.yaml"
    result = run("--model", "llama-3.1-8b", "--gpu", "h100_sxm", "-o", out)
    assert result.exit_code == 0, result.output
    ours, theirs = read_calibration(out), calibration(model("llama-3.1-8b"), gpu("h100_sxm"), "vllm")
    assert ours.error.interior["all"].median == pytest.approx(theirs.error.interior["all"].median, rel=0.2)
    times = CalibratedIterationTime(ours, 8192, 256)
    rng = np.random.default_rng(0)
    target = Target(Key("x", "h100_sxm", "vllm", 1, "bf16", "bf16"), model("llama-3.1-8b"), out, None, None)
    handle = _handle(hub_name("llama-3.1-8b"), target)
    errors = []
    for _ in range(200):  # points of no grid
        seqs, context = int(rng.integers(1, 200)), int(rng.integers(150, 4000))
        base_s, slope_s, _ = times.decode_line(seqs, seqs * context)
        errors.append(abs((base_s + slope_s * seqs * context) / (iteration_ms(handle, 0, 0, seqs, context) / 1e3) - 1))
    assert np.median(errors) < 0.03


def test_a_model_that_only_the_database_has_is_read_from_its_own_config(tmp_path: Path) -> None:
    result = run("--model", "Qwen/Qwen3-1.7B", "--gpu", "b200_sxm", "-o", tmp_path / "o.yaml")
    assert result.exit_code == 0, result.output
    assert read_calibration(tmp_path / "o.yaml").model == "qwen3-1.7b"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "lama-3.1-8b", "--gpu", "h100_sxm"], "did you mean"),
        (["--model", "llama-3.1-8b", "--gpu", "mi300x"], "has no GPU 'mi300x'"),
        (["--model", "llama-3.1-8b", "--gpu", "h100_sxm", "--backend", "tgi"], "has no 'tgi' on h100_sxm"),
        (["--model", "llama-3.1-8b", "--gpu", "h100_sxm", "--quantization", "q4_k"], "no weights in 'q4_k'"),
    ],
)
def test_what_the_database_lacks_is_said(arguments: list[str], said: str, tmp_path: Path) -> None:
    result = run(*arguments, "-o", tmp_path / "o.yaml")
    assert result.exit_code == 2, result.output
    assert said in result.output
    assert not (tmp_path / "o.yaml").exists()


def test_it_lists_what_it_covers() -> None:
    result = run("--list")
    assert result.exit_code == 0
    assert "h100_sxm: sglang, trtllm, vllm" in result.output
    assert len(coverage().models) > 50
