"""M/M/1 as a source of dependent observations with known answers: by its recursion, or through the simulator."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from servesim import simulate
from servesim.metrics.intervals import Interval, correlation_time, run_mean, run_quantile
from servesim.metrics.warmup import usual_warmup
from tests.theory.queues import exponential_service, station

BLOCK = 1_000
TOGETHER = 50_000_000


def exact(load: float) -> dict[str, float]:
    """Return mean and p99 of the sojourn time with service rate 1: exponential of rate 1 - load."""
    return {"mean": 1 / (1 - load), "p99": math.log(100) / (1 - load)}


def recursion(load: float, requests: int, runs: int, seed: int) -> Iterator[np.ndarray]:
    """Yield each run's sojourn times, from an empty system, by Lindley's recursion.

    Many runs step together, which makes it fast; the arrays of some are in memory at a time.
    """
    together = max(1, min(runs, TOGETHER // requests))
    rng = np.random.default_rng(np.random.SeedSequence([seed, int(1000 * load), requests]))
    left = runs
    while left > 0:
        count = min(together, left)
        wait, out = np.zeros(count), np.empty((count, requests))
        for start in range(0, requests, BLOCK):
            size = min(BLOCK, requests - start)
            service = rng.standard_exponential((size, count))
            change = service - rng.exponential(1 / load, (size, count))
            sojourn = np.empty((size, count))
            for i in range(size):
                sojourn[i] = wait + service[i]
                wait = np.maximum(wait + change[i], 0.0)
            out[:, start : start + size] = sojourn.T
        yield from out
        left -= count


def simulator(load: float, requests: int, runs: int, seed: int) -> Iterator[np.ndarray]:
    """Yield each run's sojourn times as simulated, in order of arrival."""
    scenario = station({"kind": "poisson", "request_rate_rps": load}, exponential_service(1.0), requests)
    for run in range(runs):
        record = simulate(scenario, int(np.random.SeedSequence([seed, run]).generate_state(1)[0])).record
        number, arrival, finish = record.requests.column("request_id", "arrival_s", "finish_s")
        yield (finish - arrival)[np.argsort(number)]


SOURCES = {"recursion": recursion, "simulator": simulator}


def settled(sojourn: np.ndarray) -> np.ndarray:
    """Return the run without its warm-up, as a summary does by default."""
    return sojourn[usual_warmup(len(sojourn)) :]


def one_run(sojourn: np.ndarray) -> dict[str, Interval]:
    """Return the intervals that a summary of this run would hold."""
    values = settled(sojourn)
    time, ordered = correlation_time(values), np.sort(values)
    return {"mean": run_mean(values, time), "p99": run_quantile(values, ordered, 99, time)}
