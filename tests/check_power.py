"""How often `servesim check` is wrong, and catches what it says it does: `python -m tests.check_power [--runs 200]`.

An M/M/1 queue at load 0.5, whose mean sojourn time is exactly s / (1 - rate s), is recorded and checked as users do:

- only the seed changed: how often is anything flagged?
- the service time 5 % longer, same seeds: how often is it caught?
- the service time longer by so much that the mean sojourn time grows by exactly the smallest change that a green check
  stated for it: how often is that metric flagged? With the baseline's seeds (the statement is that of a check after a
  change of 0.1 %) and with others.

`--source recursion` draws the same sojourn times by Lindley's recursion, hands them to the same verdicts, and counts
the first only, in many more runs. docs/ci.md quotes the figures.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from servesim.check.baseline import EMPTY
from servesim.check.judge import REGRESSION, Evidence, Rules, Verdict, verdicts
from servesim.check.record import update
from servesim.check.report import Report
from servesim.check.run import check
from tests.coverage.queue import recursion, settled

RATE_RPS, SERVICE_S = 0.5, 1.0
METRIC = "e2e_s.mean"
REQUESTS, REPLICATIONS = 1000, 20


@dataclass(slots=True)
class Share:
    """How often something happened, of how many times it could have."""

    happened: int = 0
    of: int = 0

    def add(self, happened: bool) -> None:
        self.happened += happened
        self.of += 1

    def __str__(self) -> str:
        return f"{self.happened:4} of {self.of:4} = {self.happened / self.of:6.1%}" if self.of else "never"


def scenario(folder: Path, service_s: float, seed: int) -> Path:
    """Write the queue and return its file, always the same one."""
    file = folder / "queue.yaml"
    one = {"arrivals": {"kind": "poisson", "request_rate_rps": RATE_RPS}, "prompt_tokens": 1, "output_tokens": 1}
    pool = {"engine": {"kind": "station"}, "service_time": {"kind": "exponential", "mean_s": service_s}}
    workload = {"num_requests": REQUESTS, "classes": {"all-of-them": one}}
    file.write_text(yaml.safe_dump({"name": "queue", "seed": seed, "workload": workload, "pools": {"pool": pool}}))
    return file


def service_for(change: float) -> float:
    """Return the service time with which the mean sojourn time is longer by the fraction `change`."""
    sojourn_s = (1 + change) * SERVICE_S / (1 - RATE_RPS * SERVICE_S)
    return sojourn_s / (1 + RATE_RPS * sojourn_s)


def flagged(report: Report) -> list[str]:
    """Return the metrics that a report calls regressions."""
    return [one.metric for checked in report.scenarios for one in checked.having(REGRESSION)]


def verdict(report: Report) -> Verdict:
    """Return what a report says of METRIC."""
    return next(one for one in report.scenarios[0].verdicts if one.metric == METRIC)


def macro_runs(runs: int) -> Iterator[dict[str, Share]]:
    """Yield the shares after each macro-run."""
    false = "only the seed changed: anything flagged"
    slow = "service time + 5 %, same seeds: caught"
    slow_fresh = "service time + 5 %, other seeds: caught"
    paired = "the stated smallest change, same seeds: caught"
    fresh = "the stated smallest change, other seeds: caught"
    shares = {name: Share() for name in (false, slow, slow_fresh, paired, fresh)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        baseline = folder / "baseline.yaml"
        for run in range(runs):
            seed, other = 2 * run + 1, 1_000_000 + run
            baseline.unlink(missing_ok=True)
            update([scenario(folder, SERVICE_S, seed)], baseline, replications=REPLICATIONS)
            unchanged = check([scenario(folder, SERVICE_S, seed)], baseline, seed=other)
            shares[false].add(bool(flagged(unchanged)))
            slower = scenario(folder, 1.05 * SERVICE_S, seed)
            shares[slow].add(bool(flagged(check([slower], baseline))))
            shares[slow_fresh].add(bool(flagged(check([slower], baseline, seed=other))))
            nearly = check([scenario(folder, 1.001 * SERVICE_S, seed)], baseline)
            for share, stated, with_seed in ((paired, nearly, None), (fresh, unchanged, other + 500_000)):
                detectable = verdict(stated).detectable
                if detectable is not None:
                    planted = scenario(folder, service_for(detectable), seed)
                    shares[share].add(METRIC in flagged(check([planted], baseline, seed=with_seed)))
            yield shares


def false_alarms(runs: int) -> Share:
    """Return how often anything is flagged where only the seed changed, by the recursion."""
    draws = map(settled, recursion(RATE_RPS * SERVICE_S, REQUESTS, 2 * REPLICATIONS * runs, seed=1))
    found = [(float(values.mean()), float(np.percentile(values, 99))) for values in draws]
    share = Share()
    for start in range(0, len(found), 2 * REPLICATIONS):
        one = found[start : start + 2 * REPLICATIONS]
        evidence = {
            f"{latency}.{kind}": Evidence(
                [run[at] for run in one[:REPLICATIONS]], [run[at] for run in one[REPLICATIONS:]], False, EMPTY.threshold
            )
            for latency in ("ttft_s", "e2e_s")
            for at, kind in enumerate(("mean", "p99"))
        }
        rules = Rules(EMPTY.level, EMPTY.threshold, EMPTY.detectable)
        judged = verdicts(evidence, {name: name for name in evidence}, rules)
        share.add(any(verdict.status == REGRESSION for verdict in judged.values()))
    return share


def main() -> None:
    """Print the shares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--source", choices=("simulator", "recursion"), default="simulator")
    options = parser.parse_args()
    runs = options.runs
    if options.source == "recursion":
        print(f"only the seed changed: anything flagged {false_alarms(runs)}")
        return
    for run, shares in enumerate(macro_runs(runs), start=1):
        if run % 20 == 0 or run == runs:
            print(f"after {run} runs")
            for name, share in shares.items():
                print(f"  {name:52} {share}", flush=True)


if __name__ == "__main__":
    main()
