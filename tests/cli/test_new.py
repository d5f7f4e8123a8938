"""`servesim new`."""

import json
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from servesim.cli import main
from servesim.experiment.simulate import simulate
from servesim.scenario.load import load, parse
from tests.catalog import configs

SCENARIOS = Path(__file__).parents[2] / "scenarios"


def new(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["new", *map(str, arguments)])


def test_it_runs_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "chat.yaml"
    result = new("-o", file, "--rate", 3, "--duration", 20, "--prompt-tokens", 100, "--output-tokens", 9)
    assert (result.exit_code, result.stdout) == (0, "")
    summary = simulate(load(file)).summary
    assert summary["classes"]["chat"]["completed"] == summary["classes"]["chat"]["offered"] > 20
    assert summary["provenance"]["service_times"]["main"]["measured"]


def test_options_say_what_they_set() -> None:
    text = new(
        "--name", "no", "--model", "meta-llama/Llama-3.1-8B", "--gpu", "H100 PCIe", "--replicas", 3, "--slo-ttft", 0.25,
        "--slo-tpot", 0.05, "--slo-attainment", 0.5, "--quantization", "fp8", "--backend", "sglang",
    ).stdout  # fmt: skip
    scenario = parse(text)
    pool, chat = scenario.pools["main"], scenario.workload.classes["chat"]
    assert (scenario.name, pool.gpu, pool.model) == ("no", "H100 PCIe", "meta-llama/Llama-3.1-8B")
    assert (pool.replicas, pool.backend, pool.engine.quantization) == (3, "sglang", "fp8")
    assert (chat.slo.ttft_s, chat.slo.tpot_s, chat.slo.attainment) == (0.25, 0.05, 0.5)
    assert pool.service_time.kind == "roofline"  # nothing was measured on this GPU
    assert "#" in text


def test_the_fewest_gpus_that_hold_the_model() -> None:
    assert parse(new("--model", "llama-3.1-70b").stdout).pools["main"].engine.tensor_parallel_size == 2
    refused = new("--model", "llama-3.1-70b", "--tensor-parallel-size", 1)
    assert refused.exit_code == 2
    assert "the model does not fit" in refused.stderr


def test_a_model_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config.json").write_text(json.dumps(configs.LLAMA_32_1B))
    assert new("--model", "./config.json", "--gpu", "l4", "-o", "mine.yaml").exit_code == 0
    result = CliRunner().invoke(main, ["run", "mine.yaml", "--set", "workload.duration_s=5"])
    assert result.exit_code == 0, result.stderr
    assert "estimate, factor 0.7 to 2.7" in " ".join(result.output.split())


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("mine")
    result = new("-o", file)
    assert (result.exit_code, file.read_text()) == (2, "mine")
    assert "exists already" in result.stderr
    assert new("-o", file, "--force").exit_code == 0
    assert load(file).name == "chat"


def test_a_model_that_lies_elsewhere(tmp_path: Path) -> None:
    place, away = tmp_path / "place", tmp_path / "far away"
    place.mkdir()
    away.mkdir()
    (away / "config.json").write_text(json.dumps(configs.LLAMA_32_1B))
    arguments = ("--model", away / "config.json", "--gpu", "l4", "-o", place / "mine.yaml")
    refused = new(*arguments)
    assert refused.exit_code == 2
    assert f"--allow-path {away}" in refused.stderr
    result = new(*arguments, "--allow-path", away)
    assert result.exit_code == 0, result.stderr
    command = shlex.split(result.stderr.split("next: ")[1])
    assert command == ["servesim", "run", str(place / "mine.yaml"), "--allow-path", str(away)]
    assert CliRunner().invoke(main, [*command[1:], "--set", "workload.duration_s=5"]).exit_code == 0


@pytest.mark.parametrize("path", sorted(SCENARIOS.rglob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_scenarios_are_copied_byte_for_byte(path: Path, tmp_path: Path) -> None:
    name = path.relative_to(SCENARIOS).with_suffix("").as_posix()
    assert new("--example", name, "-o", tmp_path / "copy.yaml").exit_code == 0
    assert (tmp_path / "copy.yaml").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(("arguments", "message"), [
    (["--example", "bench/w9"], "unknown example 'bench/w9'; did you mean bench/w"),
    (["--example", "bench/w1", "--rate", "2"], "leave out the other options"),
    (["--gpu", "a100", "--quantization", "fp8"], "a100_sxm has no FP8 units"),
    (["--gpu", "h101"], "unknown GPU 'h101'; did you mean h100"),
    (["--tensor-parallel-size", "3"], "3 does not divide the 32 attention heads"),
    (["--rate", "0"], "--rate"),
])  # fmt: skip
def test_what_cannot_be_written(arguments: list[str], message: str) -> None:
    result = new(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_gpus_without_nvlink_are_linked_by_pcie() -> None:
    pool = parse(new("--model", "qwen3-32b", "--gpu", "l4").stdout).pools["main"]
    assert pool.engine.tensor_parallel_size > 1
    assert (pool.service_time.kind, pool.service_time.link_bytes_per_s) == ("roofline", 32e9)
