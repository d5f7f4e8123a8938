"""The installed command as a process of its own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from servesim.cli import progress
from servesim.scenario.load import load, parse
from tests.cli.conftest import SCENARIO

COMMAND = [sys.executable, "-c", "from servesim.cli import main; main(prog_name='servesim')"]


def test_the_command_line_imports_nothing_heavy() -> None:
    code = "import sys, servesim.cli; print(*{m.split('.')[0] for m in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"numpy", "pydantic", "yaml", "rich", "simpy", "pandas", "pyarrow"} & set(loaded.split())


def test_json_can_be_piped(scenario: Path) -> None:
    done = subprocess.run([*COMMAND, "run", str(scenario), "--format", "json"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("{\n")
    assert done.stdout.endswith("}\n")


@pytest.mark.parametrize("style", ["json", "table"])
def test_a_closed_pipe_is_quiet(scenario: Path, style: str) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*COMMAND, "run", str(scenario), "--format", style], stdout=write, stderr=subprocess.PIPE, text=True
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


def test_ctrl_c_ends_in_one_line_and_leaves_no_files(scenario: Path, tmp_path: Path) -> None:
    scenario.write_text(SCENARIO.replace("200", "50000000"))
    before = set(tmp_path.iterdir())
    process = subprocess.Popen(
        [*COMMAND, "run", str(scenario), "-o", str(tmp_path / "out")], stderr=subprocess.PIPE, text=True
    )
    time.sleep(2.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (130, "interrupted\n")
    assert set(tmp_path.iterdir()) == before


def test_a_bar_appears_only_on_a_terminal(
    scenario: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_PATIENCE_S", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    loaded = load(scenario)
    with progress.progress_bar(loaded, enabled=True) as callback:
        assert callback is None
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress.progress_bar(loaded, enabled=False) as callback:
        assert callback is None
    with progress.progress_bar(loaded, enabled=True) as callback:
        assert callback is not None
        callback(12.0, 50)
    shown = capsys.readouterr()
    assert "50 of 200 requests, 12 s simulated" in shown.err
    assert shown.out == ""


def test_a_short_run_shows_no_bar(
    scenario: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress.progress_bar(load(scenario), enabled=True) as callback:
        assert callback is not None
        callback(12.0, 50)
    assert capsys.readouterr().err == ""


def test_expected_requests_is_known_only_where_counts_are_given() -> None:
    assert progress.expected_requests(parse(SCENARIO)) == 200
    assert progress.expected_requests(parse(SCENARIO, overrides=["workload.classes.chat.num_requests=7"])) == 7
    assert progress.expected_requests(parse(SCENARIO, overrides=["workload.classes.chat.duration_s=7"])) is None
