"""M/M/1 as a source of dependent observations with known answers: the simulator's own random numbers, its recursion.

Lindley's recursion gives what `simulate` would, up to rounding, at a hundredth of the cost.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest
from numpy.typing import NDArray

from servesim import Scenario, simulate
from servesim.metrics.intervals import Interval, correlation_time, run_mean, run_quantile
from servesim.metrics.warmup import usual_warmup
from servesim.rng import stream
from servesim.workload.base import BLOCK_REQUESTS

Floats = NDArray[np.float64]
CLASS, POOL = "all-of-them", "pool"


def exact(load: float) -> dict[str, float]:
    """Return mean and p99 of the sojourn time with service rate 1: exponential of rate 1 - load."""
    return {"mean": 1 / (1 - load), "p99": math.log(100) / (1 - load)}


def queue(load: float, requests: int) -> Scenario:
    """Return the queue as a user would write it."""
    arrivals = {"kind": "poisson", "request_rate_rps": load}
    one = {"arrivals": arrivals, "prompt_tokens": 1, "output_tokens": 1}
    pool = {"engine": {"kind": "station"}, "service_time": {"kind": "exponential", "mean_s": 1.0}}
    workload = {"num_requests": requests, "classes": {CLASS: one}}
    return Scenario.model_validate({"name": "coverage", "workload": workload, "pools": {POOL: pool}})


def sojourns(scenario: Scenario, seed: int) -> Floats:
    """Return the sojourn times in order of arrival, shape (requests,), that `simulate(scenario, seed)` would find."""
    requests = scenario.workload.num_requests
    assert requests is not None
    times = scenario.workload.classes[CLASS].arrivals.times(stream(seed, "arrivals", CLASS))
    arrival = np.concatenate(list(islice(times, -(-requests // BLOCK_REQUESTS))))[:requests]
    work = scenario.pools[POOL].service_time.draw(stream(seed, "pool", POOL, "service", CLASS), requests)
    walk = np.concatenate([[0.0], np.cumsum(work[:-1] - np.diff(arrival))])
    wait = walk - np.minimum.accumulate(walk)
    return np.asarray(wait + work)


def recursion(load: float, requests: int, runs: int, seed: int) -> Iterator[Floats]:
    """Yield the sojourn times of `runs` runs, from an empty system."""
    scenario = queue(load, requests)
    return (sojourns(scenario, one) for one in seeds(seed, runs))


def seeds(seed: int, number: int) -> list[int]:
    """Return seeds of independent runs; none is a replication of another's."""
    return [int(word) for word in np.random.SeedSequence(seed).generate_state(number, np.uint64) >> np.uint64(1)]


def settled(sojourn: Floats) -> Floats:
    """Return the run without its warm-up, as a summary does by default."""
    return sojourn[usual_warmup(len(sojourn)) :]


def one_run(sojourn: Floats) -> dict[str, Interval]:
    """Return the intervals that a summary of this run would hold."""
    values = settled(sojourn)
    time, ordered = correlation_time(values), np.sort(values)
    return {"mean": run_mean(values, time), "p99": run_quantile(values, ordered, 99, time)}


def must_agree(load: float, requests: int, runs: int, seed: int) -> None:
    """Raise AssertionError unless `simulate` finds the same sojourn times and intervals in the first `runs` runs."""
    scenario = queue(load, requests)
    for one in seeds(seed, runs):
        fast, result = sojourns(scenario, one), simulate(scenario, one)
        number, arrival, finish = result.record.requests.column("request_id", "arrival_s", "finish_s")
        np.testing.assert_allclose((finish - arrival)[np.argsort(number)], fast, rtol=1e-9, atol=1e-9)
        told = result.intervals["classes"]["all"]["e2e_s"]
        for name, interval in one_run(fast).items():
            expected = interval.plain()
            assert told[name] == (expected if interval.reason else pytest.approx(expected, rel=1e-6))
