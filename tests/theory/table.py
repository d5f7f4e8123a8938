"""The rows of the book beside what the simulation says: `python -m tests.theory.table [--write] [--cases TEXT]`.

It also prints the z-scores of the control variates and each case's CPU seconds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.theory.book import Case, Estimate
from tests.theory.cases import CASES
from tests.theory.cases_searches import Search

PAGE = Path(__file__).parents[2] / "docs" / "theory.md"
BEGIN, END = "<!-- rows -->\n", "<!-- end of rows -->"


def run(number: int) -> tuple[float, list[Estimate], list[Estimate]]:
    """Run one case; return its CPU seconds, rows and controls."""
    begin = time.process_time()
    rows, controls = CASES[number].run()
    return time.process_time() - begin, rows, controls


def line(estimate: Estimate) -> str:
    """Return one line of the table."""
    numbers = f"{estimate.exact:.7g} | {estimate.value:.7g} | {estimate.half_width:.2%} | {estimate.z:+.2f}"
    return f"| {estimate.id} | {numbers} |"


def table(chosen: Callable[[Case | Search], bool], say: Callable[[str], None]) -> str:
    """Run the chosen cases on all cores and return their rows as a Markdown table."""
    numbers = [number for number, case in enumerate(CASES) if chosen(case)]
    lines = ["| Row | Exact | Simulated | 95 % half-width | z |", "|---|---:|---:|---:|---:|"]
    with ProcessPoolExecutor(2) as pool:
        for number, (seconds, rows, controls) in zip(numbers, pool.map(run, numbers), strict=True):
            say(f"{CASES[number].name}: {seconds:.1f} CPU-s")
            for row in rows:
                say(line(row))
                lines.append(line(row))
            for control in controls:
                say(f"    {control.id}: z = {control.z:+.2f}")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the table, or write it into docs/theory.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="replace the table of docs/theory.md")
    parser.add_argument("--cases", default="", help="only cases whose name has one of these in it, a,b")
    options = parser.parse_args()
    parts = options.cases.split(",")
    rows = table(lambda case: any(part in case.name for part in parts), lambda text: print(text, flush=True))
    if options.write:
        before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
        PAGE.write_text(before + BEGIN + rows + rest[rest.index(END) :], encoding="utf-8")


if __name__ == "__main__":
    main()
