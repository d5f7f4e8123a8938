"""`servesim plan`, `servesim new --from`, `servesim schema --plan`."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from click.testing import CliRunner

from servesim.cli import main
from servesim.scenario.document import parse_document, plain
from servesim.scenario.json_schema import plan_schema
from tests.planning.known import MM1, small_space, staffing

RUNNER = CliRunner()


def small(tmp_path: Path, **changes: object) -> Path:
    document = small_space(300).document
    document["scenario"]["workload"]["classes"]["chat"]["arrivals"]["request_rate_rps"] = 20.0
    document["space"] = {"gpu": ["a100_sxm", "h100_sxm"], "tensor_parallel_size": [1], "replicas": {"most": 4}}
    document["replications"] = {"first": 3, "most": 6}
    file = tmp_path / "plan.yaml"
    file.write_text(yaml.safe_dump({**document, **changes}), encoding="utf-8")
    return file


def test_a_plan_answers_with_table_and_deployment(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    found = RUNNER.invoke(main, ["plan", str(small(tmp_path)), "--deployment", str(values)])
    assert found.exit_code == 0, found.output
    assert "h100_sxm" in found.stdout
    assert "vllm serve meta-llama/Llama-3.1-8B-Instruct" in found.stdout
    assert "Naive choice" in found.stdout
    assert yaml.safe_load(values.read_text())["servingEngineSpec"]["modelSpec"][0]["requestGPU"] == 1


def test_a_plan_in_json_has_every_figure(tmp_path: Path) -> None:
    file = small(tmp_path, rank=2, attainment=0.8)
    found = RUNNER.invoke(main, ["plan", str(file), "--format", "json", "--seed", "3"])
    answer = json.loads(found.stdout)
    costs = [row["usd_per_hour"] for row in answer["ranked"]]
    assert costs == sorted(costs)
    best = answer["ranked"][0]
    needs = [end["size"] for end in answer["doubt"]["ends"] if "reason" not in end]
    inside = any(size is None or size > best["replicas"] for size in needs)
    assert best["verdict"] == ("hangs on the model's error" if inside else "meets")
    assert best["headroom"]["factor"] > 1
    assert best["concurrent_requests"] > 0
    assert best["usd_per_million_output_tokens"] > 0
    (target,) = best["estimates"]
    assert target["low"] >= target["attainment"]
    assert answer["naive"]["usd_per_hour"] >= best["usd_per_hour"]
    assert answer["doubt"]["of"] == "validated deployments"
    again = RUNNER.invoke(main, ["plan", str(file), "--format", "json", "--seed", "3", "--workers", "2"])
    assert json.loads(again.stdout) == answer


def test_nothing_that_meets_the_slo_is_exit_3(tmp_path: Path) -> None:
    file = small(tmp_path)
    strict = ("--set", "scenario.workload.classes.chat.slo.tpot_s=0.0001")
    values = tmp_path / "values.yaml"
    found = RUNNER.invoke(main, ["plan", str(file), *strict, "--deployment", str(values)])
    assert found.exit_code == 3
    assert f"--deployment: {values} is not written" in found.stderr
    assert not values.exists()
    assert "even alone on a replica" in found.stdout


def test_how_much_load_in_words(tmp_path: Path) -> None:
    file = tmp_path / "mm1.yaml"
    file.write_text(MM1.format(requests=2000), encoding="utf-8")
    found = RUNNER.invoke(main, ["plan", str(file), "--how-much-load", "--replications", "4"])
    assert found.exit_code == 0, found.output
    assert "times its load" in found.stdout
    assert "class all-of-them breaks first (99 % good)" in found.stdout


@pytest.mark.parametrize("question", ["--how-much-load", "--over-time"])
@pytest.mark.parametrize(
    ("changes", "word"),
    [(["slo={}"], "nothing to meet"), (["slo.attainment=1"], "which no number of runs can show")],
)
def test_a_scenario_whose_slo_cannot_be_judged_is_refused_at_once(
    tmp_path: Path, question: str, changes: list[str], word: str
) -> None:
    file = tmp_path / "mm1.yaml"
    file.write_text(MM1.format(requests=100), encoding="utf-8")
    (name,) = yaml.safe_load(file.read_text())["workload"]["classes"]
    sets = [part for change in changes for part in ("--set", f"workload.classes.{name}.{change}")]
    found = RUNNER.invoke(main, ["plan", str(file), question, *sets])
    assert found.exit_code == 2
    assert word in found.stderr
    assert f"{file}:" in found.stderr


def test_the_scenario_may_be_a_file_beside_the_plan(tmp_path: Path) -> None:
    document = staffing("staff", 2.0, 0.9, 1000, 8).document
    (tmp_path / "scenario.yaml").write_text(yaml.safe_dump(document["scenario"]), encoding="utf-8")
    file = tmp_path / "plan.yaml"
    file.write_text(yaml.safe_dump({**document, "scenario": "scenario.yaml"}), encoding="utf-8")
    found = RUNNER.invoke(main, ["plan", str(file)])
    assert found.exit_code == 0, found.output


def test_a_scenario_alone_is_no_plan(tmp_path: Path) -> None:
    file = tmp_path / "mm1.yaml"
    file.write_text(MM1.format(requests=100), encoding="utf-8")
    found = RUNNER.invoke(main, ["plan", str(file)])
    assert found.exit_code == 2
    assert "a plan has scenario: FILE" in found.stderr


def test_the_schema_of_plans_takes_plans_and_refuses_faults() -> None:
    schema = plan_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(small_space().document, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**small_space().document, "rank": 0}, schema)
    out = RUNNER.invoke(main, ["schema", "--plan"])
    assert json.loads(out.stdout)["title"] == "servesim plan"


def test_new_from_a_command_runs_and_lists_what_is_left_out(tmp_path: Path) -> None:
    command = "vllm serve Qwen/Qwen3-8B -tp 2 --max-num-seqs 128 --enforce-eager --kv-cache-dtype fp8"
    file = tmp_path / "mine.yaml"
    made = RUNNER.invoke(main, ["new", "--from", command, "--gpu", "h100", "--duration", "20", "-o", str(file)])
    assert made.exit_code == 0, made.output
    assert "not modelled: --enforce-eager: would launch kernels one by one" in made.stderr
    assert "# not modelled: --enforce-eager" in file.read_text()
    engine = plain(parse_document(file.read_text(), "mine.yaml").root)["pools"]["main"]["engine"]
    assert (engine["max_num_seqs"], engine["kv_cache_dtype"], engine["tensor_parallel_size"]) == (128, "fp8", 2)
    assert RUNNER.invoke(main, ["run", str(file)]).exit_code == 0


def test_new_from_a_command_says_which_gpu_it_assumes() -> None:
    assumed = RUNNER.invoke(main, ["new", "--from", "vllm serve Qwen/Qwen3-8B"])
    assert "h100_sxm is assumed" in assumed.stderr
    assert "# no command says on which GPU" in assumed.stdout
    told = RUNNER.invoke(main, ["new", "--from", "vllm serve Qwen/Qwen3-8B", "--gpu", "h100"])
    assert "assumed" not in told.stderr


@pytest.mark.parametrize("option", ["--rate", "--duration", "--slo-ttft", "--slo-attainment"])
@pytest.mark.parametrize("number", ["nan", "inf"])
def test_a_number_that_is_none_is_bad_usage(option: str, number: str) -> None:
    found = RUNNER.invoke(main, ["new", option, number])
    assert found.exit_code == 2
    assert option in found.stderr


def test_new_from_a_command_it_cannot_read_is_exit_2() -> None:
    found = RUNNER.invoke(main, ["new", "--from", "nginx"])
    assert found.exit_code == 2
    assert "no server found" in found.stderr
