"""`python -m tests.planning [--seeds 50] [--grid] [NAME ...]`: the figures of docs/plan.md."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from joblib import Parallel, delayed

from tests.planning.known import late, small_space, staffing
from tests.planning.proof import attempt, full_grid

PROBLEMS = {
    "staff-c": staffing("staff-c", 50.0, 0.95, 40_000, 80),
    "staff-small": staffing("staff-small", 10.0, 0.9, 5_000, 40),
    "staff-tie": staffing("staff-tie", 10.0, 1 - late(14, 10.0), 5_000, 40, ties=(14,)),
    "small-space": small_space(),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.planning")
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--grid", action="store_true", help="decide every cell too, under the first seed")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("names", nargs="*", default=list(PROBLEMS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in options.names:
            problem, where = PROBLEMS[name], Path(folder)
            problem.loaded(where)
            tasks = (delayed(attempt)(problem, seed, where) for seed in range(1000, 1000 + options.seeds))
            found = Parallel(n_jobs=options.workers)(tasks)
            right = sum(one.right for one in found)
            mean = sum(one.simulations for one in found) / len(found)
            print(f"{name}: right in {right} of {len(found)} seeds, {mean:.0f} simulations on average", flush=True)
            for one in found:
                if not one.right:
                    best = [(f.candidate.settings, f.size, f.ties) for f in one.found.found]
                    print(f"  seed {one.seed}: {best}")
            if options.grid:
                cells = full_grid(problem, 1, where)
                total = sum(cell.simulations for cell in cells)
                print(f"  full grid: {len(cells)} cells, {total} simulations; the plan took {mean / total:.1%}")
                for cell in sorted(cells, key=lambda one: one.cost):
                    print(f"    {cell.settings} {cell.size}: ${cell.cost:.2f}, bad/allowed {cell.bad_over_allowed:.3f}")


if __name__ == "__main__":
    main()
