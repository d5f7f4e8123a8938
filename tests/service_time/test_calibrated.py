from __future__ import annotations

import timeit
from dataclasses import replace
from pathlib import Path

import pytest

import servesim.catalog.calibrations as catalog
from servesim.catalog import gpu, model
from servesim.catalog.calibrations import Calibration, Key, calibration, calibrations, key_of, read_calibration
from servesim.errors import InputError
from servesim.service_time.base import Deployment, IterationTime
from servesim.service_time.calibrated import Calibrated
from tests.service_time import sanity

KEYS = calibrations()
FOLDER = Path(catalog.__file__).parent / "calibrations"


def entry_of(key: Key) -> Calibration:
    return read_calibration(FOLDER / key.model / key.gpu / f"{key.stem}.yaml")


def is_table(key: Key) -> bool:
    return entry_of(key).table is not None


def build(key: Key) -> IterationTime:
    return Calibrated(file=str(FOLDER / key.model / key.gpu / f"{key.stem}.yaml")).build(Deployment())


@pytest.mark.parametrize("name", sorted({key.model for key in KEYS}))
def test_physical_sanity_of_every_calibration(name: str) -> None:
    for key in (k for k in KEYS if k.model == name and not is_table(k)):  # tables: test_tabulated.py
        sanity.check(build(key))


@pytest.mark.parametrize("name", sorted({key.model for key in KEYS}))
def test_every_file_says_what_it_is(name: str) -> None:
    for key in (k for k in KEYS if k.model == name):
        entry = entry_of(key)
        assert key_of(entry) == key
        gpu(entry.gpu), model(entry.model)
        assert len(entry.provenance.input_sha256) == 64
        assert entry.provenance.licence in ("Apache-2.0", "MIT")
        assert entry.error.interior["all"].n > 100


def test_the_catalog_covers_the_models_gpus_and_engines_promised() -> None:
    promised = {"llama-3.1-8b", "llama-3.1-70b", "qwen3-32b", "qwen3-30b-a3b", "gpt-oss-120b"}
    machines = {"h100_sxm", "h200_sxm", "b200_sxm", "l40s", "rtx_pro_6000_server"}
    found = {(k.model, k.gpu) for k in KEYS}
    assert {(m, g) for m in promised for g in machines} <= found
    assert {k.backend for k in KEYS} == {"vllm", "sglang", "trtllm"}


def held_back_errors(moe: bool) -> list[tuple[float, float]]:
    fitted = [k for k in KEYS if (model(k.model).experts > 0) == moe and not is_table(k)]
    errors = [entry_of(k).error.interior["all"] for k in fitted]
    return [(e.median, e.p90) for e in errors]


