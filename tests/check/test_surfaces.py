"""The command line, JUnit XML, Markdown, the pytest fixture, and the CI files that ship with servesim."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from click.testing import CliRunner, Result

from servesim.check.report import report_of
from servesim.check.run import check
from servesim.cli import main
from servesim.report.check import report_markdown
from servesim.report.junit import junit
from tests.check.conftest import Change
from tests.data import ROOT

ACTION = ROOT / ".github" / "actions" / "servesim-check" / "action.yml"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_update_then_check_then_slower(small: Path, tmp_path: Path, change: Change) -> None:
    baseline = tmp_path / "b.yaml"
    assert run("check", small, "--baseline", baseline).exit_code == 2
    made = run("check", small, "--baseline", baseline, "--update", "--replications", 4)
    assert made.exit_code == 0
    assert "recorded" in made.stdout
    fine = run("check", small, "--baseline", baseline)
    assert fine.exit_code == 0
    assert "no change at all" in fine.stdout
    change("base_s: 0.01", "base_s: 0.0105")
    files = {name: tmp_path / name for name in ("c.xml", "c.md")}
    files["c.md"].write_text("before\n")
    bad = run("check", small, "--baseline", baseline, "--junit", files["c.xml"], "--markdown", files["c.md"])
    assert bad.exit_code == 3
    assert "FAILED" in bad.stdout
    assert "REGRESSION tpot_s.mean" in bad.stdout
    assert files["c.md"].read_text().startswith("before\n### servesim check: failed\n")
    root = ElementTree.parse(files["c.xml"]).getroot()
    assert int(root.get("failures", "0")) == len(root.findall("testsuite/testcase/failure")) > 0
    assert int(root.get("tests", "0")) == len(root.findall("testsuite/testcase"))
    found = json.loads(
        run("check", small, "--baseline", baseline, "--format", "json").stdout, parse_constant=pytest.fail
    )
    assert found["exit_code"] == 3
    assert "tpot_s.mean" in found["scenarios"]["small.yaml"]["regressions"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "give --baseline FILE, or --against GITREF"),
        (("--update",), "give --baseline FILE"),
        (("--baseline", "b.yaml", "--update", "--seed", 3), "no --against, --seed"),
        (("--baseline", "b.yaml", "--metric", "e2e_s.p90"), "--metric is recorded by --update"),
        (("--baseline", "b.yaml", "--budget", "soon"), "expected a time above 0, such as 90s, 5m or 1h"),
        (("--baseline", "b.yaml", "--budget", "0s"), "expected a time above 0"),
        (("--baseline", "b.yaml", "--junit", "no/such/folder.xml"), "there is no folder no/such"),
        (("--baseline", "b.yaml", "--against=-x"), "no such baseline"),
    ],
)
def test_wrong_usage(small: Path, options: tuple[object, ...], message: str) -> None:
    result = run("check", small, *options)
    assert result.exit_code == 2
    assert message in result.stderr


def test_an_update_says_what_the_new_baseline_misses_itself(small: Path, tmp_path: Path, change: Change) -> None:
    baseline = tmp_path / "b.yaml"
    made = run("check", small, "--baseline", baseline, "--update", "--replications", 3, "--quiet")
    assert not made.stderr
    change("slo: {", "slo: {e2e_s: 0.01, ")
    again = run("check", small, "--baseline", baseline, "--update", "--replications", 3, "--quiet")
    assert again.exit_code == 0
    assert "slo_attainment >= 0." in again.stderr
    assert "is missed now, the mean is 0.0 %: every check will fail" in again.stderr
    assert run("check", small, "--baseline", baseline, "--quiet").exit_code == 3


def test_names_are_escaped_everywhere(small: Path, baseline: Path, change: Change) -> None:
    change("base_s: 0.01", "base_s: 0.0105")
    report = check([small], baseline)
    name = "a<b>&\"'\x01]]>|`x`.yaml"
    strange = replace(report, scenarios=[replace(report.scenarios[0], key=name)])
    root = ElementTree.fromstring(junit(strange).split("\n", 1)[1])
    assert root[0].get("name") == name.replace("\x01", "\ufffd")
    assert "\\|\\`x\\`" in report_markdown(strange)


def test_what_the_report_reads_is_written_and_nothing_else_replaced(
    small: Path, baseline: Path, tmp_path: Path, change: Change
) -> None:
    change("base_s: 0.01", "base_s: 0.0105")
    report = check([small], baseline)
    out = tmp_path / "out"
    assert run("check", small, "--baseline", baseline, "-o", out).exit_code == 3
    assert json.loads((out / "check.json").read_text()) == report.plain()
    assert report_of(report.plain()).plain() == report.plain()
    (out / "report.html").write_text("about what was there before")
    assert run("check", small, "--baseline", baseline, "-o", out).exit_code == 3
    assert [path.name for path in out.iterdir()] == ["check.json"]
    refused = run("compare", small, "--set-b", "pools.main.replicas=3", "-o", out)
    assert refused.exit_code == 2
    assert "is not (only) an earlier result: it holds 'check.json'" in refused.stderr
    both = tmp_path / "both"
    done = run("compare", small, "--set-b", "pools.main.replicas=3", "--replications", 3, "-o", both)
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in both.iterdir()) == ["a.yaml", "b.yaml", "comparison.json"]
    assert yaml.safe_load((both / "b.yaml").read_text())["pools"]["main"]["replicas"] == 3
    assert run("check", small, "--baseline", baseline, "--update", "-o", out).exit_code == 2


def test_compare_in_all_formats(small: Path, tmp_path: Path) -> None:
    arguments = ("compare", small, "--set-b", "pools.main.service_time.base_s=0.0105", "--replications", 3)
    table = run(*arguments, "--picture", tmp_path / "d.svg")
    assert table.exit_code == 0
    assert "worse" in table.stdout
    assert "own compute" in table.stdout
    assert "mean and interval" not in table.stdout
    assert ElementTree.parse(tmp_path / "d.svg").getroot().tag.endswith("svg")
    found = json.loads(run(*arguments, "--format", "json").stdout, parse_constant=pytest.fail)
    assert found["metrics"]["tpot_s.mean"]["verdict"] == "worse"
    assert found["metrics"]["tpot_s.mean"]["relative"] == pytest.approx(0.05)
    assert "| metric | A | B |" in run(*arguments, "--format", "markdown").stdout
    assert max(map(len, table.stdout.splitlines())) <= 80
    wide = run("compare", small, "--set-b", "pools.main.service_time.base_s=1.05", "--replications", 3)
    assert "\nrequest_throughput_rps " in wide.stdout
    assert max(map(len, wide.stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "compare with what?"),
        (("--set-b", "pools.main.replicas=0"), "pools.main.replicas"),
        (("--set-b", "pools.main.replicas=2", "--picture", "x.pdf"), "ends in .png or .svg"),
        (("--set-b", "pools.main.replicas=2", "--margin", "-1"), "--margin"),
        (("--set-b", "pools.main.replicas=2", "--metric", "e2e_s.maen"), "did you mean e2e_s.mean"),
    ],
)
def test_compare_wrong_usage(small: Path, options: tuple[object, ...], message: str) -> None:
    result = run("compare", small, *options)
    assert result.exit_code == 2
    assert message in result.stderr


TESTS = """
def test_it(servesim_check):
    servesim_check("small.yaml", baseline="baseline.yaml", replications=3)
