"""Calibrations measured on a processor and shipped as examples: they are what their raw points say, and they run."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import servesim
from servesim.calibrate.batch_latency import held_back, summary
from servesim.calibrate.iterations import Iterations
from servesim.calibrate.torch_measure import distinct
from servesim.calibrate.torch_points import BatchPoint, IterationPoint
from servesim.calibrate.torch_profile import rows_of
from servesim.calibrate.torch_store import RawPoints
from servesim.catalog.batch_calibrations import read_batch_calibration
from servesim.catalog.calibrations import read_calibration
from servesim.catalog.config_file import read_config
from servesim.service_time.base import Deployment
from servesim.service_time.calibrated import Calibrated
from tests.data import ROOT

FOLDER = ROOT / "servesim" / "catalog" / "measured"


def stored(name: str, kind: type) -> RawPoints:
    path = FOLDER / f"{name}.points.csv"
    head = path.read_text(encoding="utf-8").partition("\n")[0]
    return RawPoints(path, kind, json.loads(head.removeprefix("# servesim raw points ")))


def missed(rows: Iterations, path: Path) -> np.ndarray:
    """Return |predicted / measured - 1| of every iteration, by the times that a scenario gets from the file."""
    times = Calibrated(file=str(path)).build(Deployment())
    found = []
    for b, context, prompts, tokens, pairs in zip(
        rows.decode_seqs, rows.decode_context, rows.prefill_seqs, rows.prefill_tokens, rows.prefill_pairs, strict=True
    ):
        if prompts:
            found.append(times.mixed_s(int(b), int(context), int(prompts), int(tokens), int(pairs)))
        else:
            base_s, slope_s, _ = times.decode_line(int(b), int(context))
            found.append(base_s + slope_s * context)
    return np.abs(np.array(found) / rows.device_s - 1.0)


def test_the_decoder_is_what_its_points_give() -> None:
    raw, entry = stored("smollm2-135m-cpu", IterationPoint), read_calibration(FOLDER / "smollm2-135m-cpu.yaml")
    assert entry.provenance.input_sha256 == hashlib.sha256(raw.path.read_bytes()).hexdigest()
    rows, model = rows_of(raw.read()), read_config(FOLDER / "smollm2-135m.config.json", "smollm2-135m")
    assert len(rows) == entry.provenance.rows
    errors = missed(rows, FOLDER / "smollm2-135m-cpu.yaml")
    assert np.median(errors) == pytest.approx(entry.error.in_sample["all"].median, abs=1e-3)
    assert np.quantile(errors, 0.9) == pytest.approx(entry.error.in_sample["all"].p90, abs=1e-3)
    assert entry.error.interior["all"].median < 0.05
    # A shape of 135 million parameters, the published number: 2 FLOPs each for a token, at most what one core can do.
    assert model.parameters == pytest.approx(134.5e6, rel=0.001)
    last = entry.coefficients.dense.s_per_token[-1]
    assert 1e9 < 2 * (model.parameters - model.embedding_parameters) / last < 2e12


def test_the_encoder_is_what_its_points_give() -> None:
    raw, entry = stored("minilm-l6-cpu", BatchPoint), read_batch_calibration(FOLDER / "minilm-l6-cpu.yaml")
    assert entry.provenance.input_sha256 == hashlib.sha256(raw.path.read_bytes()).hexdigest()
    found = sorted((one.point.batch_size, one.seconds) for one in distinct(raw.read()))
    assert [size for size, _ in found] == [size for size, _ in entry.points]
    assert [s for _, s in found] == pytest.approx([s for _, s in entry.points], rel=1e-5)
    assert summary(held_back(entry.points)) == entry.held_back


def test_they_run_in_a_scenario(tmp_path: Path) -> None:
    (tmp_path / "smollm2.yaml").write_text((FOLDER / "smollm2-135m-cpu.yaml").read_text())
    scenario = tmp_path / "scenario.yaml"
    scenario.write_text("""
name: processor
workload:
  classes:
    chat: {arrivals: {kind: poisson, request_rate_rps: 0.1}, prompt_tokens: 64, output_tokens: 16, num_requests: 50}
pools:
  main:
    service_time: {kind: calibrated, file: smollm2.yaml}
    engine: {kind: continuous, max_num_seqs: 16, max_num_batched_tokens: 256, host_time_s: 0.001}
""")
    summary = servesim.simulate(servesim.load(scenario), seed=0).summary
    assert 0.1 < summary["classes"]["chat"]["ttft_s"]["p50"] < 1.0


def test_a_spoiled_file_would_be_noticed(tmp_path: Path) -> None:
    """Without attention, or 10 % slower, the file would not have the error that it states."""
    raw, path = stored("smollm2-135m-cpu", IterationPoint), FOLDER / "smollm2-135m-cpu.yaml"
    rows, stated = rows_of(raw.read()), read_calibration(path).error.in_sample["all"].median
    assert np.median(missed(replace(rows, device_s=1.1 * rows.device_s), path)) > 2 * stated
    none = np.zeros(len(rows))
    assert np.median(missed(replace(rows, decode_context=none, prefill_pairs=none), path)) > 1.3 * stated
