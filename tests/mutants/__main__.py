"""Wrong models of servesim, and whether the tests notice: `python -m tests.mutants [--third K] [--quick] [--write]`.

Each mutant is a small mistake in a temporary copy of the package and its tests. It is killed if the tests named beside
it fail, or else, unless `--quick`, the default suite; what lives is printed, and the exit code is 1 if fewer than 95 %
were killed. First the tests must pass on the copy as it is. See docs/mutants.md.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory

from tests.mutants.catalog import MUTANTS, third
from tests.mutants.figures import page, write
from tests.mutants.model import Mutant
from tests.mutants.oracles import FALLBACK
from tests.mutants.workspace import Verdict, Workspace

WANTED = 0.95
QUICK_CPU_S = 120
SUITE_CPU_S = 1800


@contextmanager
def workspaces(number: int) -> Iterator[SimpleQueue[Workspace]]:
    """Yield copies to work in, deleted in the end."""
    with TemporaryDirectory(prefix="mutants-") as folder:
        free: SimpleQueue[Workspace] = SimpleQueue()
        for index in range(number):
            free.put(Workspace(Path(folder) / str(index)))
        yield free


def judged(mutants: Sequence[Mutant], processes: int, quick: bool) -> dict[str, Verdict]:
    """Return the verdict on each mutant, printing them as they come."""
    with workspaces(processes) as free, ThreadPoolExecutor(processes) as pool:

        def one(mutant: Mutant) -> Verdict:
            space = free.get()
            try:
                return said(mutant, space.judge(mutant, mutant.tests, QUICK_CPU_S))
            finally:
                free.put(space)

        first = free.get()
        must_pass(first, sorted({test for mutant in mutants for test in mutant.tests}), processes)
        free.put(first)
        verdicts = dict(zip((mutant.name for mutant in mutants), pool.map(one, mutants), strict=True))
        left = [mutant for mutant in mutants if not verdicts[mutant.name].by]
        if left and not quick:
            must_pass(first, FALLBACK, processes)
            for mutant in left:
                found = first.judge(mutant, (*FALLBACK, "-n", str(processes)), SUITE_CPU_S)
                verdicts[mutant.name] = said(mutant, found, "the default suite: ")
        return verdicts


def must_pass(space: Workspace, tests: Sequence[str], processes: int) -> None:
    """Stop unless the tests pass without any mutant."""
    verdict = space.run([*tests, "-n", str(processes)], SUITE_CPU_S)
    if verdict.by:
        raise SystemExit(f"without any mutant, {verdict.by}")
    print(f"without any mutant all tests pass ({verdict.seconds:.0f} s)", flush=True)


def said(mutant: Mutant, verdict: Verdict, where: str = "") -> Verdict:
    """Print a verdict and return it."""
    print(f"{where}{verdict.by or 'LIVES'}  <-  {mutant.name} ({verdict.seconds:.0f} s)", flush=True)
    return verdict


def main() -> int:
    """Run the mutants asked for and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--third", type=int, choices=(0, 1, 2), help="only every third mutant")
    parser.add_argument("--name", default="", help="only mutants whose name has this in it")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="only the tests named beside each mutant")
    parser.add_argument("--list", action="store_true", help="print the mutants and their tests")
    parser.add_argument(
        "--write", action="store_true", help="write the figures into docs/mutants.md; needs all mutants"
    )
    options = parser.parse_args()
    chosen = [one for one in (MUTANTS if options.third is None else third(options.third)) if options.name in one.name]
    if options.write and len(chosen) < len(MUTANTS):
        parser.error("--write needs all mutants: leave out --third and --name")
    if options.list:
        for mutant in chosen:
            print(f"{mutant.name}\n    {mutant.path}: {' '.join(mutant.tests)}")
        return 0
    begin = time.monotonic()
    verdicts = judged(chosen, options.processes, options.quick)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    alive = [name for name, verdict in verdicts.items() if not verdict.by]
    took = f"{time.monotonic() - begin:.0f} s, {used.ru_utime + used.ru_stime:.0f} CPU-s"
    killed = len(verdicts) - len(alive)
    print(f"{killed} of {len(verdicts)} mutants killed ({took}); alive: {', '.join(alive) or 'none'}")
    if options.write:
        write(page(verdicts, took))
    return 0 if killed >= WANTED * len(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