def test_held_back_error_of_dense_models_is_inside_the_target() -> None:
    errors = held_back_errors(moe=False)
    inside = sum(median <= 0.02 and p90 <= 0.06 for median, p90 in errors)
    assert sorted(median for median, _ in errors)[len(errors) // 2] <= 0.02
    assert sorted(p90 for _, p90 in errors)[len(errors) // 2] <= 0.06
    assert inside / len(errors) >= 0.7  # the misses are listed in docs/calibration.md


def test_held_back_error_of_mixtures_of_experts_is_inside_the_target_everywhere() -> None:
    assert max(median for median, _ in held_back_errors(moe=True)) <= 0.06


def test_a_deployment_finds_its_calibration() -> None:
    time = Calibrated().build(Deployment(gpu("H100"), model("meta-llama/Llama-3.1-8B"), "vllm", 1))
    assert time.origin.name == "llama-3.1-8b/h100_sxm/vllm-tp1-bf16"
    assert time.origin.measured
    assert time.validity.max_decode_seqs == 256
    # The checkpoint of gpt-oss is MXFP4: no quantization means that one.
    assert calibration(model("gpt-oss-120b"), gpu("h100_sxm"), "vllm", 2).precision == "mxfp4"
    assert calibration(model("llama-3.1-70b"), gpu("h100_sxm"), "vllm", 4, "fp8", "fp8").kv_cache_dtype == "fp8"


def test_an_absent_calibration_lists_what_there_is() -> None:
    with pytest.raises(InputError, match=r"vllm-tp3-bf16.*sglang-tp1-bf16.*vllm-tp1-fp8.*roofline"):
        Calibrated().build(Deployment(gpu("h100_sxm"), model("llama-3.1-8b"), "vllm", 3))
    with pytest.raises(InputError, match=r"nothing for this GPU; this model is calibrated on: .*h100_sxm"):
        Calibrated().build(Deployment(gpu("t4"), model("llama-3.1-8b")))
    with pytest.raises(InputError, match="needs the pool's `gpu` and `model`"):
        Calibrated().build(Deployment())


def test_a_bad_file_names_the_field(tmp_path: Path) -> None:
    key = KEYS[0]
    text = (FOLDER / key.model / key.gpu / f"{key.stem}.yaml").read_text()
    bad = tmp_path / "bad.yaml"
    bad.write_text(text.replace("base_s:", "base_seconds:"))
    with pytest.raises(InputError, match=r"bad\.yaml: coefficients\.base_s"):
        Calibrated(file=str(bad)).build(Deployment())
    bad.write_text(text.replace("base_s: ", "base_s: -"))
    with pytest.raises(InputError, match=r"coefficients\.base_s"):
        Calibrated(file=str(bad)).build(Deployment())
    for name, written, said in (
        ("cut.yaml", text[: text.index("knots_tokens") + 15], r"cut\.yaml:\d+:\d+: is no sound YAML \(cut short\?\)"),
        ("newer.yaml", text.replace("schema_version: 1", "schema_version: 2"), r"newer\.yaml: schema_version: .*1"),
        ("list.yaml", "[1, 2]", "expected a mapping"),
        ("empty.yaml", "", "the file is empty"),
        ("batches.yaml", "points: [[1, 0.1]]", "use kind: batch_calibrated"),
    ):
        (tmp_path / name).write_text(written)
        with pytest.raises(InputError, match=said):
            Calibrated(file=str(tmp_path / name)).build(Deployment())
    with pytest.raises(InputError, match="no such file"):
        Calibrated(file=str(tmp_path / "absent.yaml")).build(Deployment())


def test_batches_and_prefills_beyond_the_tables() -> None:
    key = Key("gpt-oss-120b", "h100_sxm", "vllm", 2, "mxfp4", "bf16")
    path = str(FOLDER / key.model / key.gpu / f"{key.stem}.yaml")
    small = Calibrated(file=path).build(Deployment(max_num_batched_tokens=64, max_num_seqs=4))
    large = Calibrated(file=path).build(Deployment(max_num_batched_tokens=65536, max_num_seqs=4096))
    for arguments in ((0, 0, 1, 40_000, 10**9), (5, 100, 1, 60, 1830), (900, 10**6, 2, 70, 3000)):
        assert small.mixed_s(*arguments) == large.mixed_s(*arguments)
    assert small.decode_line(3000, 10**6) == large.decode_line(3000, 10**6)


def test_the_hot_path_is_plain_floats_and_quick() -> None:
    time = build(Key("gpt-oss-120b", "h100_sxm", "vllm", 2, "mxfp4", "bf16"))
    assert all(type(value) is float for value in time.decode_line(32, 30_000))
    assert type(time.mixed_s(32, 30_000, 1, 512, 131_328)) is float
    # 0.15 and 0.23 microseconds on an idle core; the limit only catches a wrong order of magnitude.
    names = {"line": time.decode_line, "mixed": time.mixed_s}
    for call in ("line(32, 30_000)", "mixed(32, 30_000, 1, 512, 131_328)"):
        assert min(timeit.repeat(call, globals=names, number=2000, repeat=7)) / 2000 < 2e-6


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, None),
        ({"gpu": gpu("h100_sxm").model_copy(update={"usd_per_hour": 1.0})}, None),
        ({"gpu": gpu("a100_sxm")}, "GPU h100_sxm; here it is a100_sxm"),
        ({"model": model("qwen3-8b")}, "model llama-3.1-8b; here it is qwen3-8b"),
        (
            {"tensor_parallel_size": 2, "backend": "sglang"},
            "backend vllm, tensor_parallel_size 1; here it is sglang, 2",
        ),
        ({"kv_cache_dtype": "fp8", "quantization": "fp8"}, "precision bf16, kv_cache_dtype bf16; here it is fp8, fp8"),
        ({"gpu": None, "model": None}, None),
    ],
    ids=lambda value: "same" if value is None else str(value)[:40],
)
def test_a_file_measured_on_another_deployment_says_so(change: dict[str, object], said: str | None) -> None:
    file = str(FOLDER / "llama-3.1-8b" / "h100_sxm" / "vllm-tp1-bf16.yaml")
    deployment = replace(Deployment(gpu("h100_sxm"), model("llama-3.1-8b")), **change)
    warnings = Calibrated(file=file).build(deployment).warnings
    assert len(warnings) == (said is not None)
    assert said is None or said in warnings[0]
    assert not Calibrated().build(Deployment(gpu("h100_sxm"), model("llama-3.1-8b"))).warnings
