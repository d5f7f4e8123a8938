"""How often 95 % intervals hold the truth, on M/M/1: `python -m tests.coverage [--macro 1000] [--simulated 100]`.

Each macro-replication is what a user would do once; its sojourn times come from Lindley's recursion, fed with the
simulator's own random numbers. `--simulated` first asks `simulate` for some of the same runs, which must agree.
Printed are the share of those in which an interval was given at all, how often it then held the exact value, and its
mean relative half-width. docs/statistics.md quotes the figures.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np

from servesim.experiment.combine import latency_interval
from servesim.metrics.intervals import Interval, correlation_time
from tests.coverage.queue import exact, must_agree, one_run, recursion, settled

RUN_REQUESTS = {0.5: (2_000, 20_000), 0.8: (20_000, 100_000), 0.9: (50_000, 100_000, 300_000)}
REPLICATION_REQUESTS = {0.5: 5_000, 0.8: 20_000, 0.9: 100_000}
REPLICATIONS = (10, 20)
PARTS = ("one", "replications", "sequential")


class Numbers(NamedTuple):
    """Of one replication: two statistics, the number of requests they are of, and their correlation time."""

    mean: float
    p99: float
    completed: int
    correlation_time: float


def report(label: str, intervals: list[dict[str, Interval]], truth: dict[str, float]) -> None:
    """Print one line for each statistic."""
    for name, value in truth.items():
        given = [one[name] for one in intervals if not one[name].reason]
        held = sum(one.low <= value <= one.high for one in given)
        width = float(np.mean([one.half_width for one in given])) / value if given else float("nan")
        share = held / len(given) if given else float("nan")
        print(f"{label:44} {name:5} {len(given) / len(intervals):8.1%} {share:9.1%} {width:11.3f}", flush=True)


def numbers(run: np.ndarray) -> Numbers:
    """Return what a replication's summary says of its sojourn times."""
    values = settled(run)
    return Numbers(float(values.mean()), float(np.percentile(values, 99)), len(values), correlation_time(values))


def across(found: list[Numbers]) -> dict[str, Interval]:
    """Return the intervals that the summary of these replications would hold."""
    means, p99s, completed, times = map(list, zip(*found, strict=True))
    return {
        "mean": latency_interval("mean", means, completed, times),
        "p99": latency_interval("p99", p99s, completed, times),
    }


def sequential(runs: Iterator[np.ndarray], precision: float, most: int) -> dict[str, Interval]:
    """Return the intervals at which `--precision` stops, for the mean and for p99 apart."""
    values: list[Numbers] = []
    stopped: dict[str, Interval] = {}
    for one in islice(map(numbers, runs), most):
        values.append(one)
        if len(values) >= 10:
            for name, interval in across(values).items():
                wide = not interval.relative_half_width <= precision  # also where there is none
                if name not in stopped and (not wide or len(values) == most):
                    stopped[name] = interval
        if len(stopped) == 2:
            break
    return stopped


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--macro", type=int, default=1000, help="macro-replications")
    parser.add_argument("--simulated", type=int, default=0, help="so many runs at each load must agree with simulate")
    parser.add_argument("--load", type=float, action="append", choices=list(RUN_REQUESTS))
    parser.add_argument("--part", action="append", choices=PARTS, help="only these parts of the table")
    options = parser.parse_args()
    print(f"{options.macro:,} macro-replications")
    print(f"{'case':44} {'of':5} {'given':>8} {'held':>9} {'half-width':>11}")
    parts = options.part or PARTS
    for load in options.load or RUN_REQUESTS:
        truth, requests = exact(load), REPLICATION_REQUESTS[load]
        if options.simulated:
            must_agree(load, requests, options.simulated, 2)
            print(f"load {load}: simulate agrees in {options.simulated} runs of {requests:,}", flush=True)
        if "one" in parts:
            for length in RUN_REQUESTS[load]:
                found = [one_run(run) for run in recursion(load, length, options.macro, 1)]
                report(f"load {load}: one run of {length:,}", found, truth)
        if "replications" in parts:
            for number in REPLICATIONS:
                runs = recursion(load, requests, options.macro * number, 2)
                found = [across([numbers(run) for run in islice(runs, number)]) for _ in range(options.macro)]
                report(f"load {load}: {number} replications of {requests:,}", found, truth)
        if "sequential" in parts:
            runs = recursion(load, requests, options.macro * 60, 3)
            found = [sequential(runs, 0.05, 60) for _ in range(options.macro)]
            report(f"load {load}: replications of {requests:,} until 5 %", found, truth)


if __name__ == "__main__":
    main()
