"""The error of the nearest validated deployments: which they are, and that it reaches every answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from servesim import simulate
from servesim.catalog import model
from servesim.catalog.deployments import FittedDeployment, fitted_deployments
from servesim.catalog.layout import Layout, layout_of
from servesim.catalog.model_errors import DeploymentError, MetricError, ModelError, model_error, read_errors, validated
from servesim.errors import InputError
from servesim.experiment.planning.error_band import error_band
from servesim.experiment.result import Result
from servesim.provenance import validated_near
from servesim.report.intervals import interval_grid, interval_lines
from servesim.report.validation import validation_lines
from servesim.scenario.load import parse
from servesim.scenario.resolve import resolve


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


def test_models_of_its_kind_answer_for_a_model() -> None:
    errors = {
        kind: DeploymentError(backend="vllm", kind=kind, rows=9, source="test", e2e_s=MetricError(median=m, p90=m))
        for kind, m in (("dense", 0.1), ("moe", 0.2), (None, 0.3))
    }
    for kind, median in (("dense", 0.1), ("moe", 0.2), (None, 0.3)):
        found = model_error("vllm", "new", "new", kind=kind, known=list(errors.values()))
        assert found is not None
        assert found.metrics["e2e_s"].median == median
    without = model_error("vllm", "new", "new", kind="dense", known=[errors["moe"], errors[None]])
    assert without is not None
    assert without.metrics["e2e_s"].median == 0.3


def test_an_engine_nobody_validated_gets_what_another_ones_deployments_said_of_each_other() -> None:
    error = MetricError(median=0.2, p90=0.5)
    pooled = DeploymentError(backend="vllm", rows=40, source="test", e2e_s=error)
    found = model_error("sglang", "new", "new", known=[*KNOWN, pooled])
    assert found is not None
    assert (found.nearest, found.metrics["e2e_s"].p90) == ("another engine, GPU and model", 0.5)


def layout(**changes) -> Layout:
    made = {"precision": "fp8", "kv_cache_dtype": "fp8", "tensor_parallel_size": 8, "data_parallel_size": 1}
    return Layout(**{**made, "expert_parallel": False, **changes})


def tuned(other: bool, value: float) -> DeploymentError:
    error = MetricError(median=value, p90=2 * value)
    place = {"backend": "vllm", "gpu": "h100", "model": "llama", "rows": 4, "source": "test"}
    return DeploymentError(**place, layouts=[layout()], other_layouts=other, tuned=True, e2e_s=error)


def test_another_layout_is_told_how_layouts_predicted_each_other() -> None:
    known = [tuned(False, 0.01), tuned(True, 0.04)]
    same = model_error("vllm", "h100", "llama", layout(), known=known)
    other = model_error("vllm", "h100", "llama", layout(tensor_parallel_size=4), known=known)
    assert same is not None
    assert other is not None
    assert (same.nearest, same.metrics["e2e_s"].median) == ("this deployment", 0.01)
    assert other.nearest == "this engine, GPU and model with other parallelism or precision"
    assert other.metrics["e2e_s"].median == 0.04
    assert "each parallelism and precision predicted from the others" in other.deployments[0]


def test_wrong_data_of_a_precision_are_told_in_all_its_layouts_and_in_no_other() -> None:
    wrong = {"layouts": [layout(precision="bf16")], "of_precision": True, "e2e_s": MetricError(median=1.0, p90=2.0)}
    known = [tuned(False, 0.01), tuned(True, 0.04), tuned(False, 0.0).model_copy(update=wrong)]
    told = {
        (precision, tp): model_error(
            "vllm", "h100", "llama", layout(precision=precision, tensor_parallel_size=tp), known=known
        )
        for precision in ("fp8", "bf16")
        for tp in (8, 4)
    }
    found = {key: (one.nearest, one.metrics["e2e_s"].median) for key, one in told.items() if one is not None}
    other = "this engine, GPU and model with other parallelism or precision"
    assert found == {
        ("fp8", 8): ("this deployment", 0.01),
        ("fp8", 4): (other, 0.04),
        ("bf16", 8): ("this deployment", 1.0),
        ("bf16", 4): (other, 1.0),
    }


@pytest.mark.parametrize("gpu", ["b200_sxm", "b300_sxm"])
def test_minimax_in_fp8_is_not_told_the_errors_of_nvfp4(gpu: str) -> None:
    """Its measured runs were left out of the fit, for operator data about twice too slow: their error is no secret."""
    for tp in (2, 4):
        found = model_error("vllm", gpu, "minimax-m2.5", layout(tensor_parallel_size=tp), kind="moe")
        assert found is not None
        assert found.metrics["tpot_s"].median > 0.8


def test_another_layout_than_the_only_one_measured_is_told_what_an_unseen_gpu_is() -> None:
    error = MetricError(median=0.09, p90=0.3)
    unseen = DeploymentError(backend="vllm", model="llama", rows=40, source="test", e2e_s=error)
    found = model_error("vllm", "h100", "llama", layout(precision="bf16"), known=[tuned(False, 0.01), unseen])
    assert found is not None
    assert (found.nearest, found.metrics["e2e_s"]) == ("the same engine and model on another GPU", error)


def test_what_was_tuned_on_its_own_runs_says_nothing_of_other_deployments() -> None:
    assert model_error("vllm", "h100", "other", layout(), known=[tuned(False, 0.01), tuned(True, 0.04)]) is None


def test_full_blocks_widen_the_error_and_say_so() -> None:
    error = MetricError(median=0.03, p90=0.5)
    full = DeploymentError(backend="vllm", kv_saturated=True, rows=5, source="test", ttft_s=error, tpot_s=error)
    known = [*KNOWN, full]
    found = model_error("vllm", "a100", "llama", known=known)
    assert found is not None
    assert found.with_full_blocks(known) == found  # validated with whatever blocks there were
    known[1] = KNOWN[1].model_copy(update={"blocks_to_spare": True})
    found = model_error("vllm", "a100", "llama", known=known)
    assert found is not None
    assert not found.kv_saturated
    wide = found.with_full_blocks(known)
    assert wide.kv_saturated == ("ttft_s", "tpot_s")
    assert wide.metrics["ttft_s"] == MetricError(median=0.04, p90=0.5)
    assert wide.metrics["e2e_s"] == found.metrics["e2e_s"]
    assert ModelError.from_json(wide.to_json()) == wide


@pytest.mark.parametrize("entry", [one for one in fitted_deployments() if one.gpu], ids=lambda entry: entry.name)
def test_what_a_fit_had_not_seen_is_the_error_of_its_deployment(entry: FittedDeployment) -> None:
    assert entry.layouts
    for measured in entry.layouts:
        found = model_error(entry.backend, entry.gpu, entry.model, measured)
        assert found is not None
        assert found.nearest == "this deployment"
        assert found.metrics["tpot_s"].p90 == entry.error_held_out.tpot.p90
    other = entry.layouts[0].model_copy(update={"tensor_parallel_size": 16})
    found = model_error(entry.backend, entry.gpu, entry.model, other)
    assert found is not None
    assert found.nearest != "this deployment"
    if entry.error_other_layouts is not None:
        assert found.metrics["ttft_s"].median == entry.error_other_layouts.ttft.median


def test_formats_that_are_timed_alike_are_one_layout() -> None:
    published = layout_of(model("llama-3.1-8b"), None, "auto", 1, 1, True)
    assert published == layout_of(model("llama-3.1-8b"), "bf16", "fp16", 1, 1, False)
    assert published != layout_of(model("llama-3.1-8b"), "fp8", "auto", 1, 1, False)
    assert layout_of(model("gpt-oss-120b"), None, "auto", 1, 1, False).precision == "mxfp4"


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
    assert error_band(facts, wide) == ("validated deployments", pytest.approx(1 / 1.1), pytest.approx(1 / 0.9))
    assert error_band(facts, narrow) == ("calibration", pytest.approx(1 / 1.07), pytest.approx(1 / 0.93))
    assert error_band({"band": (0.7, 2.0)}, wide) == ("estimate", 0.7, 2.0)
    assert error_band({}, None) is None


def test_times_without_the_corrections_are_not_told_the_error_with_them() -> None:
    text = """
