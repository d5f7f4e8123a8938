"""The error of the nearest validated deployments: which they are, and that it reaches every answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from servesim import simulate
from servesim.catalog.deployments import fitted_deployments
from servesim.catalog.model_errors import DeploymentError, MetricError, model_error, read_errors, validated
from servesim.errors import InputError
from servesim.experiment.planning.error_band import error_band
from servesim.report.intervals import interval_grid, interval_lines
from servesim.scenario.load import parse


def entry(backend: str, gpu: str, model: str, median: float, p90: float) -> DeploymentError:
    error = MetricError(median=median, p90=p90)
    return DeploymentError(
        backend=backend, gpu=gpu, model=model, rows=4, source="test", ttft_s=error, tpot_s=error, e2e_s=error
    )


KNOWN = [
    entry("vllm", "h100", "llama", 0.02, 0.05),
    entry("vllm", "a100", "llama", 0.04, 0.10),
    entry("vllm", "b200", "llama", 0.06, 0.08),
    entry("trtllm", "h100", "qwen", 0.10, 0.20),
    entry("trtllm", "h200", "qwen", 0.12, 0.30),
]


@pytest.mark.parametrize(
    ("asked", "nearest", "median", "p90"),
    [
        (("vllm", "h100", "llama"), "this deployment", 0.02, 0.05),
        (("vllm", "l40s", "llama"), "the same engine and model on another GPU", 0.04, 0.10),
        (("sglang", "l40s", "qwen"), "the same model under another engine", 0.11, 0.30),
        (("sglang", "h100", "new"), "the same GPU with another engine and model", 0.06, 0.20),
        (("vllm", "new", "new"), "the same engine with another GPU and model", 0.04, 0.10),
    ],
)
def test_the_nearest_deployments_are_taken_and_named(asked, nearest: str, median: float, p90: float) -> None:
    found = model_error(*asked, known=KNOWN)
    assert found is not None
    assert found.nearest == nearest
    assert found.metrics["e2e_s"].median == pytest.approx(median)
    assert found.metrics["e2e_s"].p90 == p90


def test_one_lucky_neighbour_is_not_enough() -> None:
    """A single other deployment of the same model says less than several of the same engine."""
    found = model_error("vllm", "l40s", "llama", known=[KNOWN[0], entry("vllm", "l40s", "other", 0.2, 0.4)])
    assert found is not None
    assert found.nearest == "the same engine with another GPU and model"
    assert found.metrics["tpot_s"].p90 == 0.4


def test_deployments_predicted_from_each_other_answer_for_their_kind() -> None:
    error = MetricError(median=0.09, p90=0.3)
    pooled = DeploymentError(backend="vllm", rows=40, source="test", ttft_s=error, tpot_s=error, e2e_s=error)
    found = model_error("vllm", "new", "new", known=[*KNOWN, pooled])
    assert found is not None
    assert found.metrics["e2e_s"].median == 0.09
    assert found.deployments == ("40 runs of vllm, each deployment predicted from the others",)
    exact = model_error("vllm", "h100", "llama", known=[*KNOWN, pooled])
    assert exact is not None
    assert exact.nearest == "this deployment"


def test_what_a_fit_had_not_seen_is_the_error_of_its_deployment() -> None:
    for entry in fitted_deployments():
        found = model_error(entry.backend, entry.gpu, entry.model)
        if entry.gpu and entry.model:
            assert found is not None
            assert found.metrics["tpot_s"].p90 == entry.error_held_out.tpot.p90


def test_batches_of_whole_requests_say_nothing_of_continuous_batching() -> None:
    known = [entry("triton", "a100", f"vision-{number}", 0.5, 0.7) for number in range(3)]
    assert model_error("vllm", "a100", "llama", known=known) is None
    found = model_error("triton", "a100", "new", known=[*known, KNOWN[1]])
    assert found is not None
    assert found.metrics["e2e_s"].p90 == 0.7
    assert len(found.deployments) == 3


def test_nothing_in_common_is_said() -> None:
    assert model_error("sglang", "new", "new", known=KNOWN) is None


def test_shipped_errors_are_of_what_the_book_validates() -> None:
    assert {("vllm", "rtx_4090", "llama-3.1-8b"), ("vllm", "cpu", "llama-58m")} <= {
        (one.backend, one.gpu, one.model) for one in validated()
    }


def test_a_faulty_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "errors.yaml"
    path.write_text("- {backend: vllm, gpu: x, model: y, rows: 0, source: s}\n")
    with pytest.raises(InputError, match=r"errors\.yaml"):
        read_errors(path)


def test_the_wider_of_both_errors_decides_a_plan() -> None:
    wide, narrow = model_error("vllm", "a100", "llama", known=KNOWN), model_error("vllm", "h100", "llama", known=KNOWN)
    facts = {"held_back_error_p90": 0.07}
    assert error_band(facts, wide) == ("validated deployments", 0.9, 1.1)
    assert error_band(facts, narrow) == ("calibration", pytest.approx(0.93), pytest.approx(1.07))
    assert error_band({"band": (0.7, 2.0)}, wide) == ("estimate", 0.7, 2.0)
    assert error_band({}, None) is None


def test_every_headline_carries_the_models_error() -> None:
    text = """
name: x
workload:
  classes:
    chat:
      arrivals: {kind: poisson, request_rate_rps: 2}
      prompt_tokens: 200
      output_tokens: 20
      num_requests: 3000
pools:
  main: {model: llama-3.1-8b, gpu: rtx_4090, engine: {kind: continuous}}
"""
    summary = simulate(parse(text)).summary
    error = summary["provenance"]["validation"]["end_to_end"]
    assert error["nearest"] == "this deployment"
    assert summary["intervals"]["calibration"]["nearest"] == error
    grid = interval_grid(summary)
    assert grid.headers[-1] == "model error"
    assert all(row[-1].startswith("±") for row in grid.rows if row[0] in ("TTFT", "TPOT", "E2E"))
    assert any("model error ±" in line and "this deployment" in line for line in interval_lines(summary))
