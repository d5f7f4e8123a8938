"""Files that a scenario names."""

import os
from pathlib import Path

import pytest

from servesim.errors import InputError
from servesim.scenario.load import load

TRACE = '{"timestamp": 0, "input_length": 10, "output_length": 5}\n'
SCENARIO = """\
name: replay
workload:
  classes:
    one: {arrivals: {kind: mooncake_trace, path: %s}}
pools:
  main: {service_time: {kind: affine, base_s: 0.01}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`inside/scenario.yaml` with `inside/data/trace.jsonl`, and `outside/trace.jsonl` beside it."""
    monkeypatch.delenv("SERVESIM_ALLOW_PATH", raising=False)
    for sub in ("inside/data", "outside"):
        (tmp_path / sub).mkdir(parents=True)
        (tmp_path / sub / "trace.jsonl").write_text(TRACE)
    return tmp_path


def scenario_naming(folder: Path, path: str) -> Path:
    file = folder / "inside" / "scenario.yaml"
    file.write_text(SCENARIO % path)
    return file


def trace_of(scenario) -> Path:
    return Path(scenario.workload.classes["one"].arrivals.path)


@pytest.mark.parametrize("path", ["data/trace.jsonl", "./data/../data/trace.jsonl", "../inside/data/trace.jsonl"])
def test_a_file_below_the_scenario_is_found_from_anywhere(folder: Path, path: str) -> None:
    assert trace_of(load(scenario_naming(folder, path))) == folder / "inside/data/trace.jsonl"


@pytest.mark.parametrize("style", ["relative", "absolute", "symlink"])
def test_a_file_outside_needs_permission(folder: Path, style: str, monkeypatch: pytest.MonkeyPatch) -> None:
    outside = folder / "outside" / "trace.jsonl"
    (folder / "inside" / "link.jsonl").symlink_to(outside)
    path = {"relative": "../outside/trace.jsonl", "absolute": str(outside), "symlink": "link.jsonl"}[style]
    file = scenario_naming(folder, path)
    with pytest.raises(InputError) as caught:
        load(file)
    (problem,) = caught.value.problems
    assert (problem.line, problem.column) == (4, 50)
    assert f"--allow-path {outside.parent}" in problem.message
    assert trace_of(load(file, allow_paths=[outside.parent])) == outside
    monkeypatch.setenv("SERVESIM_ALLOW_PATH", os.pathsep.join(["/nowhere", str(folder / "outside")]))
    assert trace_of(load(file)) == outside


def test_a_sibling_folder_with_the_same_beginning_is_outside(folder: Path) -> None:
    (folder / "inside-not").mkdir()
    (folder / "inside-not" / "trace.jsonl").write_text(TRACE)
    with pytest.raises(InputError, match="outside the scenario's folder"):
        load(scenario_naming(folder, "../inside-not/trace.jsonl"))


def test_an_override_is_relative_to_the_current_directory_and_allowed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    file = scenario_naming(folder, "data/trace.jsonl")
    found = load(file, ["workload.classes.one.arrivals.path=outside/trace.jsonl"])
    assert trace_of(found) == folder / "outside/trace.jsonl"
    with pytest.raises(InputError, match=r"^--set workload.classes.one.arrivals.path: 'nothing' does not exist"):
        load(file, ["workload.classes.one.arrivals.path=nothing"])


def test_a_loop_of_symlinks_is_an_input_error(folder: Path) -> None:
    (folder / "inside" / "loop").symlink_to("loop")
    with pytest.raises(InputError, match=r"scenario.yaml:4:50: workload.classes.one.arrivals.path: 'loop' "):
        load(scenario_naming(folder, "loop"))


@pytest.mark.parametrize("path", ["data", "'.'", "''", "no.jsonl", "data/trace.jsonl/x", "x" * 300])
def test_what_is_no_file_is_refused(folder: Path, path: str) -> None:
    with pytest.raises(InputError) as caught:
        load(scenario_naming(folder, path))
    (problem,) = caught.value.problems
    assert problem.path == "workload.classes.one.arrivals.path"
