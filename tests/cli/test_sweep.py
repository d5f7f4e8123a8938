"""`servesim sweep`."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from servesim.cli import main
from servesim.cli.schema import schema
from servesim.report.sweep_text import print_sweep
from tests.cli.conftest import SCENARIO

RATE = "workload.classes.chat.arrivals.request_rate_rps"


def sweep(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["sweep", *map(str, arguments)])


def test_a_sweep_writes_a_table_files_and_pictures(scenario: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = sweep(scenario, "--vary", f"{RATE}=2,20,80", "--replications", 2, "-o", out, "--seed", 7)
    assert done.exit_code == 0, done.output
    assert "small, 3 points, 2 replications each" in done.stdout
    assert "request_rate_rps" in done.stdout
    names = sorted(path.name for path in out.iterdir())
    assert names == [".lock", "curves.png", "frontier.png", "points", "points.parquet", "scenario.yaml", "sweep.json"]
    document = json.loads((out / "sweep.json").read_text())
    assert document["replications"]["seeds"][0] == 7
    assert [point["settings"] for point in document["points"]] == [{RATE: 2}, {RATE: 20}, {RATE: 80}]
    assert pq.read_table(out / "points.parquet").num_rows == 3
    before = {name: (out / name).read_bytes() for name in names if name not in (".lock", "points")}
    again = sweep(scenario, "--vary", f"{RATE}=2,20,80", "--replications", 2, "-o", out, "--seed", 7, "--resume")
    assert again.stdout == done.stdout
    assert before == {name: (out / name).read_bytes() for name in before}


def test_json_is_all_there_is_on_stdout(scenario: Path) -> None:
    done = sweep(scenario, "--vary", "pools.main.replicas=1,2", "--vary", "seed=5,6", "--zip", "--format", "json")
    assert done.exit_code == 0
    points = json.loads(done.stdout)["points"]
    assert [point["settings"] for point in points] == [
        {"pools.main.replicas": 1, "seed": 5},
        {"pools.main.replicas": 2, "seed": 6},
    ]


def test_a_dry_run_shows_points_and_runs_none(scenario: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = sweep(scenario, "--vary", "pools.main.replicas=1:4:1", "--replications", 5, "--dry-run", "-o", out)
    assert done.exit_code == 0, done.output
    assert "4 points x 5 replications = 20 runs; about" in done.stdout
    assert not out.exists()


def test_a_sweep_document_names_its_scenario(scenario: Path, tmp_path: Path) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(f"scenario: {scenario.name}\nvariants:\n  - {{name: two, set: {{pools.main.replicas: 2}}}}\n")
    done = sweep(study, "--format", "json")
    assert [point["variant"] for point in json.loads(done.stdout)["points"]] == ["two"]
    with_rates = sweep(scenario, "--variants", study, "--vary", f"{RATE}=2,4", "--format", "json")
    assert [point["settings"][RATE] for point in json.loads(with_rates.stdout)["points"]] == [2, 4]


def test_failed_points_are_shown_and_the_exit_code_says_so(scenario: Path) -> None:
    done = sweep(scenario, "--vary", "limits.max_events=10,1000000")
    assert done.exit_code == 1
    assert "FAILED point 0: limits.max_events" in done.stdout


def test_where_no_point_can_be_run_each_fault_names_its_settings(scenario: Path) -> None:
    gpus = ("--set", "pools.main.model=llama-3.1-70b", "--set", "pools.main.service_time=roofline")
    done = sweep(scenario, *gpus, "--vary", "pools.main.gpu=l4,t4", "--vary", "seed=1,2")
    assert done.exit_code == 2
    first, second = done.stderr.splitlines()
    assert "does not fit" in first
    assert first.endswith("(pools.main.gpu=l4, seed=1 and 1 more)")
    assert second.endswith("(pools.main.gpu=t4, seed=1 and 1 more)")


@pytest.mark.parametrize(
    ("path", "advice"),
    [("pools.mian.replicas", "did you mean pools.main?"), ("workload.classes.chta.priority", "workload.classes.chat?")],
)
def test_a_pool_or_class_that_varies_by_mistake_is_named(scenario: Path, path: str, advice: str) -> None:
    done = sweep(scenario, "--vary", f"{path}=1,2")
    assert done.exit_code == 2
    assert advice in done.stderr


def test_a_variants_name_has_a_longest_length(scenario: Path, tmp_path: Path) -> None:
    file = tmp_path / "v.yaml"
    file.write_text(f"variants: [{{name: {'x' * 65}, set: {{}}}}]")
    done = sweep(scenario, "--variants", file)
    assert (done.exit_code, done.stderr) == (2, f"{file}:1:19: variants.0.name: at most 64 characters, got 65\n")


def test_what_points_warn_of_stands_under_the_table(scenario: Path) -> None:
    done = sweep(scenario, "--vary", "pools.main.engine.num_gpu_blocks=3,500", "--quiet")
    assert done.exit_code == 0, done.output
    assert "WARNING rejected 200: needs more KV blocks than the replica has (1 of 2 points)" in done.stdout
    calm = sweep(scenario, "--vary", "pools.main.engine.num_gpu_blocks=500,600", "--quiet")
    assert "WARNING" not in calm.stdout


def test_many_warnings_are_cut_short_and_counted() -> None:
    points = [
        {
            "index": n,
            "variant": "",
            "settings": {},
            "error": None,
            "overloaded": False,
            "metrics": {},
            "warnings": [f"w{n}"],
        }
        for n in range(12)
    ]
    console = Console(record=True, file=io.StringIO())
    print_sweep(
        {"scenario": "s", "points": points, "settings": [], "frontier": [], "replications": {"number": 1}}, console
    )
    text = console.export_text()
    assert text.count("WARNING") == 8
    assert "4 more warnings" in text


@pytest.mark.parametrize("where", ["file", "file/sub", "file/sub/deeper"])
def test_a_folder_that_cannot_be_made_is_bad_usage_and_nothing_runs(scenario: Path, tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("mine")
    done = sweep(scenario, "--vary", "pools.main.replicas=1,2", "-o", tmp_path / where)
    assert done.exit_code == 2
    assert done.stderr.startswith(f"-o {tmp_path / where}: ")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.filterwarnings("error::UserWarning")
def test_names_that_the_font_lacks_make_no_noise(scenario: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.yaml"
    names.write_text("variants: [{name: '\U0001f680 fast', set: {}}, {name: two, set: {pools.main.replicas: 2}}]")
    done = sweep(scenario, "--variants", names, "--vary", f"{RATE}=2,20", "-o", tmp_path / "out", "--quiet")
    assert done.exit_code == 0, done.output
    assert not done.stderr
    assert (tmp_path / "out" / "curves.png").exists()


def test_sensitivity_lists_what_moves_and_what_does_not(tmp_path: Path) -> None:
    scenario, out = tmp_path / "s.yaml", tmp_path / "out"
    scenario.write_text(SCENARIO.replace("main: {", "main: {usd_per_gpu_hour: 2.0, "))
    done = sweep(scenario, "--sensitivity", "--replications", 3, "-o", out)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == "small, one change at a time, 3 replications"
    assert any(line.startswith("base_s ") for line in lines[2:4])
    assert any("changes none of them" in line for line in lines)
    assert json.loads((out / "sensitivity.json").read_text())["changes"][0]["set"].endswith("base_s")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing varies"),
        (["--vary", "pools.main.replicaz=1,2"], "--vary pools.main.replicaz: pools.main: unknown key 'replicaz'"),
        (["--vary", "seed=1,2", "--resume"], "--resume needs"),
        (["--sensitivity", "--vary", "seed=1,2"], "chooses the settings itself"),
        (["--zip"], "--zip is for --vary"),
        (["--vary", "seed=1,2", "--executor", "slurm"], "executor 'slurm': expected local, dask"),
        (["--variants", "none.yaml"], "none.yaml"),
    ],
)
def test_bad_usage_is_answered_with_2(scenario: Path, arguments: list[str], message: str) -> None:
    done = sweep(scenario, *arguments)
    assert done.exit_code == 2
    assert message in done.stderr


def test_the_schema_of_sweep_documents() -> None:
    found = json.loads(CliRunner().invoke(schema, ["--sweep"]).stdout)
    assert set(found["properties"]) == {"scenario", "vary", "combine", "variants", "replications"}
    assert set(found["$defs"]["RangeSpec"]["properties"]) == {"from", "to", "steps", "step", "scale"}
