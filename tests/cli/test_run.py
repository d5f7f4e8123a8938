"""`servesim run` in this process: what it prints where, what it writes, how it exits."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from servesim.cli import main
from servesim.cli.output import RESULT_FILES
from servesim.experiment import simulate as simulation
from servesim.scenario.load import load

MISSED = "workload.classes.chat.slo.ttft_s=1e-3"
OVERLOAD = (
    "--set", "workload.classes.chat.arrivals.request_rate_rps=50", "--set", "workload.num_requests=2000",
    "--set", "pools.main.engine.max_num_seqs=4",
)  # fmt: skip


def test_table_goes_to_stdout_and_nothing_to_stderr(run, scenario: Path) -> None:
    result = run(scenario)
    assert result.exit_code == 0
    assert "small" in result.stdout
    assert "TTFT" in result.stdout
    assert result.stderr == ""
    assert "\x1b" not in result.stdout


def test_json_is_exactly_the_summary_with_words(run, scenario: Path) -> None:
    result = run(scenario, "--format", "json")
    assert result.exit_code == 0
    summary = json.loads(result.stdout, parse_constant=pytest.fail)
    assert next(iter(summary)) == "schema_version"
    words = summary["why"].pop("words")
    assert summary == json.loads(json.dumps(simulation.simulate(load(scenario)).summary))
    assert words[0].startswith("p99 TTFT (")
    assert summary["provenance"]["validation"]["pools"]["main"]["service_times"] == "given"


def test_result_files_are_written_and_run_again_to_the_same_numbers(run, scenario: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "new" / "first", tmp_path / "second"
    assert run(scenario, "-o", first, "--seed", 7, "--set", "description=x").exit_code == 0
    assert {path.name for path in first.iterdir()} == RESULT_FILES
    assert yaml.safe_load((first / "scenario.resolved.yaml").read_text())["seed"] == 7
    assert run(first / "scenario.resolved.yaml", "-o", second).exit_code == 0
    tables = [[(folder / name).read_bytes() for name in ("requests.parquet", "scenario.resolved.yaml")]
              for folder in (first, second)]  # fmt: skip
    assert tables[0] == tables[1]


def test_seed_changes_the_numbers_and_set_is_applied_before_it(run, scenario: Path) -> None:
    def summary(*arguments: object) -> dict:
        return json.loads(run(scenario, "--format", "json", *arguments).stdout)

    assert summary("--seed", 1)["classes"] != summary("--seed", 2)["classes"]
    assert summary("--set", "seed=5", "--seed", 1)["seed"] == 1
    assert summary("--set", "seed=5")["seed"] == 5


def test_an_earlier_result_is_replaced_but_nothing_else_is(run, scenario: Path, tmp_path: Path) -> None:
    target = tmp_path / "result"
    assert run(scenario, "-o", target).exit_code == 0
    assert run(scenario, "-o", target, "--seed", 3).exit_code == 0
    assert json.loads((target / "summary.json").read_text())["seed"] == 3
    (target / "notes.txt").write_text("mine")
    refused = run(scenario, "-o", target)
    assert refused.exit_code == 2
    assert "holds 'notes.txt'" in refused.stderr
    assert (target / "notes.txt").read_text() == "mine"
    assert run(scenario, "-o", target, "--force").exit_code == 0
    assert {path.name for path in target.iterdir()} == RESULT_FILES


def test_a_target_that_cannot_be_written_is_refused_before_the_run(
    run, scenario: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulation, "simulate", lambda *_, **__: pytest.fail("it ran"))
    for target, message in (
        (scenario, "is a file"),
        (scenario / "sub", "is not a writable directory"),
        (Path.cwd(), "current or the home directory"),
        (Path("/"), "current or the home directory"),
    ):
        result = run(scenario, "-o", target, "--force")
        assert (result.exit_code, message in result.stderr) == (2, True), result.stderr


def test_a_failed_run_leaves_nothing_behind(run, scenario: Path, tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())
    result = run(scenario, "-o", tmp_path / "out", "--set", "limits.max_events=3")
    assert result.exit_code == 4
    assert result.stderr.startswith("error: limits.max_events")
    assert result.stdout == ""
    assert set(tmp_path.iterdir()) == before


def test_strict_turns_a_missed_slo_and_overload_into_exit_codes(run, scenario: Path) -> None:
    fine, missed, overloaded = run(scenario, "--strict"), run(scenario, "--set", MISSED), run(scenario, *OVERLOAD)
    assert [fine.exit_code, missed.exit_code, overloaded.exit_code] == [0, 0, 0]
    assert missed.stderr == "warning: class chat: 0.00 % of requests met the SLO, 90 % asked for\n"
    assert run(scenario, "--set", MISSED, "--quiet").stderr == ""
    assert run(scenario, "--set", MISSED, "--strict").exit_code == 3
    assert run(scenario, *OVERLOAD, "--strict").exit_code == 4


def test_strict_does_not_pass_what_was_not_measured(run, scenario: Path) -> None:
    nothing = run(scenario, "--set", "measurement={warmup: {time_s: 1e6}}", "--strict")
    assert nothing.exit_code == 3
    assert "no request was measured" in nothing.stderr


def test_bad_input_is_reported_with_its_place_and_exit_code_2(run, scenario: Path) -> None:
    scenario.write_text(scenario.read_text().replace("200", "0").replace("64", "x"))
    result = run(scenario, "--set", "seed=-1")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines()[:2] == [
        "--set seed: must be at least 0, got -1",
        f"{scenario}:3:17: workload.num_requests: must be at least 1, got 0",
    ]
    assert len(result.stderr.splitlines()) == 3


def test_what_is_found_only_when_the_run_starts_gets_its_line_too(run, scenario: Path) -> None:
    scenario.write_text(scenario.read_text().replace("{kind: affine, base_s: 0.01}", "{kind: calibrated}"))
    result = run(scenario)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"{scenario}:11:3: pools.main: calibrated needs")


@pytest.mark.parametrize(("error", "exit_code", "message"), [
    (KeyboardInterrupt(), 130, "interrupted\n"),
    (ZeroDivisionError("by zero"), 1, "internal error (ZeroDivisionError: by zero); please report it, with the "
                                      "traceback that --debug shows\n"),
    (MemoryError(), 1, "error: out of memory; limits.max_memory_bytes stops a run before that\n"),
    (OSError(28, "No space left on device"), 1, "error: [Errno 28] No space left on device\n"),
])  # fmt: skip
def test_whatever_happens_ends_in_one_line(
    error: BaseException, exit_code: int, message: str, run, scenario: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(simulation, "simulate", fail)
    result = run(scenario)
    assert (result.exit_code, result.stdout, result.stderr) == (exit_code, "", message)


def test_debug_shows_the_traceback(run, scenario: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "simulate", lambda *_, **__: 1 / 0)
    result = run(scenario, "--debug")
    assert result.exit_code == 1
    assert result.stderr.startswith("Traceback (most recent call last)")


@pytest.mark.parametrize(("arguments", "message"), [
    (["rn", "x.yaml"], "no such command 'rn'; did you mean run?"),
    (["zzz"], "no such command 'zzz'; there are: "),
    (["run"], "Missing argument 'SCENARIO'"),
    (["run", "x.yaml", "--formt", "json"], "--format"),
    (["run", "x.yaml", "--format", "xml"], "'table', 'json'"),
    (["run", "x.yaml", "--seed", "-1"], "--seed"),
    (["run", "no-such-file.yaml"], "no-such-file.yaml: no such file"),
])  # fmt: skip
def test_usage_errors(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


def test_help_shows_examples_that_parse(scenario: Path) -> None:
    for arguments in (["--help"], ["run", "--help"]):
        text = CliRunner().invoke(main, arguments).stdout
        assert "servesim run chat.yaml --set" in text
        assert "--help" in text
    assert CliRunner().invoke(main, ["--version"]).stdout.startswith("servesim, version ")


def test_allow_path_lets_a_scenario_read_elsewhere(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SERVESIM_ALLOW_PATH", raising=False)
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    trace = tmp_path / "there" / "trace.jsonl"
    trace.write_text('{"timestamp": 0, "input_length": 10, "output_length": 5}\n')
    scenario = tmp_path / "here" / "replay.yaml"
    scenario.write_text(
        "name: replay\nworkload: {classes: {one: {arrivals: {kind: mooncake_trace, path: ../there/trace.jsonl}}}}\n"
        "pools: {main: {service_time: {kind: affine, base_s: 0.01}}}\n"
    )
    refused = run(scenario)
    assert refused.exit_code == 2
    assert f"--allow-path {trace.parent}" in refused.stderr
    assert run(scenario, "--allow-path", trace.parent).exit_code == 0
