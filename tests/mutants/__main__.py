"""Wrong models of servesim, and whether the tests notice: `python -m tests.mutants [--third K] [--name TEXT] [--list]`.

Each mutant is a small mistake in a temporary copy of the package and its tests. It is killed if the tests named beside
it fail, or else the default suite; what lives is printed, and the exit code is 1 if fewer than 95 % were killed. First
all the named tests must pass on the copy as it is. See docs/mutants.md.
"""

from __future__ import annotations

import argparse
import compileall
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from tests.data import ROOT
from tests.mutants.catalog import MUTANTS, third
from tests.mutants.model import Mutant, mutate
from tests.mutants.oracles import FALLBACK

COPIED = ("servesim", "tests", "docs", "scenarios", "pyproject.toml", "README.md", "CHANGELOG.md")
LONGEST_S = 600
WANTED = 0.95
FAILED, INTERRUPTED = 1, 2
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

    def judge(self, mutant: Mutant) -> Verdict:
        """Return what the tests say of a mutant: those named beside it first, then all."""
        path = self.folder / "servesim" / mutant.path
        source = path.read_bytes()
        times = path.stat()
        path.write_text(mutate(mutant, self.folder / "servesim"), encoding="utf-8")
        try:
            quick = self.run(mutant.tests)
            if quick.by:
                return quick
            rest = self.run(FALLBACK)
            return Verdict(rest.by, quick.seconds + rest.seconds)
        finally:
            path.write_bytes(source)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    def run(self, tests: Sequence[str]) -> Verdict:
        """Run pytest and return its first failure; without byte code, which could be that of the mutant before."""
        # The profile searches the same examples each time, and does not spend minutes on making a failure small.
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": "", "HYPOTHESIS_PROFILE": "mutants"}
        begin = time.monotonic()
        try:
            ended = subprocess.run(
                [*PYTEST, *tests], cwd=self.folder, env=environment, capture_output=True, text=True, timeout=LONGEST_S
            )
        except subprocess.TimeoutExpired:
            return Verdict(f"no end within {LONGEST_S} s", time.monotonic() - begin)
        seconds = time.monotonic() - begin
        if ended.returncode == 0:
            return Verdict("", seconds)
        if ended.returncode not in (FAILED, INTERRUPTED):
            raise RuntimeError(f"pytest {' '.join(tests)}: exit code {ended.returncode}\n{ended.stdout[-2000:]}")
        failures = [line for line in ended.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
        return Verdict(failures[0].split(" - ")[0] if failures else "pytest failed", seconds)


@contextmanager
def workspaces(number: int) -> Iterator[SimpleQueue[Workspace]]:
    """Yield copies to work in, deleted in the end."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        free: SimpleQueue[Workspace] = SimpleQueue()
        for index in range(number):
            free.put(Workspace(Path(folder) / str(index)))
        yield free


def judged(mutants: Sequence[Mutant], processes: int) -> dict[str, Verdict]:
    """Return the verdict on each mutant, printing them as they come."""
    with workspaces(processes) as free, ThreadPoolExecutor(processes) as pool:

        def untouched(tests: tuple[str, ...]) -> Verdict:
            space = free.get()
            try:
                return space.run(tests)
            finally:
                free.put(space)

        def one(mutant: Mutant) -> Verdict:
            space = free.get()
            try:
                verdict = space.judge(mutant)
            finally:
                free.put(space)
            print(f"{verdict.by or 'LIVES'}  <-  {mutant.name} ({verdict.seconds:.0f} s)", flush=True)
            return verdict

        every = sorted({test for mutant in mutants for test in mutant.tests})
        for verdict in pool.map(
            untouched, [tuple(every[place::processes]) for place in range(min(processes, len(every)))]
        ):
            if verdict.by:
                raise SystemExit(f"without any mutant, {verdict.by}")
        return dict(zip((mutant.name for mutant in mutants), pool.map(one, mutants), strict=True))


def main() -> int:
    """Run the mutants asked for and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--third", type=int, choices=(0, 1, 2), help="only every third mutant")
    parser.add_argument("--name", default="", help="only mutants whose name has this in it")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--list", action="store_true", help="print the mutants and their tests")
    options = parser.parse_args()
    chosen = [one for one in (MUTANTS if options.third is None else third(options.third)) if options.name in one.name]
    if options.list:
        for mutant in chosen:
            print(f"{mutant.name}\n    {mutant.path}: {' '.join(mutant.tests)}")
        return 0
    begin = time.monotonic()
    verdicts = judged(chosen, options.processes)
    lives = [name for name, verdict in verdicts.items() if not verdict.by]
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    killed = len(verdicts) - len(lives)
    took = f"{time.monotonic() - begin:.0f} s, {used.ru_utime + used.ru_stime:.0f} CPU-s"
    print(f"{killed} of {len(verdicts)} mutants killed ({took}); alive: {', '.join(lives) or 'none'}")
    return 0 if killed >= WANTED * len(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
