"""`servesim report`."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result

from servesim.cli import main


def report(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["report", *map(str, arguments)])


def test_a_page_is_written_beside_the_result_and_goes_with_it(run, scenario: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    assert run(scenario, "-o", target).exit_code == 0
    done = report(target)
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", f"wrote {target / 'report.html'}\n")
    first = (target / "report.html").read_bytes()
    assert b"Does it meet its service-level objective?" in first
    assert report(target, "--quiet").stderr == ""
    assert (target / "report.html").read_bytes() == first
    assert run(scenario, "-o", target).exit_code == 0  # a result with a page can still be replaced
    assert not (target / "report.html").exists()


def test_the_page_can_go_elsewhere_but_not_over_other_files(run, scenario: Path, tmp_path: Path) -> None:
    target, other = tmp_path / "out", tmp_path / "notes.html"
    run(scenario, "-o", target)
    other.write_text("notes")
    refused = report(target, "-o", other)
    assert refused.exit_code == 2
    assert "is not a servesim report" in refused.stderr
    assert other.read_text() == "notes"
    assert report(target, "-o", tmp_path / "page.html").exit_code == 0
    assert not (target / "report.html").exists()


def test_what_is_no_result_is_said_in_one_line(tmp_path: Path) -> None:
    for directory, message in ((tmp_path / "none", "there is no such directory"), (tmp_path, "holds no result")):
        refused = report(directory)
        assert refused.exit_code == 2
        assert message in refused.stderr
        assert len(refused.stderr.splitlines()) == 1


def test_a_result_with_retries_can_be_replaced(run, scenario: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    retry = "workload.classes.chat.retry={max_attempts: 2, backoff_s: 0.1}"
    first = run(scenario, "-o", target, "--set", retry)
    assert first.exit_code == 0, first.stderr
    assert (target / "attempts.parquet").exists()
    assert run(scenario, "-o", target).exit_code == 0
