"""GPUs with numbers of their own, and when the catalog's calibrations hold for them."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from servesim.catalog import InlineGpu, gpu, gpus, model, models
from servesim.catalog.calibrations import calibration
from servesim.catalog.config_file import read_config
from servesim.catalog.gpu import same_speed
from servesim.catalog.inline import GpuScale
from servesim.catalog.model import same_shape
from servesim.errors import InputError
from tests.catalog import configs

OWN: dict[str, Any] = {
    "name": "mine",
    "memory_bytes": 80_000_000_000,
    "memory_bandwidth_bytes_per_s": 2e12,
    "bf16_flops": 5e14,
    "usd_per_hour": 1.5,
}


def test_own_numbers() -> None:
    entry = InlineGpu(**OWN).build()
    assert (entry.name, entry.memory_bytes, entry.flops()) == ("mine", 80_000_000_000, 5e14)
    assert entry.fp8_flops is None
    assert entry.sources["bf16_flops"] == "the scenario"


def test_a_base_gives_what_is_left_out() -> None:
    base = gpu("h100_sxm")
    entry = InlineGpu(base="H100", scale=GpuScale(memory_bandwidth=1.2, flops=2.0), memory_bytes=10**11).build()
    assert entry.memory_bandwidth_bytes_per_s == pytest.approx(1.2 * 3.35e12)
    assert (entry.bf16_flops, entry.fp8_flops, entry.fp4_flops) == (2 * 989e12, 2 * 1978e12, None)
    assert (entry.memory_bytes, entry.tdp_w, entry.name) == (10**11, base.tdp_w, "h100_sxm-modified")
    assert InlineGpu(base="h100_sxm").build() is base


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({k: v for k, v in OWN.items() if k != "bf16_flops"}, "give bf16_flops; or base"),
        ({**OWN, "scale": GpuScale(flops=2.0)}, "no base to scale"),
        ({**OWN, "memory_bytes": -1}, "greater than 0"),
        ({**OWN, "bandwidth": 1.0}, "Extra inputs"),
        ({"base": "h100", "memory_bandwidth_bytes_per_s": float("inf")}, "finite"),
    ],
)
def test_incomplete_or_impossible_numbers(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        InlineGpu(**fields)


def test_an_unknown_base() -> None:
    with pytest.raises(InputError, match="did you mean h100_sxm"):
        InlineGpu(base="h101_sxm").build()


def test_every_catalog_entry_is_found_as_itself() -> None:
    assert all(same_speed(gpu(name)) is gpu(name) for name in gpus())
    assert all(same_shape(model(name)) is model(name) for name in models())


def test_price_and_memory_leave_a_calibration_valid_but_speed_does_not(tmp_path: Path) -> None:
    cheap = InlineGpu(base="h100_sxm", usd_per_hour=1.0, memory_bytes=10**11, name="cheap").build()
    path = tmp_path / "config.json"
    path.write_text(json.dumps(configs.LLAMA_31_8B | {"max_position_embeddings": 8192}))
    llama = read_config(path, "my-llama")
    assert calibration(llama, cheap, "vllm").name == "llama-3.1-8b/h100_sxm/vllm-tp1-bf16"
    fast = InlineGpu(base="h100_sxm", scale=GpuScale(flops=1.1)).build()
    with pytest.raises(InputError, match=r"GPU 'h100_sxm-modified'.*write service_time: \{kind: roofline\}"):
        calibration(llama, fast, "vllm")
    path.write_text(json.dumps(configs.LLAMA_32_1B))
    with pytest.raises(InputError, match=r"no calibration of model 'small' on GPU .*: it is not equal to a model"):
        calibration(read_config(path, "small"), fast, "vllm")
