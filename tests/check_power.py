"""How often `servesim check` is wrong, and catches what it says it does: `python -m tests.check_power [--runs 200]`.

An M/M/1 queue at load 0.5, whose mean sojourn time is exactly s / (1 - rate s), is recorded and checked as users do:

- only the seed changed: how often is anything flagged?
- the service time 5 % longer, same seeds: how often is it caught?
- the service time longer by so much that the mean sojourn time grows by exactly the smallest change that a green check
  stated for it: how often is that metric flagged? With the baseline's seeds (the statement is that of a check after a
  change of 0.1 %) and with others.

`--source recursion` draws the same sojourn times by Lindley's recursion and hands them to the same verdicts, in many
more runs. docs/ci.md quotes the figures.
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
from servesim.check.run import UNPAIRED, check
from servesim.metrics.warmup import usual_warmup

RATE_RPS, SERVICE_S = 0.5, 1.0
METRIC = "e2e_s.mean"
REQUESTS, REPLICATIONS = 1000, 20
TOGETHER = 50  # runs of the recursion that are in memory at a time
NAMES = FALSE, SLOW, SLOW_FRESH, PAIRED, FRESH = (
    "only the seed changed: anything flagged",
    "service time + 5 %, same seeds: caught",
    "service time + 5 %, other seeds: caught",
    "the stated smallest change, same seeds: caught",
    "the stated smallest change, other seeds: caught",
)


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


def macro_runs(runs: int, only_false: bool = False) -> Iterator[dict[str, Share]]:
    """Yield the shares after each macro-run; `only_false` the first of them alone."""
    shares = {name: Share() for name in NAMES}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        baseline = folder / "baseline.yaml"
        for run in range(runs):
            seed, other = 2 * run + 1, 1_000_000 + run
            baseline.unlink(missing_ok=True)
            update([scenario(folder, SERVICE_S, seed)], baseline, replications=REPLICATIONS)
            unchanged = check([scenario(folder, SERVICE_S, seed)], baseline, seed=other)
            shares[FALSE].add(bool(flagged(unchanged)))
            if only_false:
                yield shares
                continue
            slower = scenario(folder, 1.05 * SERVICE_S, seed)
            shares[SLOW].add(bool(flagged(check([slower], baseline))))
            shares[SLOW_FRESH].add(bool(flagged(check([slower], baseline, seed=other))))
            nearly = check([scenario(folder, 1.001 * SERVICE_S, seed)], baseline)
            for share, stated, with_seed in ((PAIRED, nearly, None), (FRESH, unchanged, other + 500_000)):
                detectable = verdict(stated).detectable
                if detectable is not None:
                    planted = scenario(folder, service_for(detectable), seed)
                    shares[share].add(METRIC in flagged(check([planted], baseline, seed=with_seed)))
            yield shares


def by_recursion(runs: int) -> dict[str, Share]:
    """Return the same shares by Lindley's recursion, which the verdicts are handed means and p99 of.

    Paired replications have the same gaps and the same draws of service, whose mean alone differs.
    """
    shares = {name: Share() for name in NAMES}
    rng = np.random.default_rng(1)
    for start in range(0, runs, TOGETHER):
        count = min(TOGETHER, runs - start)
        ours, theirs, third = (
            Draws(rng, count, number) for number in (REPLICATIONS, UNPAIRED * REPLICATIONS, UNPAIRED * REPLICATIONS)
        )
        one = np.full(count, SERVICE_S)
        before, other = ours.metrics(one), theirs.metrics(one)
        unchanged = judged(before, other, paired=False)
        nearly = judged(before, ours.metrics(1.001 * one), paired=True)
        found = {
            FALSE: unchanged,
            SLOW: judged(before, ours.metrics(1.05 * one), paired=True),
            SLOW_FRESH: judged(before, theirs.metrics(1.05 * one), paired=False),
            PAIRED: judged(before, ours.metrics(planted(nearly)), paired=True),
            FRESH: judged(before, third.metrics(planted(unchanged)), paired=False),
        }
        stated = {PAIRED: nearly, FRESH: unchanged}
        for name, verdicts_ in found.items():
            for run, verdict_ in enumerate(verdicts_):
                if name not in stated:
                    shares[name].add(any(one.status == REGRESSION for one in verdict_.values()))
                elif stated[name][run][METRIC].detectable is not None:
                    shares[name].add(verdict_[METRIC].status == REGRESSION)
    return shares


class Draws:
    """Gaps and unit services of `number` replications of each of `count` runs, shape (REQUESTS, count * number)."""

    def __init__(self, rng: np.random.Generator, count: int, number: int) -> None:
        self._count, self._number = count, number
        self._gaps = rng.exponential(1 / RATE_RPS, (REQUESTS, count * number))
        self._services = rng.standard_exponential((REQUESTS, count * number))

    def metrics(self, service_s: np.ndarray) -> dict[str, np.ndarray]:
        """Return mean and p99 of the sojourn times, shape (count, number), for mean service times, shape (count,)."""
        scale = np.repeat(service_s, self._number)
        wait = np.zeros(len(scale))
        sojourn = np.empty_like(self._services)
        for i in range(REQUESTS):
            service = scale * self._services[i]
            sojourn[i] = wait + service
            if i + 1 < REQUESTS:
                wait = np.maximum(sojourn[i] - self._gaps[i + 1], 0.0)
        kept = sojourn[usual_warmup(REQUESTS) :]
        found = {"mean": kept.mean(axis=0), "p99": np.percentile(kept, 99, axis=0)}
        shape = (self._count, self._number)
        return {f"{latency}.{kind}": v.reshape(shape) for latency in ("ttft_s", "e2e_s") for kind, v in found.items()}


def judged(before: dict[str, np.ndarray], now: dict[str, np.ndarray], *, paired: bool) -> list[dict[str, Verdict]]:
    """Return every run's verdicts by metric."""
    rules = Rules(EMPTY.level, EMPTY.threshold, EMPTY.detectable)
    return [
        verdicts(
            {
                name: Evidence(before[name][run].tolist(), now[name][run].tolist(), paired, EMPTY.threshold)
                for name in before
            },
            {name: name for name in before},
            rules,
        )
        for run in range(len(before[METRIC]))
    ]


def planted(stated: list[dict[str, Verdict]]) -> np.ndarray:
    """Return service times with which the mean sojourn time grows by what each run's check stated."""
    found = [one[METRIC].detectable for one in stated]
    return np.array([SERVICE_S if change is None else service_for(change) for change in found])


def main() -> None:
    """Print the shares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--source", choices=("simulator", "recursion"), default="simulator")
    parser.add_argument("--only-false", action="store_true", help="of the simulator, only the false alarms")
    options = parser.parse_args()
    runs = options.runs
    if options.source == "recursion":
        tell(runs, by_recursion(runs))
        return
    for run, shares in enumerate(macro_runs(runs, options.only_false), start=1):
        if run % 20 == 0 or run == runs:
            tell(run, shares)


def tell(runs: int, shares: dict[str, Share]) -> None:
    """Print the shares."""
    print(f"after {runs} runs")
    for name, share in shares.items():
        print(f"  {name:52} {share}", flush=True)


if __name__ == "__main__":
    main()
