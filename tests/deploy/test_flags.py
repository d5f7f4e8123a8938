"""Settings -> flags -> settings gives the same settings, for every server and every setting that it has a flag for."""

import shlex
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from servesim.deploy.command import read_command
from servesim.deploy.flags import SERVERS, arguments
from servesim.deploy.not_modelled import EFFECTS
from servesim.deploy.read import read
from servesim.deploy.starter import options_of
from servesim.deploy.write import command, deployment
from servesim.engine.spec import ContinuousBatching
from servesim.errors import InputError
from servesim.scenario.load import parse
from servesim.scenario.resolve import resolve
from servesim.scenario.starter import Starter, starter

COUNT = st.integers(1, 100_000)
SHARE = st.floats(0.01, 0.99).map(lambda x: round(x, 6))
SETTINGS: dict[str, st.SearchStrategy[Any]] = {
    "tensor_parallel_size": st.sampled_from([1, 2, 4, 8]),
    "quantization": st.sampled_from(["fp8", "awq", "gptq"]),
    "kv_cache_dtype": st.sampled_from(["fp8"]),
    "max_num_seqs": COUNT,
    "max_num_batched_tokens": COUNT,
    "max_model_len": COUNT,
    "enable_chunked_prefill": st.booleans(),
    "scheduler": st.sampled_from(["fcfs", "priority"]),
    "scheduler_reserve_full_isl": st.booleans(),
    "async_scheduling": st.booleans(),
    "watermark": SHARE,
    "block_size": st.integers(1, 256),
    "num_gpu_blocks": st.integers(2, 10**6),
    "gpu_memory_utilization": SHARE,
}
STARTS = {"vllm": "vllm serve m/n", "sglang": "python -m sglang.launch_server --model-path m/n",
          "tgi": "text-generation-launcher --model-id m/n"}  # fmt: skip


def unsaid(server: str, settings: dict[str, Any]) -> set[str]:
    """Return the settings whose value the server has by default, or has no flag for."""
    known = {flag.setting for flag in SERVERS[server]}
    found = {name for name in settings if name not in known}
    if server == "sglang":
        found |= {name for name in ("async_scheduling", "enable_chunked_prefill") if settings.get(name) is True}
        if settings.get("enable_chunked_prefill") is False:
            found -= {"enable_chunked_prefill"}
    return found | ({"scheduler"} if server == "tgi" else set())


@pytest.mark.parametrize("server", list(SERVERS))
@given(settings=st.fixed_dictionaries({}, optional=SETTINGS))
def test_the_round_trip_keeps_every_setting(server: str, settings: dict[str, Any]) -> None:
    if server == "sglang" and settings.get("enable_chunked_prefill") is False:
        settings.pop("max_num_batched_tokens", None)  # one flag says both
    words, _ = arguments(settings, server)
    found = read_command(f"{STARTS[server]} {shlex.join(words)}")
    assert not found.not_modelled
    left_out = unsaid(server, settings)
    assert found.engine == {name: value for name, value in settings.items() if name not in left_out}
    assert arguments(found.engine, server)[0] == words


@pytest.mark.parametrize("server", list(SERVERS))
def test_what_has_no_flag_is_said(server: str) -> None:
    known = {flag.setting for flag in SERVERS[server]}
    for name in set(SETTINGS) - known - {"enable_chunked_prefill", "scheduler"}:
        words, notes = arguments({name: 3}, server)
        assert not words
        assert name in notes[0]
    assert arguments({"scheduler": "shortest_prompt"}, server)[1] == [f"scheduler: {server} has no shortest_prompt"]
    assert "checkpoint" in arguments({"quantization": "nvfp4"}, server)[1][0]


def test_every_engine_setting_has_a_flag_or_is_an_assumption() -> None:
    from servesim.deploy.flags import ASSUMPTIONS, OF_TRTLLM

    assert set(ContinuousBatching.model_fields) == {flag.setting for flag in SERVERS["vllm"]} | ASSUMPTIONS | OF_TRTLLM


def test_data_parallel_groups_are_replicas_unless_they_share_experts() -> None:
    apart = read("vllm serve m/n -tp 2 --data-parallel-size 4")
    assert (apart.replicas, apart.engine) == (4, {"tensor_parallel_size": 2})
    together = read("vllm serve m/n --data-parallel-size 4 --enable-expert-parallel")
    assert (together.replicas, together.not_modelled) == (1, [])
    assert together.engine == {"data_parallel_size": 4, "enable_expert_parallel": True}
    words, _ = arguments(together.engine, "vllm")
    assert read_command(f"vllm serve m/n {shlex.join(words)}") == together


