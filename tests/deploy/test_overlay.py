"""A scenario's pool as it is deployed: what the flags say holds, not what the scenario says of the same."""

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from servesim.cli import main
from servesim.deploy.overlay import differences, with_deployed
from servesim.errors import InputError
from servesim.scenario.load import parse

RUNNER = CliRunner()
SCENARIO = """
name: small
workload:
  duration_s: 5
  classes:
    chat: {arrivals: {kind: poisson, request_rate_rps: 4}, prompt_tokens: 100, output_tokens: 20, slo: {ttft_s: 1.0}}
pools:
  main:
    model: qwen3-8b
    gpu: h100_sxm
    replicas: 2
    engine: {max_num_seqs: 64, host_time_s: 0.003, block_size: 32}
"""


def test_flags_take_the_place_of_the_pool_and_host_times_stay() -> None:
    found = with_deployed(parse(SCENARIO), ["vllm serve Qwen/Qwen3-8B -tp 2 --max-num-seqs 128"]).pools["main"]
    assert (found.model, found.replicas, found.backend) == ("qwen3-8b", 1, "vllm")
    engine = found.engine
    assert (engine.max_num_seqs, engine.tensor_parallel_size, engine.host_time_s) == (128, 2, 0.003)  # type: ignore[attr-defined]
    assert engine.block_size is None  # type: ignore[attr-defined]  # not said, so the server's default


def test_each_difference_is_said() -> None:
    scenario = parse(SCENARIO)
    said = list(differences(scenario, with_deployed(scenario, ["vllm serve Qwen/Qwen3-8B --block-size 32"])))
    assert said == [
        "pools.main.replicas: deployed 1, the scenario has 2",
        "pools.main.engine.max_num_seqs: deployed the default, the scenario has 64",
    ]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("vllm serve none/such", "model: unknown model"),
        ("vllm serve Qwen/Qwen3-8B --block-size 0", "--block-size: expected a whole number above 0"),
        ("vllm serve Qwen/Qwen3-8B --gpu-memory-utilization 2", "gpu_memory_utilization"),
        ("absent.yaml", "--deployed absent.yaml: no such file"),
        ("mian=absent.yaml", "no pool 'mian'; did you mean main"),
        ("vllm serve a --max-num-seqs x", "--deployed: --max-num-seqs: expected a whole number"),
    ],
)
def test_what_cannot_be_simulated_is_refused(source: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        with_deployed(parse(SCENARIO), [source])


def test_a_file_of_several_servers_is_refused_and_new_takes_the_first(tmp_path: Path) -> None:
    file = tmp_path / "compose.yaml"
    services = {
        name: {"image": "vllm/vllm-openai", "command": ["--model", f"Qwen/{name}"]} for name in ("Qwen3-8B", "b")
    }
    file.write_text(yaml.safe_dump({"services": services}, sort_keys=False))
    with pytest.raises(InputError, match="holds several servers"):
        with_deployed(parse(SCENARIO), [str(file)])
    made = RUNNER.invoke(main, ["new", "--from", str(file), "--gpu", "h100", "--rate", "4"])
    assert made.exit_code == 0, made.output
    assert "not this one: Qwen/b" in made.stderr
    assert "model: Qwen/Qwen3-8B" in made.stdout


def test_of_several_pools_one_is_named() -> None:
    other = "chat2: {pool: other, arrivals: all_at_once, num_requests: 1, prompt_tokens: 1, output_tokens: 1}"
    two = SCENARIO.replace("slo:", "pool: main, slo:").replace("pools:", f"    {other}\npools:")
    two += "  other: {model: qwen3-8b, gpu: h100_sxm}\n"
    with pytest.raises(InputError, match="say which pool it is"):
        with_deployed(parse(two), ["vllm serve Qwen/Qwen3-8B"])
    found = with_deployed(parse(two), ["other=vllm serve Qwen/Qwen3-8B --max-num-seqs 7"])
    assert found.pools["other"].engine.max_num_seqs == 7  # type: ignore[attr-defined]
    assert found.pools["main"] == parse(two).pools["main"]


def test_check_takes_the_deployment_and_sees_that_it_changed(tmp_path: Path) -> None:
    scenario, flags, baseline = tmp_path / "small.yaml", tmp_path / "compose.yaml", tmp_path / "base.yaml"
    scenario.write_text(SCENARIO)

    def deploy(*more: str) -> list[str]:
        command = ["--model", "Qwen/Qwen3-8B", *more]
        flags.write_text(yaml.safe_dump({"services": {"llm": {"image": "vllm/vllm-openai:v1", "command": command}}}))
        return ["check", str(scenario), "--deployed", str(flags), "--baseline", str(baseline), "--quiet"]

    assert RUNNER.invoke(main, [*deploy(), "--update", "--replications", "3"]).exit_code == 0
    same = RUNNER.invoke(main, deploy())
    assert same.exit_code == 0, same.output
    assert "no change at all" in same.stdout
    slower = RUNNER.invoke(main, deploy("--max-num-seqs", "1"))
    assert slower.exit_code == 3, slower.output
    assert "the scenario" in " ".join(slower.stdout.split())
    assert "engine.max_num_seqs: deployed 1, the scenario has 64" in slower.stderr
    unseen = RUNNER.invoke(main, deploy("--max-model-len", "5000"))
    assert "changed since the baseline: the scenario" in " ".join(unseen.stdout.split())
    refused = RUNNER.invoke(main, ["check", str(scenario), "--deployed", str(flags), "--against", "HEAD"])
    assert refused.exit_code == 2


def test_a_script_with_the_command_is_read(tmp_path: Path) -> None:
    script = tmp_path / "serve.sh"
    script.write_text("#!/bin/bash\nset -e\nexec vllm serve Qwen/Qwen3-8B \\\n  --max-num-seqs 12  # few\n")
    found = with_deployed(parse(SCENARIO), [str(script)]).pools["main"].engine
    assert found.max_num_seqs == 12  # type: ignore[attr-defined]
