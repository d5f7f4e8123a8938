"""Sweep documents and `--vary`: which points they mean, and every fault at its place.

Every file in `invalid_sweep/` has one fault, and its first line says what must be said of it, as in `invalid/`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from servesim import load
from servesim.errors import InputError
from servesim.policies.routing.power_of_d import PowerOfD
from servesim.scenario.dump import to_yaml
from servesim.scenario.json_schema import sweep_schema
from servesim.scenario.load import parse
from servesim.scenario.load_sweep import Asked, Base, asked_of_file, asked_of_texts, asked_of_values, combined_asked
from tests.data import ROOT
from tests.scenario.samples import CHAT

INVALID = Path(__file__).parent / "invalid_sweep"
W1 = ROOT / "scenarios" / "bench" / "w1.yaml"
RATE = "workload.classes.chat.arrivals.request_rate_rps"
# What the schema cannot say.
BEYOND_A_SCHEMA = {"nothing", "empty_list", "zip_lengths", "range_without_steps", "range_backwards", "range_log_zero"}
BEYOND_A_SCHEMA |= {"value", "path", "variant_value", "variant_twice", "too_many"}


def settings(asked: Asked, base: Base) -> list[dict[str, Any]]:
    return [point.settings for point in base.points(asked)]


@pytest.fixture
def base() -> Base:
    return Base(parse(CHAT))


def _points(path: Path) -> None:
    base = Base(path)
    assert base.own is not None
    base.points(base.own)


@pytest.mark.parametrize("path", sorted(INVALID.glob("*.yaml")), ids=lambda path: path.stem)
def test_one_fault_gives_one_problem_at_its_place(path: Path) -> None:
    begin, *later = path.read_text().split("\n")[0].removeprefix("# expect: ").split(" ... ")
    with pytest.raises(InputError) as caught:
        _points(path)
    (problem,) = caught.value.problems
    assert str(problem).startswith(f"{path}:{begin}")
    for part in later:
        assert part in str(problem)


@pytest.mark.parametrize("path", sorted(INVALID.glob("*.yaml")), ids=lambda path: path.stem)
def test_structural_faults_are_against_the_schema(path: Path) -> None:
    schema = jsonschema.Draft202012Validator(sweep_schema())
    schema.check_schema(schema.schema)
    assert schema.is_valid(yaml.safe_load(path.read_text())) == (path.stem in BEYOND_A_SCHEMA)


def test_lists_and_ranges_make_a_grid(base: Base) -> None:
    asked = asked_of_texts([f"{RATE}=1:2:0.5", "pools.main.router=round_robin,{kind: power_of_d, d: 3}"], zipped=False)
    found = settings(asked, base)
    assert [one[RATE] for one in found] == [1, 1, 1.5, 1.5, 2, 2]
    assert [one["pools.main.router"] for one in found[:2]] == ["round_robin", {"kind": "power_of_d", "d": 3}]
    assert base.points(asked)[3].scenario.pools["main"].router == PowerOfD(d=3)


def test_zip_takes_the_nth_values_together(base: Base) -> None:
    found = settings(asked_of_texts([f"{RATE}=1,2", "seed=5,6"], zipped=True), base)
    assert found == [{RATE: 1, "seed": 5}, {RATE: 2, "seed": 6}]


@pytest.mark.parametrize(
    ("spacing", "values"),
    [
        ({"from": 1, "to": 8, "steps": 4, "scale": "log"}, [1, 2, 4, 8]),
        ({"from": 0.1, "to": 0.5, "step": 0.1}, [0.1, 0.2, 0.3, 0.4, 0.5]),
        ({"from": 1, "to": 10, "step": 4}, [1, 5, 9]),
        ({"from": 2, "to": 3, "steps": 3}, [2, 2.5, 3]),
    ],
)
def test_ranges_have_clean_numbers(spacing: dict[str, Any], values: list[float], base: Base) -> None:
    path = "workload.duration_s"
    found = settings(asked_of_values({path: spacing}), base)
    assert [one[path] for one in found] == values


def test_policies_are_values(base: Base) -> None:
    points = base.points(asked_of_values({"pools.main.router": [PowerOfD(d=2), "random"]}))
    assert [point.scenario.pools["main"].router.kind for point in points] == ["power_of_d", "random"]
    with pytest.raises(InputError, match="registered kind, got object"):
        asked_of_values({"pools.main.router": [object()]})


def test_variants_each_get_every_value(base: Base, tmp_path: Path) -> None:
    file = tmp_path / "engines.yaml"
    file.write_text(
        "variants:\n  - {name: small, set: {pools.main.engine.max_num_seqs: 8}}\n  - {name: as it is, set: {}}\n"
    )
    asked = combined_asked(asked_of_file(file), asked_of_texts(["seed=1,2"], zipped=False))
    assert [(point.variant, point.scenario.seed) for point in base.points(asked)] == [
        ("small", 1),
        ("small", 2),
        ("as it is", 1),
        ("as it is", 2),
    ]


def test_a_sweep_inside_a_scenario_is_no_part_of_its_points(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(CHAT + f"sweep:\n  vary: {{{RATE}: {{from: 1, to: 3, step: 1}}}}\n  replications: 2\n")
    scenario = load(file)
    assert scenario.sweep is not None
    assert parse(to_yaml(scenario)) == scenario
    base = Base(file)
    assert base.own is not None
    assert base.own.replications == 2
    points = base.points(base.own)
    assert [point.settings[RATE] for point in points] == [1, 2, 3]
    assert {point.scenario.sweep for point in points} == {None}


def test_all_faults_of_all_points_are_said_once(base: Base) -> None:
    asked = asked_of_texts(["pools.main.replicaz=1,2", "seed=x,1", f"{RATE}=0,4"], zipped=False)
    with pytest.raises(InputError) as caught:
        base.points(asked)
    assert [str(problem).partition(";")[0] for problem in caught.value.problems] == [
        "--vary pools.main.replicaz: pools.main: unknown key 'replicaz'",
        "--vary seed: expected a whole number, got the text 'x'",
        f"--vary {RATE}: must be at least 1e-09, got 0",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed", "--vary seed: expected path=values, such as"),
        ("=1", "expected path=values"),
        ("seed=", "expected path=values"),
        ("seed=[1", "--vary seed: "),
        ("seed=3:1:1", "--vary seed: "),
        ("seed=1:9:0", "must be greater than 0, got 0"),
        ("pools..x=1", "is no path"),
    ],
)
def test_bad_texts(text: str, message: str, base: Base) -> None:
    with pytest.raises(InputError) as caught:
        base.points(asked_of_texts([text], zipped=False))
    assert message in str(caught.value)


def test_a_scenario_that_names_files_keeps_them(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0,8,4\n1,8,4\n")
    file = tmp_path / "log.yaml"
    log = "{kind: log, path: log.csv, columns: {arrival: arrival_s}}"
    file.write_text(
        f"name: l\nworkload: {{classes: {{c: {{arrivals: {log}}}}}}}\n"
        "pools: {p: {service_time: {kind: affine, base_s: 1}}}\n"
    )
    loaded = load(file)
    (point,) = Base(loaded).points(asked_of_values({"seed": [3]}))
    assert point.scenario.workload == loaded.workload
    json.dumps(point.settings)


def test_faults_of_a_sweep_document_and_of_the_scenario_that_it_names_are_said_together(tmp_path: Path) -> None:
    (tmp_path / "chat.yaml").write_text(CHAT.replace("512", "0").replace("gpu: h100", "gpu: h111"))
    sweep = "scenario: chat.yaml\nvary:\n  pools.main.replicas: [1, 2]\n  pools.main.replicas: [3]\ncombin: zip\n"
    (tmp_path / "sweep.yaml").write_text(sweep)
    with pytest.raises(InputError) as caught:
        Base(tmp_path / "sweep.yaml")
    found = [(Path(problem.file).name, problem.line) for problem in caught.value.problems]
    assert found == [("chat.yaml", 7), ("chat.yaml", 13), ("sweep.yaml", 4), ("sweep.yaml", 5)]


def test_a_key_given_twice_does_not_hide_what_else_is_wrong_with_a_scenario_that_is_swept(tmp_path: Path) -> None:
    file = tmp_path / "chat.yaml"
    file.write_text(CHAT.replace("512", "0") + "name: again\nsweep: {vary: {pools.main.replicas: 1}}\n")
    with pytest.raises(InputError) as caught:
        Base(file)
    assert [problem.line for problem in caught.value.problems] == [7, 17, 18]
