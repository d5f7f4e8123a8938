"""A scenario's own model and GPU, and the pairs that are refused."""

import json
from pathlib import Path

import pytest

from servesim.errors import InputError
from servesim.experiment.simulate import simulate
from servesim.scenario.dump import to_yaml
from servesim.scenario.load import load, parse
from servesim.scenario.resolve import resolve
from tests.catalog import configs

SCENARIO = """\
name: mine
workload:
  num_requests: 20
  classes:
    chat: {arrivals: {kind: poisson, request_rate_rps: 4.0}, prompt_tokens: 64, output_tokens: 8}
pools:
  main:
    model: %s
    gpu: %s
    service_time: %s
    engine: {host_time_s: 0.001, tensor_parallel_size: %d}
"""
OWN_GPU = "{name: mine, memory_bytes: 80000000000, memory_bandwidth_bytes_per_s: 2.0e12, bf16_flops: 5.0e14}"


def scenario(model: str = "llama-3.1-8b", gpu: str = "h100", time: str = "roofline", parallel: int = 1) -> str:
    return SCENARIO % (model, gpu, time, parallel)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("SERVESIM_ALLOW_PATH", raising=False)
    (tmp_path / "llama").mkdir()
    (tmp_path / "llama" / "config.json").write_text(json.dumps(configs.LLAMA_31_8B))
    (tmp_path / "small.json").write_text(json.dumps(configs.LLAMA_32_1B))
    (tmp_path / "qwen2.json").write_text(json.dumps(configs.QWEN_2_57B_A14B))
    (tmp_path / "v3.json").write_text(json.dumps(configs.DEEPSEEK_V3))
    return tmp_path


def test_own_model_on_own_gpu_runs_and_says_that_it_is_an_estimate(folder: Path) -> None:
    file = folder / "mine.yaml"
    file.write_text(scenario("{config: small.json, name: small}", OWN_GPU))
    summary = simulate(load(file)).summary
    assert summary["classes"]["chat"]["completed"] == 20
    estimate = "pool main: iteration times are a roofline estimate, factor 0.7 to 2.7 (measured / estimated"
    assert any(warning.startswith(estimate) for warning in summary["warnings"])
    facts = summary["provenance"]["service_times"]["main"]
    assert (facts["model"], facts["gpu"], facts["band"], facts["measured"]) == ("small", "mine", [0.7, 2.7], False)
    assert "small.json (LlamaForCausalLM), sha256 " in facts["model_source"]


def test_inline_parts_survive_the_dump(folder: Path) -> None:
    text = scenario("{config: small.json}", "{base: h100, scale: {flops: 0.5}, usd_per_hour: 2.5}")
    found = parse(text, folder=folder)
    dumped = to_yaml(found)
    assert parse(dumped, folder=folder) == found
    assert "h100" in dumped
    pool = resolve(found).pools[0]
    assert pool.usd_per_gpu_hour == 2.5
    assert pool.plan.settings.num_gpu_blocks > 10_000


def test_a_config_file_stays_in_the_scenarios_folder(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "mine.yaml").write_text(scenario("{config: ../small.json}"))
    with pytest.raises(InputError, match="outside the scenario's folder"):
        load(folder / "sub" / "mine.yaml")
    assert load(folder / "sub" / "mine.yaml", allow_paths=[folder]).pools["main"].model.config.endswith("/small.json")


def test_a_wrong_config_file_is_named_at_its_place(folder: Path) -> None:
    (folder / "small.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    with pytest.raises(InputError) as caught:
        parse(scenario("{config: small.json}"), "mine.yaml", folder=folder)
    (problem,) = caught.value.problems
    assert (problem.line, problem.column, problem.path) == (8, 21, "pools.main.model.config")
    assert problem.message.endswith("small.json: missing field 'num_attention_heads' (a positive whole number)")


def test_the_file_of_a_catalogued_model_uses_its_calibration(folder: Path) -> None:
    own = parse(scenario("{config: llama/config.json}", time="calibrated"), folder=folder)
    times = resolve(own).pools[0].plan.times
    named = resolve(parse(scenario(time="calibrated"))).pools[0].plan.times
    assert times.origin == named.origin
    assert times.decode_line(7, 999) == named.decode_line(7, 999)


@pytest.mark.parametrize(
    ("model", "gpu", "time", "parallel", "message"),
    [
        (
            "{config: small.json}",
            "h100",
            "calibrated",
            1,
            r"no calibration of model .*write service_time: \{kind: roof",
        ),
        (
            "llama-3.1-8b",
            OWN_GPU,
            "calibrated",
            1,
            r"no calibration of GPU 'mine'.*write service_time: \{kind: roofline",
        ),
        ("llama-3.1-70b", "h100", "roofline", 1, "the model does not fit"),
        ("llama-3.1-8b", "h100", "roofline", 3, "tensor_parallel_size: 3 does not divide the 32 attention heads"),
        ("{config: qwen2.json}", "h100", "roofline", 28, "28 does not divide the experts' width 2560"),
        ("{config: qwen2.json}", "h100", "roofline", 14, "neither split nor repeat the 4 key-value heads"),
        ("minimax-m2.5", "a100", "roofline", 4, r"no FP8 units, which fp8 \(as minimax-m2.5 is published\) needs"),
        ("{config: v3.json}", "a100", "roofline", 8, "no FP8 units"),
        ("llama-3.1-8b", "h100", "{kind: affine, base_s: 0.001}", 1, "affine.* is faster than the GPU can be"),
    ],
)
def test_pairs_that_cannot_be(model: str, gpu: str, time: str, parallel: int, message: str, folder: Path) -> None:
    with pytest.raises(InputError, match=message) as caught:
        resolve(parse(scenario(model, gpu, time, parallel), folder=folder))
    assert caught.value.problems[0].path.startswith("pools.main")


@pytest.mark.parametrize(("gpu", "quantization", "legal"), [
    ("a100", "fp8", False), ("l40s", "fp8", True), ("h100", "nvfp4", False), ("b200", "nvfp4", True),
    ("a100", "awq", True), ("h100", "mxfp4", True), ("mi300x", "mxfp8", True),
    ("{base: a100, fp8_flops: 6.0e14}", "fp8", True),
])  # fmt: skip
def test_number_formats_need_their_units(gpu: str, quantization: str, legal: bool) -> None:
    text = scenario(gpu=gpu).replace("host_time_s: 0.001", f"quantization: {quantization}")
    if legal:
        resolve(parse(text))
    else:
        with pytest.raises(InputError, match=r"engine.quantization: .* has no FP[48] units"):
            resolve(parse(text))


def test_more_memory_holds_more_blocks_and_more_bandwidth_decodes_faster() -> None:
    plain, more = (resolve(parse(scenario(gpu=gpu))).pools[0] for gpu in (
        "h100", "{base: h100, scale: {memory_bytes: 2.0, memory_bandwidth: 1.5}}"))  # fmt: skip
    assert more.plan.settings.num_gpu_blocks > 2 * plain.plan.settings.num_gpu_blocks
    assert more.plan.times.decode_line(1, 0)[0] == pytest.approx(plain.plan.times.decode_line(1, 0)[0] / 1.5)
