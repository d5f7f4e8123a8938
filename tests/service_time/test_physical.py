"""No service time may beat the GPU's peaks."""

import pytest

from servesim.catalog import gpu, model
from servesim.catalog.calibrations import FASTER_THAN_THE_GPU, calibrations
from servesim.errors import InputError
from servesim.service_time.affine import Affine
from servesim.service_time.base import Deployment
from servesim.service_time.calibrated import Calibrated
from servesim.service_time.physical import LeastSeconds, offences, refuse_impossible
from servesim.service_time.roofline import Roofline


# Operators were timed one at a time, and the eight woken experts of a layer (75 MB) fit in the L40S's cache: likely the
# reason. The weights do not fit its memory, so nobody can run them.
def check(step: int) -> set[str]:
    found = set()
    for key in calibrations()[::step]:
        deployment = Deployment(
            gpu=gpu(key.gpu),
            model=model(key.model),
            backend=key.backend,
            tensor_parallel_size=key.tensor_parallel_size,
            quantization=key.precision,
            kv_cache_dtype=key.kv_cache_dtype,
            max_num_batched_tokens=32768,
            data_parallel_size=key.data_parallel_size,
            expert_parallel=key.expert_parallel,
        )
        if offences(Calibrated().build(deployment), deployment):
            found.add(f"{key.model}/{key.gpu}/{key.stem}")
    return found


def test_a_part_of_the_catalog_is_physical() -> None:
    assert check(17) <= FASTER_THAN_THE_GPU


@pytest.mark.slow
def test_the_whole_catalog_is_physical_but_for_three() -> None:
    assert check(1) == FASTER_THAN_THE_GPU


def test_the_bounds_by_hand() -> None:
    llama = Deployment(gpu("h100_sxm"), model("llama-3.1-8b"))
    head = 128256 * 4096
    least = LeastSeconds(llama)
    read = 2 * (8_030_261_248 - head) + 131072 * 1000
    assert least.decode(1, 1000).seconds == pytest.approx(read / 3.35e12)
    matrices = 2 * (model("llama-3.1-8b").dense_parameters * 8192 + head)
    pairs = 4 * 32 * 4096 * (8192 * 8193 // 2)
    assert least.prefill(8192, 8192 * 8193 // 2).seconds == pytest.approx((matrices + pairs) / 989e12)


def test_tensor_parallelism_and_narrow_weights_lower_the_bound() -> None:
    def bound(**deployment: object) -> float:
        return LeastSeconds(Deployment(gpu("h100_sxm"), model("llama-3.1-70b"), **deployment)).decode(1, 0).seconds  # type: ignore[arg-type]

    assert bound(tensor_parallel_size=4) == pytest.approx(bound() / 4, rel=0.001)
    assert bound(quantization="fp8") == pytest.approx(bound() / 2, rel=0.02)


def test_a_mixture_of_experts_need_only_read_what_one_token_wakes() -> None:
    moe = model("qwen3-30b-a3b")
    deployment = Deployment(gpu("h100_sxm"), moe)
    read = 2 * (moe.parameters - moe.vocab * moe.hidden - moe.expert_parameters * 120 / 128)
    assert LeastSeconds(deployment).decode(64, 0).seconds == pytest.approx(read / 3.35e12)


@pytest.mark.parametrize(("base_s", "per_token_s", "reason"), [
    (0.001, 1.0, r"decodes 1 sequences .* in .* but reading 15 GB per GPU at the 3\.35 TB/s of h100_sxm"),
    (0.010, 1e-9, r"but its arithmetic at the peak throughput"),
])  # fmt: skip
def test_what_is_too_fast_is_refused_with_the_reason(base_s: float, per_token_s: float, reason: str) -> None:
    deployment = Deployment(gpu("h100_sxm"), model("llama-3.1-8b"), max_num_seqs=1)
    times = Affine(base_s=base_s, per_prefill_token_s=per_token_s, per_context_token_s=1e-6).build(deployment)
    with pytest.raises(InputError, match=reason):
        refuse_impossible(times, deployment)
    refuse_impossible(times, Deployment())  # nothing is known of an unnamed GPU


@pytest.mark.parametrize("name", ["llama-3.1-8b", "qwen3-30b-a3b", "gpt-oss-120b"])
@pytest.mark.parametrize("parallel", [1, 4])
def test_a_roofline_at_full_efficiency_is_just_possible(name: str, parallel: int) -> None:
    deployment = Deployment(gpu("b200_sxm"), model(name), tensor_parallel_size=parallel)
    spec = Roofline(bandwidth_efficiency=1.0, compute_efficiency=1.0)
    assert offences(spec.build(deployment), deployment) == []
    if parallel == 1:
        faster = deployment.gpu.model_copy(update={"memory_bandwidth_bytes_per_s": 1e15, "bf16_flops": 1e18})  # type: ignore[union-attr]
        assert offences(spec.build(Deployment(faster, model(name))), deployment)


def test_the_three_that_are_too_fast_are_refused_with_the_reason() -> None:
    deployment = Deployment(gpu("l40s"), model("qwen3-30b-a3b"))
    with pytest.raises(InputError, match=r"8192 tokens in .* probably measured in the cache.*roofline"):
        refuse_impossible(Calibrated().build(deployment), deployment)
