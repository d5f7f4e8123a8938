"""Which error of the iteration times a plan decides with: that of the candidate as it turned out."""

from __future__ import annotations

import pytest

from servesim.catalog.model_errors import validated
from servesim.experiment.planning.candidates import Candidate
from servesim.experiment.planning.decide import Judgement
from servesim.experiment.planning.doubt import validated_error
from servesim.experiment.planning.observe import Laboratory
from servesim.experiment.planning.search import Found
from servesim.scenario.load import parse
from servesim.scenario.resolve import resolve

SCENARIO = """
name: x
workload:
  classes:
    chat:
      arrivals: {{kind: closed_loop, max_concurrency: 16}}
      prompt_tokens: 4000
      output_tokens: 200
      num_requests: 64
      slo: {{ttft_s: 5, attainment: 0.9}}
pools:
  main:
    model: llama-3.1-70b
    gpu: h200_sxm
    engine:
      {{kind: continuous, quantization: fp8, kv_cache_dtype: fp8, tensor_parallel_size: {tp}, num_gpu_blocks: {blocks}}}
"""


def found(tp: int = 8, blocks: int = 20_000) -> Found:
    """A candidate of one replica, simulated once."""
    resolved = resolve(parse(SCENARIO.format(tp=tp, blocks=blocks)))
    candidate = Candidate({}, resolved.scenario, "main", resolved.pools[0].plan, tp, None)
    trial = Laboratory(seed=1).trial(candidate.of_size(1))
    trial.extend(1)
    return Found(candidate, 1, Judgement("meets", (), 1, False), trial)


def test_each_layout_is_doubted_by_its_own_error() -> None:
    measured, other = (validated_error(found(tp)) for tp in (8, 4))
    assert measured is not None
    assert other is not None
    assert (measured.nearest, other.nearest) == (
        "this deployment",
        "this engine, GPU and model with other parallelism or precision",
    )
    assert measured.metrics["tpot_s"] != other.metrics["tpot_s"]


def test_a_size_that_fills_its_blocks_is_doubted_by_runs_that_did() -> None:
    roomy, full = validated_error(found()), validated_error(found(blocks=1100))
    (of_full,) = [entry for entry in validated() if entry.kv_saturated]
    assert roomy is not None
    assert full is not None
    assert of_full.tpot_s is not None
    assert not roomy.kv_saturated
    assert full.metrics["tpot_s"].p90 == pytest.approx(max(of_full.tpot_s.p90, roomy.metrics["tpot_s"].p90))
    assert "ttft_s" in full.kv_saturated