"""


def run_pytest(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    installed = any(
        point.value == "servesim.pytest_plugin" for point in importlib.metadata.entry_points(group="pytest11")
    )
    plugin = [] if installed else ["-p", "servesim.pytest_plugin"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *plugin, *options, str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_the_fixture_gives_the_same(small: Path, change: Change) -> None:
    folder = small.parent
    (folder / "test_small.py").write_text(TESTS)
    missing = run_pytest(folder)
    assert missing.returncode == 1
    assert "no such baseline" in missing.stdout
    assert run_pytest(folder, "--servesim-update").returncode == 0
    assert (folder / "baseline.yaml").exists()
    assert run_pytest(folder).returncode == 0
    change("base_s: 0.01", "base_s: 0.0105")
    failed = run_pytest(folder)
    assert failed.returncode == 1
    assert "REGRESSION tpot_s.mean" in failed.stdout


def test_the_action_is_what_github_reads() -> None:
    action = yaml.safe_load(ACTION.read_text())
    assert action["runs"]["using"] == "composite"
    every = json.dumps(action["runs"])
    for name in re.findall(r"inputs\.([a-z-]+)", every):
        assert name in action["inputs"], name
    for step in action["runs"]["steps"]:
        assert step["shell"] == "bash"
        assert "${{" not in step["run"], "inputs are variables of the shell, never its text"
        subprocess.run(["bash", "-n"], input=step["run"], text=True, check=True)
    known = {option for parameter in main.commands["check"].params for option in parameter.opts}
    assert set(re.findall(r"--[a-z]+", action["runs"]["steps"][1]["run"])) <= known


def test_the_actions_script_runs(small: Path, baseline: Path, tmp_path: Path, change: Change) -> None:
    """The script itself, with the command line of this interpreter as `servesim`."""
    program = tmp_path / "bin" / "servesim"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m servesim "$@"\n')
    program.chmod(0o755)
    script = yaml.safe_load(ACTION.read_text())["runs"]["steps"][1]["run"]
    change("base_s: 0.01", "base_s: 0.0105")
    environment = {
        **os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"), "GITHUB_OUTPUT": str(tmp_path / "output"),
        "SCENARIOS": "small*.yaml", "BASELINE": "baseline.yaml", "AGAINST": "", "BUDGET": "5m", "JUNIT": "",
        "INCONCLUSIVE": "fail",
    }  # fmt: skip
    found = subprocess.run(["bash", "-c", script], cwd=small.parent, env=environment, capture_output=True, text=True)
    assert found.returncode == 3, found.stderr
    assert (tmp_path / "output").read_text() == "exit-code=3\n"
    assert "REGRESSION" in (tmp_path / "summary.md").read_text()


def test_yaml_in_the_docs_is_yaml_and_its_commands_exist() -> None:
    text = (ROOT / "docs" / "ci.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert len(blocks) >= 3
    assert all(isinstance(yaml.safe_load(block), dict) for block in blocks)
    known = {option for parameter in main.commands["check"].params for option in parameter.opts}
    for line in re.findall(r"servesim check .*", text):
        assert set(re.findall(r"(?<!\S)--[a-z]+", line)) <= known, line
    gitlab = next(yaml.safe_load(block) for block in blocks if "artifacts" in block)
    assert gitlab["servesim-check"]["artifacts"]["reports"]["junit"] == "servesim-check.xml"
