"""How often 95 % intervals hold the truth, on M/M/1: `python -m tests.coverage [--macro 1000] [--source recursion]`.

Each macro-replication is what a user would do once. Printed are the share of those in which an interval was given at
all, how often it then held the exact value, and its mean relative half-width. docs/statistics.md quotes the figures.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import islice

import numpy as np

from servesim.metrics.intervals import Interval, across_replications, quantile_across_replications
from tests.coverage.queue import SOURCES, exact, one_run, settled

RUN_REQUESTS = {0.5: (2_000, 20_000), 0.8: (20_000, 100_000), 0.9: (50_000, 100_000, 300_000)}
REPLICATION_REQUESTS = {0.5: 5_000, 0.8: 20_000, 0.9: 100_000}
REPLICATIONS = (10, 20)
PARTS = ("one", "replications", "sequential")


def report(label: str, intervals: list[dict[str, Interval]], truth: dict[str, float]) -> None:
    """Print one line for each statistic."""
    for name, value in truth.items():
        given = [one[name] for one in intervals if not one[name].reason]
        held = sum(one.low <= value <= one.high for one in given)
        width = float(np.mean([one.half_width for one in given])) / value if given else float("nan")
        share = held / len(given) if given else float("nan")
        print(f"{label:44} {name:5} {len(given) / len(intervals):8.1%} {share:9.1%} {width:11.3f}", flush=True)


def replicated(runs: Iterator[np.ndarray], number: int) -> dict[str, Interval]:
    """Return the intervals across `number` replications, as the summary of replications makes them."""
    found = [(float(v.mean()), float(np.percentile(v, 99))) for v in map(settled, islice(runs, number))]
    return across(found)


def across(found: list[tuple[float, float]]) -> dict[str, Interval]:
    """Return the intervals from each replication's mean and p99."""
    means, p99s = map(list, zip(*found, strict=True))
    return {"mean": across_replications(means), "p99": quantile_across_replications(p99s)}


def sequential(runs: Iterator[np.ndarray], precision: float, most: int) -> dict[str, Interval]:
    """Return the intervals at which `--precision` stops, for the mean and for p99 apart."""
    values: list[tuple[float, float]] = []
    stopped: dict[str, Interval] = {}
    for run in islice(map(settled, runs), most):
        values.append((float(run.mean()), float(np.percentile(run, 99))))
        if len(values) >= 10:
            for name, interval in across(values).items():
                if name not in stopped and (interval.relative_half_width <= precision or len(values) == most):
                    stopped[name] = interval
        if len(stopped) == 2:
            break
    return stopped


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--macro", type=int, default=1000, help="macro-replications")
    parser.add_argument("--source", choices=SOURCES, default="recursion")
    parser.add_argument("--load", type=float, action="append", choices=list(RUN_REQUESTS))
    parser.add_argument("--part", action="append", choices=PARTS, help="only these parts of the table")
    options = parser.parse_args()
    source = SOURCES[options.source]
    print(f"{options.macro:,} macro-replications, source: {options.source}")
    print(f"{'case':44} {'of':5} {'given':>8} {'held':>9} {'half-width':>11}")
    parts = options.part or PARTS
    for load in options.load or RUN_REQUESTS:
        truth, requests = exact(load), REPLICATION_REQUESTS[load]
        if "one" in parts:
            for length in RUN_REQUESTS[load]:
                found = [one_run(run) for run in source(load, length, options.macro, 1)]
                report(f"load {load}: one run of {length:,}", found, truth)
        if "replications" in parts:
            for number in REPLICATIONS:
                runs = source(load, requests, options.macro * number, 2)
                found = [replicated(runs, number) for _ in range(options.macro)]
                report(f"load {load}: {number} replications of {requests:,}", found, truth)
        if "sequential" in parts:
            runs = source(load, requests, options.macro * 60, 3)
            found = [sequential(runs, 0.05, 60) for _ in range(options.macro)]
            report(f"load {load}: replications of {requests:,} until 5 %", found, truth)


if __name__ == "__main__":
    main()
