from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from servesim.catalog import Gpu, gpu, gpus, kv_blocks, model, models
from servesim.errors import InputError


@pytest.mark.parametrize(
    ("name", "parameters", "tolerance"),
    [
        ("llama-3.1-8b", 8_030_261_248, 0),  # safetensors index of the checkpoint
        ("llama-3.1-70b", 70_553_706_496, 0),
        ("qwen3-8b", 8.19e9, 0.001),
        ("qwen3-32b", 32.8e9, 0.002),
        ("qwen3-30b-a3b", 30.5e9, 0.002),
        ("qwen3-235b-a22b", 235e9, 0.002),
        ("gpt-oss-120b", 116.83e9, 0.0001),  # model card, table 1
        ("gpt-oss-20b", 20.91e9, 0.001),
        ("minimax-m2.5", 230e9, 0.01),
    ],
)
def test_parameter_count_is_the_published_one(name: str, parameters: float, tolerance: float) -> None:
    assert model(name).parameters == pytest.approx(parameters, rel=tolerance or 1e-15)


@pytest.mark.parametrize(
    ("name", "active", "tolerance"),
    [("qwen3-30b-a3b", 3.3e9, 0.02), ("qwen3-235b-a22b", 22e9, 0.02), ("gpt-oss-120b", 5.13e9, 0.002)],
)
def test_active_parameters_are_the_published_ones(name: str, active: float, tolerance: float) -> None:
    entry = model(name)
    # The gpt-oss card counts the output head as active, but not the input embedding.
    without = entry.vocab * entry.hidden if name.startswith("gpt-oss") else 0
    assert entry.active_parameters - without == pytest.approx(active, rel=tolerance)


@pytest.mark.parametrize(("name", "gib"), [("gpt-oss-120b", 60.8), ("gpt-oss-20b", 12.8)])
def test_mxfp4_weights_weigh_what_the_published_checkpoint_does(name: str, gib: float) -> None:
    assert model(name).weight_bytes() / 2**30 == pytest.approx(gib, rel=0.005)


def test_quantized_weights_get_lighter_in_order() -> None:
    llama = model("llama-3.1-70b")
    sizes = [llama.weight_bytes(q) for q in (None, "fp8", "nvfp4", "mxfp4", "awq")]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 2 * llama.parameters
    with pytest.raises(InputError, match="unknown quantization 'fp7'"):
        llama.weight_bytes("fp7")


def test_kv_bytes_per_token() -> None:
    llama = model("llama-3.1-8b")
    assert llama.kv_bytes_per_token() == 131072
    assert llama.kv_bytes_per_token("fp8") == 65536
    assert llama.kv_bytes_per_token(tensor_parallel_size=4) == 32768
    assert llama.kv_bytes_per_token(tensor_parallel_size=16) == 131072 / 8  # one KV head on each GPU, replicated
    with pytest.raises(InputError, match="kv_cache_dtype"):
        llama.kv_bytes_per_token("fp3")


def test_tensor_parallel_weights_add_up_to_a_little_more_than_one_copy() -> None:
    for name in models():
        entry = model(name)
        whole = entry.weight_bytes()
        for tp in (1, 2, 4):
            assert whole <= tp * entry.weight_bytes_per_gpu(tensor_parallel_size=tp) * (1 + 1e-12)
            assert tp * entry.weight_bytes_per_gpu(tensor_parallel_size=tp) < 1.02 * whole


def test_expected_experts_against_drawing_them() -> None:
    # 128 experts, 8 per token, 16 tokens: each expert is missed by all with probability (1 - 8/128)^16.
    entry = model("qwen3-30b-a3b")
    assert entry.expected_experts(1) == pytest.approx(8)
    assert entry.expected_experts(16) == pytest.approx(128 * (1 - (120 / 128) ** 16))
    assert entry.expected_experts(100_000) == pytest.approx(128)
    assert model("llama-3.1-8b").expected_experts(16) == 0


def test_kv_blocks_exactly() -> None:
    assert kv_blocks(80e9, 0.9, 16.06e9, 131072, 16, 0) == 26674


def test_a_model_that_does_not_fit_says_by_how_much() -> None:
    with pytest.raises(InputError, match=r"does not fit: 69\.1[0-9] GB short"):
        kv_blocks(80e9, 0.9, 141.1e9, 327680, 16, 0)
    # One byte less than a block is already too little; exactly one block is enough.
    assert kv_blocks(1600.0, 1.0, 0.0, 100.0, 16, 0.0) == 1
    with pytest.raises(InputError):
        kv_blocks(1599.0, 1.0, 0.0, 100.0, 16, 0.0)


@pytest.mark.parametrize("name", gpus())
def test_every_gpu_number_has_a_source_and_sane_units(name: str) -> None:
    entry = gpu(name)
    numbers = {k for k, v in entry.model_dump().items() if isinstance(v, int | float)}
    assert numbers == set(entry.sources)
    assert 0.9 * entry.memory_nominal_bytes < entry.memory_bytes < 1.08 * entry.memory_nominal_bytes
    assert 1e11 < entry.memory_bandwidth_bytes_per_s < 2e13
    assert entry.bf16_flops is None or 1e13 < entry.bf16_flops < 1e16


@pytest.mark.parametrize("name", models())
def test_every_model_says_where_its_shape_comes_from(name: str) -> None:
    assert {"config", "check"} <= set(model(name).sources)


def test_names_aliases_and_the_nearest_name() -> None:
    assert gpu("NVIDIA H100 80GB HBM3") is gpu("h100-sxm") is gpu("h100_sxm")
    assert model("meta-llama/Llama-3.1-8B-Instruct") is model("llama-3.1-8b")
    assert {"a100_sxm", "h100_sxm", "h200_sxm", "b200_sxm", "l40s", "rtx_pro_6000_server"} <= set(gpus())
    with pytest.raises(InputError, match=r"unknown GPU 'h101_sxm'; did you mean h100_sxm"):
        gpu("h101_sxm")
    with pytest.raises(InputError, match=r"did you mean llama-3\.1-8b"):
        model("lama-3.1-8b")


def test_throughput_of_a_dtype_the_gpu_lacks() -> None:
    assert gpu("h100_sxm").flops("fp16") == 989e12
    with pytest.raises(InputError, match="no known fp8"):
        gpu("a100_sxm").flops("fp8")


def test_facts_are_frozen_and_strict() -> None:
    entry = gpu("l4")
    with pytest.raises(ValidationError):
        entry.tdp_w = 1.0  # type: ignore[misc]
    with pytest.raises(ValidationError):
        Gpu(**{**entry.model_dump(), "memory_bytes": -1})


def test_the_catalog_imports_nothing_heavy() -> None:
    code = "import sys, servesim.catalog; print(*{'pandas', 'scipy', 'simpy', 'torch'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""
