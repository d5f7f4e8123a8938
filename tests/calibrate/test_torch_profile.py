"""From points to a calibration file, on a made-up device whose truth is known: no torch needed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from servesim.calibrate.iteration_fit import fit_iterations
from servesim.calibrate.terms import Form, choose
from servesim.calibrate.torch_measure import Campaign, Measured, Repeats
from servesim.calibrate.torch_plan import Plan
from servesim.calibrate.torch_points import BatchPoint, IterationPoint, Limits, iteration_points
from servesim.calibrate.torch_profile import batch_outcome, decoder_outcome, measured, rows_of
from servesim.calibrate.torch_subjects import SHAPES, SMALL_DECODER, fields_of, subject_of
from servesim.catalog import model, models
from servesim.catalog.batch_calibrations import read_batch_calibration
from servesim.catalog.calibrations import read_calibration
from servesim.errors import InputError, ServesimError
from servesim.service_time.base import Deployment
from servesim.service_time.calibrated import Calibrated
from tests.data import ROOT
from tests.service_time import sanity

LIMITS = Limits(max_num_seqs=64, max_context=4096, max_prefill_tokens=2048, kv_tokens=100_000)
TRUTH = {"base": 4e-3, "per_seq": 3e-5, "context": 6e-8, "pairs": 2e-9, "flat": 1e-6, "bound": 2.2e-5}


def truth_s(p: IterationPoint) -> float:
    """Flat to 64 tokens, then compute-bound, as matrices are."""
    n = p.scheduled_tokens
    return (
        TRUTH["base"]
        + TRUTH["flat"] * min(n, 64)
        + TRUTH["bound"] * max(0, n - 64)
        + TRUTH["per_seq"] * (p.decode_seqs + p.prefill_seqs)
        + TRUTH["context"] * p.decode_seqs * p.decode_context
        + TRUTH["pairs"] * p.prefill_pairs
    )


class Machine:
    """Runs in no time; every run scatters, and one in twelve is disturbed by something else."""

    def __init__(self, seed: int = 0, wild: float = 1 / 12) -> None:
        self.rng, self.wild = np.random.default_rng(seed), wild

    def prepare(self, point: IterationPoint) -> Callable[[], float]:
        def run() -> float:
            factor = float(np.exp(self.rng.normal(0, 0.02)))
            return truth_s(point) * factor * (4.0 if self.rng.random() < self.wild else 1.0)

        return run

    def state(self) -> dict[str, float]:
        return {}


def profiled(count: int = 120) -> list[Measured[IterationPoint]]:
    points = iteration_points(LIMITS, count, 0)
    rule = Repeats(max_s=1e9, most=60)
    return Campaign(Machine(), points, rule, lambda one: None, 1e9, lambda a, b: False).run()[0]


def plan(tmp_path: Path, **changes: Any) -> Plan:
    device = SimpleNamespace(is_cuda=False, clock="wall", threads=2, software=lambda: "torch 0")
    found = Plan(
        subject=SMALL_DECODER, device=device, gpu="made_up", dtype="bf16", quantization=None, compiled=False,
        budget_s=1e9, points=120, rule=Repeats(max_s=1e9, most=60), seed=0, max_num_seqs=None, max_context=None,
        max_prefill_tokens=None, max_batch_size=None, output=tmp_path / "made.yaml", picture=tmp_path / "made.png",
        date=None, resume=False,
    )  # fmt: skip
    return replace(found, **changes)


def test_a_known_machine_is_recovered_within_five_percent() -> None:
    rows = rows_of(profiled())
    found = fit_iterations(rows, None, choose(rows, None, 8))
    assert found.values["base"] == pytest.approx(TRUTH["base"], rel=0.05)
    assert found.values["per_seq"] == pytest.approx(TRUTH["per_seq"], rel=0.15)  # 2 ms of at most 60
    assert found.values["context_0"] == pytest.approx(TRUTH["context"], rel=0.05)
    assert found.values["per_prefill_pair"] == pytest.approx(TRUTH["pairs"], rel=0.05)
    last = max((name for name in found.values if name.startswith("dense_")), key=lambda name: int(name[6:]))
    assert found.values[last] == pytest.approx(TRUTH["bound"], rel=0.05)
    assert np.median(found.errors["interior"]) < 0.015
    assert 32 <= max(found.form.dense) <= 128


def test_a_wrong_model_fails() -> None:
    """Without the knot at the bound of compute, or without attention, errors are ten times the noise (below 1 %)."""
    rows = rows_of(profiled())
    straight = fit_iterations(rows, None, Form(per_seq=True))
    assert np.quantile(straight.errors["interior"], 0.9) > 0.08
    blind = replace(rows, decode_context=np.zeros(len(rows)), prefill_pairs=np.zeros(len(rows)))
    assert np.quantile(fit_iterations(blind, None).errors["in_sample"], 0.9) > 0.1


def test_the_file_serves_a_scenario_at_once(tmp_path: Path) -> None:
    asked = plan(tmp_path)
    found, left = measured(asked, IterationPoint, Machine(), iteration_points(LIMITS, 120, 0), lambda a, b: False, None)
    assert left == 0
    outcome = decoder_outcome(asked, found, ["a note"])
    entry = read_calibration(asked.output)
    assert entry == outcome.entry
    assert (entry.validity.max_decode_seqs, entry.validity.max_prefill_tokens) == (64, 2048)
    assert entry.noise is not None
    assert 0.01 < entry.noise.sigma < 0.05
    assert "visited again" in entry.scatter
    assert (tmp_path / "made.png").stat().st_size > 10_000
    assert any("kind: calibrated" in line for line in outcome.text)
    times = Calibrated(file=str(asked.output)).build(Deployment())
    sanity.check(times)
    for point in (IterationPoint(20, 700), IterationPoint(3, 2000)):
        base_s, slope_s, _ = times.decode_line(point.decode_seqs, point.decode_seqs * point.decode_context)
        seconds = base_s + slope_s * point.decode_seqs * point.decode_context
        assert seconds == pytest.approx(truth_s(point), rel=0.03)


def test_a_split_model_says_over_what_it_was_split(tmp_path: Path) -> None:
    asked = plan(tmp_path, tensor_parallel_size=2, ranks=("made_up", "made_up_2"))
    found, _ = measured(asked, IterationPoint, Machine(), iteration_points(LIMITS, 80, 0), lambda a, b: False, None)
    outcome = decoder_outcome(asked, found, [])
    entry = read_calibration(asked.output)
    assert entry.tensor_parallel_size == 2
    assert "tensor parallel over made_up, made_up_2 by gloo; the slowest rank's time" in entry.provenance.method
    assert any("engine: {kind: continuous, tensor_parallel_size: 2}" in line for line in outcome.text)
    assert asked.identity() != plan(tmp_path).identity()


def test_too_few_points_are_kept_and_said(tmp_path: Path) -> None:
    asked = plan(tmp_path)
    found, _ = measured(asked, IterationPoint, Machine(), iteration_points(LIMITS, 30, 0), lambda a, b: False, None)
    with pytest.raises(ServesimError, match=r"30 points measured, a fit needs 50: .*--resume"):
        decoder_outcome(asked, found, [])
    assert not asked.output.exists()
    again = replace(asked, resume=True)
    found, _ = measured(again, IterationPoint, Machine(1), iteration_points(LIMITS, 80, 0), lambda a, b: False, None)
    decoder_outcome(again, found, [])
    assert asked.output.exists()


def test_batch_times_become_a_batch_calibration(tmp_path: Path) -> None:
    asked = plan(tmp_path, subject=subject_of("bert-base"))
    asked.raw_path.write_text("raw")
    found = [
        Measured(BatchPoint(n), s, 0.99 * s, 1.01 * s, 0.01, 9, True)
        for n, s in ((4, 6e-3), (1, 3e-3), (2, 4e-3), (8, 1e-2))
    ]
    outcome = batch_outcome(asked, found, [])
    entry = read_batch_calibration(asked.output)
    assert entry == outcome.entry
    assert [tuple(point) for point in entry.points] == [(1, 0.003), (2, 0.004), (4, 0.006), (8, 0.01)]
    assert entry.variant == "torch-bf16-128p"
    assert entry.held_back.max < 1e-9
    with pytest.raises(ServesimError, match="2 batch sizes measured"):
        batch_outcome(asked, found[:2], [])


@pytest.mark.parametrize("name", [name for name in models() if not name.startswith(("gpt-oss", "minimax"))])
def test_catalogued_decoders_have_a_family(name: str) -> None:
    fields = fields_of(model(name))
    assert fields["model_type"] in ("llama", "qwen2", "qwen3", "qwen3_moe", "mixtral")
    assert fields["num_hidden_layers"] == model(name).layers


def test_what_cannot_be_profiled_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown model 'lama'"):
        subject_of("lama")
    with pytest.raises(InputError, match=r"its catalog entry does not name its family; give its config.json"):
        fields_of(model("minimax-m2.5"))
    with pytest.raises(InputError, match="is for text encoders"):
        subject_of("llama-3.1-8b", prompt_tokens=3)
    with pytest.raises(InputError, match="above the 512 positions"):
        subject_of("bert-base", prompt_tokens=4000)
    odd = tmp_path / "config.json"
    odd.write_text('{"_class_name": "VQModel"}')
    with pytest.raises(InputError, match="VQModel is not profiled"):
        subject_of(str(odd))
    odd.write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        subject_of(str(odd))


def test_known_shapes_have_tasks_of_their_own() -> None:
    assert {subject_of(name).task for name in SHAPES} == {
        "text encoder", "image classification", "speech recognition", "diffusion step",
    }  # fmt: skip


def test_none_of_this_needs_torch() -> None:
    """Designing, measuring, fitting and serving load it no more than the command line's help does."""
    modules = ("calibrate.torch_profile", "calibrate.torch_device", "validation.live_plan", "cli.validate_live")
    loaded = "print({'torch', 'transformers', 'diffusers'} & set(sys.modules))"
    code = "; ".join(["import sys", *(f"import servesim.{name}" for name in modules), loaded])
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.strip() == "set()"