name: x
workload: {classes: {chat: {arrivals: {kind: all_at_once}, prompt_tokens: 200, output_tokens: 20, num_requests: 4}}}
pools:
  main: {model: llama-3.1-70b, gpu: h200_sxm, engine: {kind: continuous, tensor_parallel_size: 8, %s}}
"""
    fp8 = "quantization: fp8, kv_cache_dtype: fp8"
    for extra, corrected in (("", True), (", corrections: none, host_time_s: 0", False)):
        pool = resolve(parse(text % (fp8 + extra))).pools[0]
        found = validated_near(pool.spec, pool.plan)
        assert found is not None
        assert (found.nearest == "this deployment") == corrected


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


FITTED = """
name: x
workload:
  classes:
    chat:
      arrivals: {{kind: closed_loop, max_concurrency: 16}}
      prompt_tokens: 4000
      output_tokens: 200
      num_requests: 64
pools:
  main:
    model: llama-3.1-70b
    gpu: h200_sxm
    engine:
      {{kind: continuous, quantization: fp8, kv_cache_dtype: fp8, tensor_parallel_size: {tp}, num_gpu_blocks: {blocks}}}
"""


def told(tp: int = 8, blocks: int = 20_000) -> Result:
    return simulate(parse(FITTED.format(tp=tp, blocks=blocks)))


def test_a_scenario_is_told_the_error_of_its_own_layout() -> None:
    measured, other = (told(tp).summary["intervals"]["calibration"] for tp in (8, 4))
    assert measured["nearest"]["nearest"] == "this deployment"
    assert other["nearest"]["nearest"] == "this engine, GPU and model with other parallelism or precision"
    assert other["relative"] == other["nearest"]["e2e_s"]["median"] != measured["relative"]


def test_a_scenario_whose_blocks_ran_full_is_told_the_error_of_such_runs() -> None:
    roomy, full = told(), told(blocks=1100)
    assert full.summary["pools"]["main"]["kv_usage"]["max"] > 0.9 > roomy.summary["pools"]["main"]["kv_usage"]["max"]
    before, after = (one.summary["provenance"]["validation"]["end_to_end"] for one in (roomy, full))
    assert before["kv_saturated"] == []
    assert "ttft_s" in after["kv_saturated"]
    (of_full,) = [entry for entry in validated() if entry.kv_saturated]
    assert of_full.ttft_s is not None
    assert after["ttft_s"]["p90"] == max(of_full.ttft_s.p90, before["ttft_s"]["p90"])
    assert full.summary["intervals"]["calibration"]["nearest"] == after
    assert "KV blocks ran full: TTFT" in validation_lines(full.summary)[0]
    assert "KV blocks" not in validation_lines(roomy.summary)[0]
    assert full.record.provenance["validation"]["end_to_end"] == before
