from __future__ import annotations

import math
from typing import Any

import pytest

from servesim.catalog import gpu, model
from servesim.catalog.model import LatentAttention
from servesim.errors import InputError
from servesim.service_time.base import Deployment, IterationTime
from servesim.service_time.roofline import Roofline
from tests.service_time import sanity


def build(model_name: str = "llama-3.1-8b", gpu_name: str = "h100_sxm", **deployment: Any) -> IterationTime:
    spec = Roofline(bandwidth_efficiency=1.0, compute_efficiency=1.0)
    return spec.build(Deployment(gpu=gpu(gpu_name), model=model(model_name), **deployment))


def test_reading_the_weights_of_llama_3_8b_on_h100() -> None:
    base_s, slope_s, _ = build().decode_line(1, 0)
    assert base_s == pytest.approx(8.03e9 * 2 / 3.35e12, rel=1e-4)
    assert base_s == pytest.approx(4.794e-3, abs=5e-7)
    assert slope_s == pytest.approx(131072 / 3.35e12)


def test_a_large_prefill_is_compute_bound() -> None:
    llama = model("llama-3.1-8b")
    flops = 2 * llama.parameters * 8192 + 4 * 32 * 32 * 128 * (8192 * 8193 // 2)
    assert build().mixed_s(0, 0, 1, 8192, 8192 * 8193 // 2) == pytest.approx(flops / 989e12)


@pytest.mark.parametrize(("batch", "contexts"), [(1, (0, 10**6)), (280, (0, 3000, 10**5)), (2000, (0, 10**6, 10**8))])
def test_decode_lines_are_the_maximum_of_memory_and_compute(batch: int, contexts: tuple[int, ...]) -> None:
    llama, time = model("llama-3.1-8b"), build()
    for context in contexts:
        memory_s = (llama.weight_bytes() + 131072 * context) / 3.35e12
        compute_s = (2 * llama.parameters * batch + 4 * 32 * 32 * 128 * context) / 989e12
        assert sanity.decode_s(time, batch, context) == pytest.approx(max(memory_s, compute_s))


def test_the_line_bends_where_memory_overtakes_compute() -> None:
    base_s, slope_s, limit = build().decode_line(400, 0)
    assert math.isfinite(limit)
    next_base_s, next_slope_s, next_limit = build().decode_line(400, math.floor(limit) + 1)
    assert next_limit == math.inf
    assert next_slope_s > slope_s
    assert next_base_s + next_slope_s * limit == pytest.approx(base_s + slope_s * limit)


def test_the_line_bends_where_compute_overtakes_memory() -> None:
    # Slow arithmetic and fast memory: attention in the context costs more to compute than to read.
    slow = gpu("h100_sxm").model_copy(update={"bf16_flops": 2e12, "memory_bandwidth_bytes_per_s": 1e12})
    llama = model("llama-3.1-8b").model_copy(update={"heads": 256})
    spec = Roofline(bandwidth_efficiency=1.0, compute_efficiency=1.0)
    time = spec.build(Deployment(gpu=slow, model=llama))
    base_s, slope_s, limit = time.decode_line(1, 0)
    assert (base_s, slope_s) == (pytest.approx(llama.weight_bytes() / 1e12), pytest.approx(131072 / 1e12))
    assert math.isfinite(limit)
    _, next_slope_s, next_limit = time.decode_line(1, math.floor(limit) + 1)
    assert next_slope_s == pytest.approx(4 * 32 * 256 * 128 / 2e12)
    assert next_limit == math.inf
    sanity.check(time)


def test_a_mixture_of_experts_reads_only_the_experts_it_wakes() -> None:
    moe = model("qwen3-30b-a3b")
    alone, _, _ = build("qwen3-30b-a3b").decode_line(1, 0)
    crowd, _, _ = build("qwen3-30b-a3b").decode_line(200, 0)
    shared = moe.weight_bytes() - 2.0 * moe.expert_parameters
    assert alone == pytest.approx((shared + 2.0 * moe.expert_parameters * 8 / 128) / 3.35e12)
    assert crowd == pytest.approx(moe.weight_bytes() / 3.35e12, rel=1e-4)


def test_tensor_parallelism_divides_work_and_adds_communication() -> None:
    one, _, _ = build("llama-3.1-70b", tensor_parallel_size=1).decode_line(1, 0)
    four, _, _ = build("llama-3.1-70b", tensor_parallel_size=4).decode_line(1, 0)
    all_reduce_s = 2 * 80 * 8192 * 2 * (2 * 3 / 4) / 450e9
    assert four == pytest.approx(one / 4 + all_reduce_s, rel=1e-3)
    with pytest.raises(InputError, match="link_bytes_per_s"):
        build(gpu_name="l40s", tensor_parallel_size=2)
    linked = Roofline(link_bytes_per_s=32e9).build(Deployment(gpu("l40s"), model("llama-3.1-8b"), "vllm", 2))
    assert linked.decode_line(1, 0)[0] > 0


def test_it_is_labelled_an_estimate_with_a_band() -> None:
    origin = Roofline().build(Deployment(gpu("h100_sxm"), model("qwen3-32b"))).origin
    assert not origin.measured
    low, high = origin.facts["band"]
    assert 0 < low < 1 < high


def test_it_needs_a_gpu_and_a_model() -> None:
    with pytest.raises(InputError, match="gpu"):
        Roofline().build(Deployment())


@pytest.mark.parametrize("model_name", ["llama-3.1-8b", "qwen3-30b-a3b", "gpt-oss-120b"])
def test_physical_sanity(model_name: str) -> None:
    sanity.check(build(model_name))


def test_layers_with_a_window_read_no_more_than_the_window() -> None:
    gpt, time = model("gpt-oss-20b"), build("gpt-oss-20b")
    per_layer_s = 2 * 8 * 64 * 2 / 3.35e12
    _, slope_s, limit = time.decode_line(4, 0)
    assert (slope_s, limit) == (pytest.approx(24 * per_layer_s), 4 * 128)
    base_s, slope_s, limit = time.decode_line(4, 513)
    assert (slope_s, limit) == (pytest.approx(12 * per_layer_s), math.inf)
    at_zero, _, _ = time.decode_line(4, 0)
    assert base_s == pytest.approx(at_zero + 12 * 512 * per_layer_s)
    assert gpt.sliding_window_layers == 12


def test_latent_attention_by_hand() -> None:
    latent = LatentAttention(
        q_lora_rank=1536, kv_lora_rank=512, qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128
    )
    entry = model("llama-3.1-8b").model_copy(update={"latent": latent})
    spec = Roofline(bandwidth_efficiency=1.0, compute_efficiency=1.0)
    time = spec.build(Deployment(gpu("h100_sxm"), entry))
    assert time.decode_line(1, 0)[1] == pytest.approx(576 * 2 * 32 / 3.35e12)  # one latent vector per token and layer
    alone, paired = time.mixed_s(0, 0, 1, 8192, 0), time.mixed_s(0, 0, 1, 8192, 10**9)
    assert paired - alone == pytest.approx(10**9 * 32 * 2 * 32 * (128 + 64 + 128) / 989e12)
    sanity.check(time)