def test_flags_that_are_not_modelled_are_listed_with_their_effect() -> None:
    found = read("vllm serve m/n --enforce-eager --port 80 --strange=1 -tp 2 --other thing --enable-lora")
    assert found.engine == {"tensor_parallel_size": 2}
    assert [flag for flag, _ in found.not_modelled] == [
        "--enforce-eager", "--port 80", "--strange 1", "--other thing", "--enable-lora",
    ]  # fmt: skip
    assert found.not_modelled[0][1] == EFFECTS["--enforce-eager"]
    assert found.not_modelled[2][1] == "is not known to servesim"


@pytest.mark.parametrize("flag", EFFECTS)
def test_no_flag_is_both_modelled_and_not(flag: str) -> None:
    names = {name for flags in SERVERS.values() for one in flags for name in (one.name, one.off, *one.others)}
    assert flag not in names
    found = read(f"vllm serve m/n {flag}")
    assert [(flag, EFFECTS[flag])] == found.not_modelled


def test_a_command_is_found_in_docker_and_across_lines() -> None:
    text = "docker run --gpus all -p 8000:8000 \\\n vllm/vllm-openai:v0.10 \\\n --model m/n --max-model-len 16k"
    found = read(text)
    assert (found.model, found.engine) == ("m/n", {"max_model_len": 16_000})
    assert read("x=1 /opt/bin/vllm serve m/n --max-num-seqs 1K").engine == {"max_num_seqs": 1024}
    replicas = read("python -m sglang.launch_server --model m/n --dp 3")
    assert replicas.replicas == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nginx -g", "no server found"),
        ("vllm serve", "names no model"),
        ("vllm serve m --max-num-seqs", "has no value"),
        (
            "vllm serve m --max-num-seqs many",
            "--max-num-seqs: expected a whole number above 0, .* got 'many'",
        ),
        ("vllm serve m --gpu-memory-utilization most", "expected a number, got 'most'"),
        ("vllm serve 'm", "cannot be split"),
        ("absent.yaml", "--from absent.yaml: no such file"),
    ],
)
def test_what_cannot_be_read_is_refused(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read(text)


def test_all_faults_of_a_command_are_said_at_once() -> None:
    with pytest.raises(InputError) as caught:
        read("vllm serve --max-num-seqs -4 --tensor-parallel-size zwei --gpu-memory-utilization=x")
    said = "\n".join(map(str, caught.value.problems))
    for flag in ("--max-num-seqs", "--tensor-parallel-size", "--gpu-memory-utilization", "names no model"):
        assert flag in said


def test_a_flag_that_is_nearly_known_is_named() -> None:
    found = read("vllm serve m/n --max-num-seq 12 --strange 3")
    assert found.not_modelled == [
        ("--max-num-seq 12", "is not known to servesim; did you mean --max-num-seqs?"),
        ("--strange 3", "is not known to servesim"),
    ]


FILES = {
    "compose": {"services": {"llm": {"image": "vllm/vllm-openai:v1", "command": ["--model", "m/n", "-tp", "2"]}}},
    "shell": {"spec": {"containers": [{"image": "x", "command": ["sh", "-c"], "args": ["vllm serve m/n -tp 2"]}]}},
    "values": {"servingEngineSpec": {"modelSpec": [{"modelURL": "m/n", "vllmConfig": {"tensorParallelSize": 2}}]}},
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_hold_a_command_are_read(name: str, tmp_path: Any) -> None:
    file = tmp_path / f"{name}.yaml"
    file.write_text(yaml.safe_dump(FILES[name]), encoding="utf-8")
    found = read(str(file))
    assert (found.server, found.model, found.engine) == ("vllm", "m/n", {"tensor_parallel_size": 2})


def test_several_documents_are_one_file_and_a_deployments_replicas_count(tmp_path: Any) -> None:
    file = tmp_path / "all.yaml"
    container = {"name": "v", "command": ["sh", "-c"], "args": ["vllm serve m/n \\\n  -tp 2"]}
    deployment = {"kind": "Deployment", "spec": {"replicas": 4, "template": {"spec": {"containers": [container]}}}}
    file.write_text(yaml.safe_dump_all([{"kind": "Service"}, deployment, None]), encoding="utf-8")
    found = read(str(file))
    assert (found.replicas, found.engine) == (4, {"tensor_parallel_size": 2})


@pytest.mark.parametrize(("more", "replicas"), [({}, 1), ({"deploy": {"replicas": 3}}, 3), ({"scale": 2}, 2)])
def test_a_compose_service_has_its_entrypoint_variables_and_replicas(
    more: dict[str, Any], replicas: int, tmp_path: Any
) -> None:
    file = tmp_path / "compose.yml"
    service = {
        "image": "mine",
        "entrypoint": ["python3", "-m", "vllm.entrypoints.openai.api_server"],
        "command": "--model ${MODEL:-m/n}\n-tp ${TP-2}",
        **more,
    }
    file.write_text(yaml.safe_dump({"services": {"redis": {"image": "redis"}, "llm": service}}), encoding="utf-8")
    found = read(str(file))
    assert (found.model, found.engine, found.replicas) == ("m/n", {"tensor_parallel_size": 2}, replicas)
    assert found.taken == ["${MODEL:-m/n} is taken as m/n", "${TP-2} is taken as 2"]


def test_a_script_may_give_its_values_by_name(tmp_path: Any) -> None:
    script = tmp_path / "serve.sh"
    script.write_text('#!/bin/bash\nMODEL="m/n"  # small\nexport TP=2\nvllm serve $MODEL -tp ${TP} --port $PORT\n')
    found = read(str(script))
    assert (found.model, found.engine, found.taken) == ("m/n", {"tensor_parallel_size": 2}, [])


def test_a_variable_without_a_value_is_named() -> None:
    with pytest.raises(InputError, match=r"-tp: the variable in '\$\{TP\}' has no value here"):
        read("vllm serve m/n -tp ${TP}")


def test_what_changes_the_speed_of_a_stack_entry_is_said(tmp_path: Any) -> None:
    file = tmp_path / "values.yaml"
    entry = {"modelURL": "m/n", "lmcacheConfig": {"enabled": True}, "keda": {"enabled": False}}
    file.write_text(yaml.safe_dump({"servingEngineSpec": {"modelSpec": [entry]}}), encoding="utf-8")
    assert [name for name, _ in read(str(file)).not_modelled] == ["lmcacheConfig"]


@pytest.mark.parametrize("backend", ["vllm", "sglang"])
def test_the_deployment_says_what_was_simulated(backend: str, tmp_path: Any) -> None:
    scenario = resolve(parse(starter(Starter(model="llama-3.1-8b", backend=backend, replicas=3))))
    pool = scenario.scenario.pools["main"]
    found = deployment(pool, "main")
    assert found is not None
    file = tmp_path / "values.yaml"
    file.write_text(found["values"], encoding="utf-8")
    for deployed in (read(found["command"]), read(str(file))):
        assert deployed.server == backend
        assert deployed.model == "meta-llama/Llama-3.1-8B-Instruct"
        for name in ("max_num_seqs", "max_num_batched_tokens", "max_model_len", "gpu_memory_utilization"):
            assert deployed.engine[name] == getattr(pool.engine, name)
    if backend == "vllm":
        assert read(str(file)).replicas == 3
    assert "text-generation-launcher" in found["alternatives"]["tgi"]


def test_stations_have_no_deployment() -> None:
    one = "{arrivals: all_at_once, num_requests: 1, prompt_tokens: 1, output_tokens: 1}"
    text = f"name: a\nworkload: {{classes: {{a: {one}}}}}\n"
    text += "pools: {main: {engine: {kind: station}, service_time: {kind: exponential, mean_s: 1.0}}}"
    assert deployment(parse(text).pools["main"], "main") is None
    assert command("tgi", "m", ["--num-shard", "2"]) == "text-generation-launcher --model-id m \\\n  --num-shard 2"


DEPLOYABLE: dict[str, st.SearchStrategy[Any]] = {
    "tensor_parallel_size": st.sampled_from([1, 2, 4]),
    "max_num_seqs": st.integers(1, 512),
    "max_num_batched_tokens": st.integers(8_192, 32_768),
    "max_model_len": st.integers(1_024, 8_192),
    "gpu_memory_utilization": st.integers(50, 95).map(lambda percent: percent / 100),
    "block_size": st.sampled_from([16, 32, 64]),
    "scheduler": st.sampled_from(["fcfs", "priority"]),
}


@pytest.mark.parametrize("server", ["vllm", "sglang"])
@settings(max_examples=15, deadline=None)
@given(settings_=st.fixed_dictionaries({}, optional=DEPLOYABLE))
def test_flags_of_a_scenario_made_from_flags_say_the_same(server: str, settings_: dict[str, Any]) -> None:
    start = {"vllm": "vllm serve", "sglang": "python -m sglang.launch_server --model-path"}[server]
    words, _ = arguments(settings_, server)
    text = f"{start} meta-llama/Llama-3.1-8B-Instruct {shlex.join(words)}"
    made = resolve(parse(starter(Starter(**{**options_of(text), "gpu": "h100_sxm"}))))
    back = deployment(made.scenario.pools["main"], "main")
    assert back is not None
    found = read(back["command"])
    assert found.model == "meta-llama/Llama-3.1-8B-Instruct"
    said = {name: getattr(made.scenario.pools["main"].engine, name) for name in settings_}
    assert {name: getattr(value, "kind", value) for name, value in said.items()} == settings_
    defaults = {"scheduler": "fcfs", "tensor_parallel_size": 1, "block_size": 16}  # said by saying nothing
    assert {name: found.engine.get(name, defaults.get(name)) for name in settings_} == settings_
