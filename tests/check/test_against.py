"""Checks against a git revision: its own scenario, run by its own servesim, in a work tree that does not stay."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from servesim.check import fingerprint
from servesim.check.run import check
from servesim.errors import InputError, ServesimError
from tests.check.conftest import Change

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=tests", "-c", "user.email=tests@example.org", "-c", "commit.gpgsign=false")
    command = ["git", "-C", str(folder), *who, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repository(small: Path) -> Path:
    folder = small.parent
    git(folder, "init", "-q")
    git(folder, "add", "small.yaml")
    git(folder, "commit", "-q", "-m", "first")
    return folder


@needs_git
def test_nothing_changed_is_seen_in_one_replication(small: Path, repository: Path) -> None:
    report = check([small], against="HEAD")
    assert report.exit_code == 0
    assert report.scenarios[0].identical
    assert report.scenarios[0].replications == 1
    assert len(git(repository, "worktree", "list").splitlines()) == 1


@needs_git
def test_the_scenario_is_that_of_the_revision(small: Path, repository: Path, change: Change) -> None:
    change("base_s: 0.01", "base_s: 0.0105")
    report = check([small], against="HEAD", replications=3)
    found = report.scenarios[0]
    assert report.exit_code == 3
    assert found.paired
    assert found.replications == 3
    assert found.moved == ["the scenario"]
    git(repository, "commit", "-q", "-a", "-m", "slower")
    assert check([small], against="HEAD").exit_code == 0
    assert check([small], against="HEAD~1", replications=3).exit_code == 3


@needs_git
def test_the_revisions_own_servesim_runs_it(small: Path, repository: Path) -> None:
    """The first commit has a servesim whose round robin always takes the same replica."""
    package = repository / "servesim"
    shutil.copytree(fingerprint.PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    router = package / "policies" / "routing" / "round_robin.py"
    true, false = "return next(self._turn)", "return 0 * next(self._turn)"
    text = router.read_text()
    assert true in text
    router.write_text(text.replace(true, false))
    small.write_text(small.read_text().replace("main: {", "main: {replicas: 2, ").replace("rps: 5.0", "rps: 60.0"))
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "own servesim")
    report = check([small], against="HEAD", replications=3)
    assert "router/round_robin (changed)" in report.scenarios[0].moved
    assert not report.scenarios[0].identical
    assert len(git(repository, "worktree", "list").splitlines()) == 1


@needs_git
def test_thresholds_are_taken_from_a_baseline(small: Path, repository: Path, baseline: Path, change: Change) -> None:
    change("base_s: 0.01", "base_s: 0.0105")
    baseline.write_text(baseline.read_text().replace("threshold: 0.02", "threshold: 0.09"))
    assert check([small], baseline, against="HEAD", replications=3).exit_code == 0


@needs_git
@pytest.mark.parametrize("ref", ["nowhere", "--help", "HEAD~7"])
def test_a_revision_that_does_not_exist(small: Path, repository: Path, ref: str) -> None:
    with pytest.raises(InputError, match=f"--against {ref}: "):
        check([small], against=ref)


@needs_git
def test_a_scenario_that_was_not_there(small: Path, repository: Path) -> None:
    other = small.with_name("other.yaml")
    other.write_text(small.read_text())
    with pytest.raises(InputError, match=r"other\.yaml: does not exist at HEAD; commit it first"):
        check([other], against="HEAD")
    with pytest.raises(InputError, match="does not exist"):
        check([repository / "no" / "such.yaml"], against="HEAD")
    assert len(git(repository, "worktree", "list").splitlines()) == 1


@needs_git
def test_what_the_revision_gets_wrong_is_said_to_be_its(small: Path, repository: Path) -> None:
    good = small.read_text()
    small.write_text(good.replace("num_requests: 200", "num_requests: -1"))
    git(repository, "commit", "-q", "-a", "-m", "broken")
    small.write_text(good)
    with pytest.raises(InputError, match=rf"^at HEAD: {re.escape(str(small))}:3:17: "):
        check([small], against="HEAD")
    (repository / "servesim").mkdir()
    (repository / "servesim" / "__init__.py").write_text("raise SystemExit('no servesim here')\n")
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "no servesim")
    with pytest.raises(ServesimError, match=r"at HEAD: no servesim here"):
        check([small], against="HEAD")


def test_no_repository_at_all(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(small.parent.parent))
    with pytest.raises(InputError, match=r"is in no git repository|needs git"):
        check([small], against="HEAD")
