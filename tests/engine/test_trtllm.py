"""What TensorRT-LLM does otherwise: nobody is evicted, and prefill may wait for company."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from servesim.engine.continuous import ContinuousEngine
from servesim.engine.settings import EngineSettings
from servesim.errors import InputError
from servesim.scenario.resolve import resolve
from servesim.scenario.schema import Scenario
from tests.engine.harness import ENGINES, BentTimes, Job, play

TIGHT = EngineSettings(max_num_seqs=8, max_num_batched_tokens=400, block_size=4, num_gpu_blocks=41)
WHOLE = EngineSettings(max_num_seqs=64, max_num_batched_tokens=100, enable_chunked_prefill=False, max_model_len=100)


@pytest.mark.parametrize("engine", ENGINES)
def test_nobody_is_evicted_where_the_other_policy_evicts(engine: type) -> None:
    jobs = [Job(0.01 * i, 30, 60) for i in range(20)]
    assert play(engine, jobs, TIGHT).engines[0].preemptions > 0
    outcome = play(engine, jobs, replace(TIGHT, guaranteed_no_evict=True))
    assert outcome.engines[0].preemptions == 0
    # 40 blocks of 4 hold one sequence of 89 entries (23 blocks), not two.
    assert max(outcome.runs[0]["decode_seqs"]) == 1


def second_prefill_s(engine: type, waiting: int, **settings: Any) -> float:
    """Return how long after its arrival the second request is first scheduled, in iterations of 10 ms."""
    jobs = [Job(0.0, 10, 80), *(Job(0.105, 10, 5) for _ in range(waiting))]
    outcome = play(engine, jobs, replace(WHOLE, **settings), BentTimes(base_s=0.01))
    return float(outcome.requests["first_scheduled_s"][1] - 0.105) / 0.01


@pytest.mark.parametrize("engine", ENGINES)
def test_prefill_waits_for_company_but_not_for_ever(engine: type) -> None:
    at_once = second_prefill_s(engine, 1)
    held = second_prefill_s(engine, 1, batch_wait_timeout_iters=20, batch_wait_tokens=90.0)
    assert held - at_once == pytest.approx(20.0)
    # 9 prompts of 10 tokens and the decoding sequence: more than 90 tokens, so that nobody waits.
    assert second_prefill_s(engine, 9, batch_wait_timeout_iters=20, batch_wait_tokens=90.0) == pytest.approx(at_once)


@pytest.mark.parametrize("engine", ENGINES)
def test_without_anybody_decoding_nothing_waits(engine: type) -> None:
    settings = replace(WHOLE, batch_wait_timeout_iters=1000, batch_wait_tokens=90.0)
    outcome = play(engine, [Job(0.0, 10, 5)], settings)
    assert outcome.requests["first_scheduled_s"][0] == 0.0


def test_requests_that_leave_while_prefill_is_held_leave_no_trace() -> None:
    jobs = [Job(0.0, 10, 80), Job(0.1, 10, 5, cancel_after_s=0.05), Job(0.4, 10, 5)]
    outcome = play(ContinuousEngine, jobs, replace(WHOLE, batch_wait_timeout_iters=20, batch_wait_tokens=15.0))
    engine = outcome.engines[0]
    assert engine.outstanding == 0
    assert engine.kv.free == engine.kv.usable
    assert not np.isnan(outcome.requests["first_scheduled_s"][2])


def settings_of(backend: str, **engine: Any) -> EngineSettings:
    pool = {"model": "llama-3.1-70b", "gpu": "h200_sxm", "backend": backend}
    pool["engine"] = {"tensor_parallel_size": 8, "quantization": "fp8", "kv_cache_dtype": "fp8", **engine}
    client = {"arrivals": {"kind": "closed_loop", "max_concurrency": 1}, "prompt_tokens": 100, "output_tokens": 10}
    workload = {"classes": {"c": {**client, "num_requests": 1}}}
    found = resolve(Scenario.model_validate({"name": "s", "workload": workload, "pools": {"main": pool}}))
    return found.pools[0].plan.settings  # type: ignore[attr-defined]


def test_the_defaults_are_those_of_the_engine() -> None:
    trtllm, vllm = settings_of("trtllm"), settings_of("vllm")
    assert (trtllm.enable_chunked_prefill, trtllm.guaranteed_no_evict, trtllm.block_size) == (False, True, 32)
    assert (vllm.enable_chunked_prefill, vllm.guaranteed_no_evict, vllm.block_size) == (True, False, 16)
    assert trtllm.batch_wait_timeout_iters == 0
    # 0.9 of what the weights leave is less than 0.92 of everything without the weights.
    tokens = [s.num_gpu_blocks * s.block_size for s in (trtllm, vllm)]
    assert 0.9 < tokens[0] / tokens[1] < 1.0
    given = settings_of("trtllm", capacity_scheduler_policy="max_utilization", block_size=64)
    assert (given.guaranteed_no_evict, given.block_size) == (False, 64)


def test_chunks_cannot_be_held_back() -> None:
    with pytest.raises(ValueError, match="needs enable_chunked_prefill: false"):
        settings_of("trtllm", batch_wait_timeout_iters=20, enable_chunked_prefill=True)
    held = settings_of("trtllm", batch_wait_timeout_iters=20, batch_wait_max_tokens_ratio=0.5, max_num_seqs=8)
    assert held.batch_wait_tokens == 0.5 * held.max_num_batched_tokens


def test_data_parallel_groups_add_up() -> None:
    pool = {"data_parallel_size": 2, "enable_expert_parallel": True, "tensor_parallel_size": 1, "max_num_seqs": 64}
    with pytest.raises(InputError, match="vllm-tp1-dp2-ep-fp8-kvfp8"):
        settings_of("vllm", **pool)  # a dense model was never measured so
