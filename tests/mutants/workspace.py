"""A copy of the project in which mutants live, one at a time, and what its tests say of them."""

from __future__ import annotations

import compileall
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.data import ROOT
from tests.mutants.model import Mutant, mutate

COPIED = ("servesim", "tests", "docs", "scenarios", ".ci", "pyproject.toml", "README.md", "CHANGELOG.md")
FAILED, INTERRUPTED = 1, 2
OUT_OF_TIME = (-signal.SIGXCPU, -signal.SIGKILL)
PYTEST = (sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider")


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant, or of the tests without one: `by` is the first failure, "" if all passed."""

    by: str
    seconds: float


class Workspace:
    """A copy of the project in which one mutant at a time lives."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in COPIED:
            source, target = ROOT / name, folder / name
            if source.is_dir():
                shutil.copytree(source, target)
            elif source.exists():
                shutil.copy2(source, target)
        compileall.compile_dir(folder, quiet=2)

    def judge(self, mutant: Mutant, tests: Sequence[str], cpu_s: int) -> Verdict:
        """Return what the tests say of a mutant."""
        path = self.folder / "servesim" / mutant.path
        source = path.read_bytes()
        times = path.stat()
        path.write_text(mutate(mutant, self.folder / "servesim"), encoding="utf-8")
        try:
            return self.run(tests, cpu_s)
        finally:
            path.write_bytes(source)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    def run(self, tests: Sequence[str], cpu_s: int) -> Verdict:
        """Run pytest and return its first failure; no process of it may use more than `cpu_s` seconds.

        That limit, for mutants that run for ever, is of CPU time: a busy machine kills nobody. No byte code is
        written, which could be that of the mutant before.
        """
        environment = {
            **os.environ,
            "PYTHONDONTWRITEBYTECODE": "1",
            # Processes that the tests start must find the mutant, too.
            "PYTHONPATH": str(self.folder),
            # The same examples each time, and no minutes spent on making a failure small.
            "HYPOTHESIS_PROFILE": "mutants",
        }
        command = ["sh", "-c", f'ulimit -t {cpu_s}; exec "$@"', "sh", *PYTEST, *tests]
        begin = time.monotonic()
        ended = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)
        seconds = time.monotonic() - begin
        if ended.returncode == 0:
            return Verdict("", seconds)
        if ended.returncode in OUT_OF_TIME:
            return Verdict(f"no end within {cpu_s} CPU-s", seconds)
        if ended.returncode not in (FAILED, INTERRUPTED):
            raise RuntimeError(f"pytest {' '.join(tests)}: exit code {ended.returncode}\n{ended.stdout[-2000:]}")
        failures = [line for line in ended.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
        return Verdict(failures[0].split(" - ")[0] if failures else "pytest failed", seconds)
