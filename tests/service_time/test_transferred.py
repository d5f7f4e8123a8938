from __future__ import annotations

import numpy as np
import pytest

from servesim.calibrate.transfer_study import iterations_s, study
from servesim.catalog import gpu, model
from servesim.catalog.calibrations import Key, calibrations, read_key
from servesim.errors import InputError
from servesim.scenario.load import parse
from servesim.scenario.resolve import resolve
from servesim.service_time.base import Deployment
from servesim.service_time.calibrated import FormIterationTime
from servesim.service_time.transferred import BANDS, Transferred, carried_over, work_of


def deployment(model_name: str, gpu_name: str, tensor_parallel_size: int = 1) -> Deployment:
    return Deployment(gpu(gpu_name), model(model_name), "vllm", tensor_parallel_size)


def test_carrying_over_to_the_same_deployment_changes_nothing() -> None:
    entry = read_key(Key("llama-3.1-8b", "h100_sxm", "vllm", 1, "bf16", "bf16"))
    assert entry.coefficients is not None
    work = work_of(gpu("h100_sxm"), model("llama-3.1-8b"), 1, None, "auto")
    same = carried_over(entry.coefficients, work, work)
    there, back = (iterations_s(FormIterationTime(c, 8192, 256)) for c in (entry.coefficients, same))
    np.testing.assert_allclose(there, back, rtol=1e-9)


def test_left_out_deployments_are_predicted_within_the_bands_that_are_printed() -> None:
    """A sample of 60: 80 % of the ratios should lie in the band; 10 points of slack are twice the spread of samples."""
    keys = [key for key in calibrations() if key.data_parallel_size == 1 and not key.expert_parallel]
    chosen = [keys[i] for i in np.random.default_rng(1).choice(len(keys), 60, replace=False)]
    found = study(chosen)
    for name, band in BANDS.items():
        inside = ((found[name] >= band.low) & (found[name] <= band.high)).mean()
        assert inside > 0.7, name
    missed = {name: float(np.median(np.abs(ratios - 1))) for name, ratios in found.items()}
    assert missed["model"] < 0.07
    assert missed["model"] < missed["gpu"] < 0.16 < missed["roofline"]


def test_the_nearest_calibration_is_taken_on_the_same_gpu_first() -> None:
    small = Transferred().build(deployment("qwen3-8b", "h100_sxm"))  # leaves its own calibration aside
    assert small.origin.facts["from"] == "llama-3.1-8b/h100_sxm/vllm-tp1-bf16"
    assert small.origin.facts["carried_over"] == "model"
    assert not small.origin.measured
    named = Transferred(source="qwen3-8b/a100_sxm").build(deployment("qwen3-8b", "h100_sxm"))
    assert named.origin.facts["carried_over"] == "gpu"
    assert named.origin.facts["band"] == list(BANDS["gpu"])


def test_a_scenario_without_a_calibration_runs_with_a_warning_and_its_band() -> None:
    text = """
name: x
workload:
  num_requests: 5
  classes:
    c:
      arrivals: {kind: poisson, request_rate_rps: 1}
      prompt_tokens: {kind: fixed, tokens: 100}
      output_tokens: {kind: fixed, tokens: 10}
pools:
  p:
    model: llama-3.1-8b
    gpu: {base: h100_sxm, name: faster, scale: {memory_bandwidth: 1.3}}
    service_time: KIND
"""
    with pytest.raises(InputError, match="transferred"):
        resolve(parse(text.replace("KIND", "calibrated")))
    found = resolve(parse(text.replace("KIND", "transferred"))).pools[0].plan
    assert any("transferred estimate, factor 0.7 to 1.32" in warning for warning in found.warnings)
    base = read_key(Key("llama-3.1-8b", "h100_sxm", "vllm", 1, "bf16", "bf16"))
    assert found.origin.facts["carried_over"] == "gpu"
    assert base.coefficients is not None
    slower = iterations_s(FormIterationTime(base.coefficients, 8192, 256))[0]
    faster = iterations_s(found.times)[0]  # type: ignore[attr-defined]
    assert 1 / 1.3 - 0.02 < faster / slower < 1.0


def test_what_has_no_near_calibration_is_refused_with_the_way_out() -> None:
    with pytest.raises(InputError, match="roofline"):
        Transferred().build(deployment("llama-3.1-8b", "h100_sxm", tensor_parallel_size=64))
    with pytest.raises(InputError, match=r"called 'nobody/knows' .* there are qwen3-8b/h100_sxm, .* and \d+ more"):
        Transferred(source="nobody/knows").build(deployment("llama-3.1-8b", "h100_sxm"))
    with pytest.raises(InputError, match=r"own deployment: write service_time: \{kind: calibrated\}"):
        Transferred(source="llama-3.1-8b/h100_sxm").build(deployment("llama-3.1-8b", "h100_sxm"))
