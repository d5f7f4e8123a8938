"""Measure the claims and say what is so: `python -m tests.claims [--write] [--claims a,b] [--reduced] [--workers N]`.

`--write` replaces docs/claims.md, its pictures and tests/claims/verdicts.yaml; the same code gives the same bytes.
"""

from __future__ import annotations

import argparse
import time

from tests.claims.cases import CLAIMS
from tests.claims.finding import Answer
from tests.claims.lab import FULL, REDUCED, Lab
from tests.claims.page import figure_text, write


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help="replace docs/claims.md, its pictures and verdicts.yaml")
    parser.add_argument("--claims", default="", help="only these, by key: a,b")
    parser.add_argument("--reduced", action="store_true", help="with the fewer replications of the tests")
    parser.add_argument("--workers", type=int, default=2, help="local processes")
    options = parser.parse_args()
    keys = [key for key in options.claims.split(",") if key]
    unknown = set(keys) - {claim.key for claim in CLAIMS}
    if unknown:
        parser.error(f"no claim {', '.join(sorted(unknown))}; there are {', '.join(claim.key for claim in CLAIMS)}")
    if options.write and (keys or options.reduced):
        parser.error("--write is for all claims, in full")
    lab = Lab(REDUCED if options.reduced else FULL, options.workers, tell=lambda text: print(f"  {text}", flush=True))
    verdicts = {}
    for claim in CLAIMS:
        if keys and claim.key not in keys:
            continue
        start_s = time.perf_counter()
        verdict = verdicts[claim.key] = claim.verdict(lab)
        print(f"{claim.key}: {verdict.headline} ({time.perf_counter() - start_s:.0f} s)")
        for one in verdict.judged:
            where = ": ".join(one.finding.where)
            print(f"    {one.answer:5} {where}; {one.finding.what} {figure_text(one)}{' (hangs)' if one.hangs else ''}")
        for answer in Answer:
            if said := verdict.when(answer):
                print(f"    {answer}: {said}", flush=True)
    if options.write:
        write(verdicts)


if __name__ == "__main__":
    main()
