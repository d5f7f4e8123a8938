"""`servesim run --why`, `--pictures` and `--format markdown`."""

import json
import re
from pathlib import Path

import pytest

from servesim.cli.output import PICTURE_FILES, RESULT_FILES
from servesim.experiment import simulate as simulation


def pictures(style: str) -> set[str]:
    return {name for name in PICTURE_FILES if name.endswith(style)}


def test_pictures_are_written_with_the_result_and_replaced_with_it(run, scenario: Path, tmp_path: Path) -> None:
    target = tmp_path / "result"
    assert run(scenario, "-o", target, "--pictures").exit_code == 0
    assert {path.name for path in target.iterdir()} == RESULT_FILES | pictures("png")
    first = {name: (target / name).read_bytes() for name in pictures("png")}
    assert run(scenario, "-o", target, "--pictures").exit_code == 0
    assert first == {name: (target / name).read_bytes() for name in pictures("png")}
    assert run(scenario, "-o", target, "--pictures", "--picture-format", "svg").exit_code == 0
    assert {path.name for path in target.iterdir()} == RESULT_FILES | pictures("svg")
    assert run(scenario, "-o", target).exit_code == 0
    assert {path.name for path in target.iterdir()} == RESULT_FILES


def test_pictures_need_a_directory(run, scenario: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "simulate", lambda *_, **__: pytest.fail("it ran"))
    result = run(scenario, "--pictures")
    assert result.exit_code == 2
    assert "--pictures needs -o DIR" in result.stderr


def test_a_picture_that_fails_leaves_nothing_behind(
    run, scenario: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = set(tmp_path.iterdir())
    monkeypatch.setattr("servesim.report.pictures.save", fail)
    assert run(scenario, "-o", tmp_path / "out", "--pictures").exit_code == 1
    assert set(tmp_path.iterdir()) == before


def test_why_adds_verified_changes_to_the_table_and_the_file(run, scenario: Path, tmp_path: Path) -> None:
    plain, why = run(scenario), run(scenario, "--why", "-o", tmp_path / "out")
    assert why.exit_code == 0
    assert "one change at a time" in why.stdout
    assert "one change at a time" not in plain.stdout
    assert "Bottleneck of p99 TTFT and p99 E2E: compute." in plain.stdout
    saved = json.loads((tmp_path / "out" / "summary.json").read_text())["why"]
    flat = " ".join(why.stdout.split())
    assert all(" ".join(sentence.split()) in flat for sentence in saved["words"])
    best = saved["changes"]["tried"][0]
    by_hand = json.loads(run(scenario, "--set", best["set"], "--format", "json").stdout)
    assert by_hand["classes"]["all"]["ttft_s"]["p99"] == best["p99_ttft_s"]


def test_why_again_gives_the_same_bytes(run, scenario: Path) -> None:
    first, second = (run(scenario, "--why", "--seed", 3, "--format", "json").stdout for _ in range(2))
    assert first == second
    assert json.loads(first)["why"]["changes"]["base"]["offered"] == 200


def test_why_follows_set_and_seed(run, scenario: Path) -> None:
    setting = "workload.classes.chat.arrivals.request_rate_rps=40"
    found = json.loads(run(scenario, "--set", setting, "--seed", 5, "--why", "--format", "json").stdout)
    assert found["why"]["changes"]["base"]["p99_ttft_s"] == found["classes"]["all"]["ttft_s"]["p99"]


def test_markdown_holds_the_tables_of_the_terminal(run, scenario: Path) -> None:
    table, text = run(scenario).stdout, run(scenario, "--format", "markdown")
    assert (text.exit_code, text.stderr) == (0, "")
    assert text.stdout.startswith("### small, seed 0\n\n| class |")
    cells = set(re.findall(r"[\d.,]+ m?s\b", table))
    assert cells
    assert cells <= set(re.findall(r"[\d.,]+ m?s\b", text.stdout))
    assert "\x1b" not in text.stdout


@pytest.mark.parametrize("columns", ["80", "120"])
def test_the_table_fits_the_terminal(columns: str, run, scenario: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert max(map(len, run(scenario, "--why").stdout.splitlines())) <= int(columns)
