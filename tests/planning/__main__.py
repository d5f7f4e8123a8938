"""`python -m tests.planning [--seeds 50] [--grid] [NAME ...]`: the figures of docs/plan.md."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from joblib import Parallel, delayed

from tests.planning.known import Problem, late, off_target, small_space, staffing
from tests.planning.proof import attempt, full_grid, largest_rate

PROBLEMS: dict[str, Problem] = {
    "staff-small": staffing("staff-small", 10.0, 0.9, 5_000, 40, replications=256, confidence=0.99),
    "staff-tie": staffing("staff-tie", 10.0, 1 - late(14, 10.0), 5_000, 40, ties=(14,), confidence=0.99),
    "staff-over": off_target("staff-over", 2, 1.05),
    "staff-under": off_target("staff-under", 2, 0.95),
    "small-space": small_space(),
    "staff-c": staffing("staff-c", 50.0, 0.95, 40_000, 80, replications=512, confidence=0.99),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.planning")
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--grid", action="store_true", help="decide every cell too, under the first seed")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("names", nargs="*", default=[*PROBLEMS, "slo-qps"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in options.names:
            show = _show_rate if name == "slo-qps" else _show_plan
            began = time.process_time()
            show(name, options, Path(folder))
            print(f"  {time.process_time() - began:.0f} CPU-seconds of this process", flush=True)


def _show_plan(name: str, options: argparse.Namespace, where: Path) -> None:
    problem = PROBLEMS[name]
    problem.loaded(where)
    right = simulations = 0
    for number, one in enumerate(_each(lambda seed: delayed(attempt)(problem, seed, where), options), start=1):
        right += one.right
        simulations += one.simulations
        if not one.right:
            best = [(f.candidate.settings, f.size, f.ties) for f in one.found.found]
            print(f"  {name}, seed {one.seed}: {best}", flush=True)
        if number % 5 == 0 or number == options.seeds:
            mean = simulations / number
            print(f"{name}: right in {right} of {number} seeds, {mean:.0f} simulations on average", flush=True)
    if options.grid:
        cells = full_grid(problem, 1, where)
        total = sum(cell.simulations for cell in cells)
        equal = len(cells) * max(cell.simulations for cell in cells)
        print(
            f"  full grid: {len(cells)} cells; {total} simulations by the plan's rule in each, of which the plan took "
            f"{mean / total:.1%}; {equal} with as many in each as the hardest needs, {mean / equal:.1%}",
            flush=True,
        )
        for cell in sorted(cells, key=lambda one: one.cost):
            print(f"    {cell.settings} {cell.size}: ${cell.cost:.2f}, bad/allowed {cell.bad_over_allowed:.3f}")


def _show_rate(name: str, options: argparse.Namespace, where: Path) -> None:
    found = list(_each(lambda seed: delayed(largest_rate)(seed, where), options))
    errors = [abs(one.relative_error) for one in found]
    print(
        f"{name}: within 2 % in {sum(error <= 0.02 for error in errors)} of {len(found)} seeds, at most "
        f"{max(errors):.1%} off; the 95 % interval holds it in {sum(one.covered for one in found)}; "
        f"{sum(one.simulations for one in found) / len(found):.0f} simulations on average",
        flush=True,
    )


def _each(task: Callable[[int], object], options: argparse.Namespace):  # type: ignore[no-untyped-def]
    tasks = (task(seed) for seed in range(1000, 1000 + options.seeds))
    return Parallel(n_jobs=options.workers, return_as="generator")(tasks)


if __name__ == "__main__":
    main()
