"""Rows that are found by search over simulations, and the queue that stops after 25 customers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import log, sqrt

import numpy as np
from scipy import stats

from servesim import simulate
from tests.theory import controls as c
from tests.theory.book import Case, Estimate, Row
from tests.theory.known import KNOWN
from tests.theory.sample import Sample, mean, share_above
from tests.theory.scenarios import exponential, poisson, queue, station


def _early_work(sample: Sample) -> float:
    """Return the mean work, each customer's weighed by how many of the 25 come later."""
    return float(sample.work @ np.arange(24, -1, -1) / 300)


FIRST_25 = Case(
    "25 customers from empty",
    queue(poisson(1.0), exponential(0.9), 25),
    (
        Row(
            "mm1-first25",
            mean("wait"),
            (
                c.Control("early work", _early_work, 0.9),
                c.Control("mean arrival", lambda s: float(s.arrival.mean()), 13.0),
            ),
        ),
    ),
    skip=0,
    replications=10_000,
)


@dataclass(frozen=True)
class Search:
    """A row whose answer is searched for; `find` takes the first seed and returns the estimate."""

    name: str
    find: Callable[[int], Estimate]
    tolerance: float
    seed: int = 0
    quick: bool = False
    kind: str = "search"

    def run(self) -> tuple[list[Estimate], list[Estimate]]:
        """Return the estimate; there are no controls."""
        return [self.find(self.seed)], []

    def faults(self) -> list[str]:
        """Run, and return what is wrong."""
        found = self.find(self.seed)
        good = abs(found.z) <= 4 and found.half_width <= self.tolerance
        good = good and abs(found.value / found.exact - 1) <= self.tolerance
        return [] if good else [str(found)]

    def fresh(self, seed: int) -> Search:
        """Return the search under other seeds."""
        return replace(self, seed=seed)


MOST_RUNS = 64


def late_with(servers: int, seed: int) -> Estimate:
    """Return the estimate of P(W > 0.1 s) in M/M/`servers` at 50 requests/s, its z counted from 0.05.

    Runs are added until that z is beyond 6: twice what is asked, for the temptation of stopping at a good moment.
    """
    controls = (c.gap(50.0), c.work(1.0), c.twin(c.mg1_wait(50.0, c.exponential(1.0), servers)[0], servers))
    row = Row("staff-c", share_above("wait", 0.1), controls)
    scenario = queue(poisson(50.0), exponential(), 40_000, station(servers=servers))
    late: list[float] = []
    known: list[list[float]] = []
    for number in range(MOST_RUNS):
        sample = Sample(simulate(scenario(), seed + number), 3000)
        late.append(row.measure(sample))
        known.append([control.measure(sample) for control in controls])
        if number >= 11 and abs(row.against(0.05, late, known).z) > 6:
            break
    return row.against(0.05, late, known)


def fewest_servers(seed: int) -> Estimate:
    """Return the smallest number with P(W > 0.1 s) <= 5 %, by bisection between 51 and 80; each answer must be sure."""
    too_few, enough = 51, 80
    surest = np.inf
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        late = late_with(middle, seed)
        surest = min(surest, abs(late.z))
        too_few, enough = (too_few, middle) if late.value <= 0.05 else (middle, enough)
    exact = KNOWN["staff-c"]
    sure = surest > 4 and enough == exact
    return Estimate("staff-c", exact, float(enough), 0.0, 0.0 if sure else np.inf)


def _slow_share(rate_rps: float, seed: int) -> float:
    """Return the share of requests slower than 1 s in M/M/1 with 10/s: p99 <= 1 s is a share of at most 0.01."""
    result = simulate(queue(poisson(rate_rps), exponential(0.1), 40_000)(), seed)
    return share_above("sojourn", 1.0)(Sample(result, 1000))


def _highest_rate(seed: int) -> float:
    """Return the rate at which p99 reaches 1 s: bisection to 2 %, then a straight line through the logarithms."""
    share = partial(_slow_share, seed=seed)
    low, high = 2.0, 9.0
    while high / low > 1.02:
        middle = (low + high) / 2
        low, high = (middle, high) if share(middle) <= 0.01 else (low, middle)
    below, above = log(share(low) / 0.01), log(share(high) / 0.01)
    return low + (high - low) * below / (below - above)


def highest_rate(seed: int) -> Estimate:
    """Return the mean over twelve searches, each with random numbers of its own that all its rates share."""
    found = np.array([_highest_rate(seed + number) for number in range(12)])
    exact, error = KNOWN["slo-qps"], float(found.std(ddof=1) / sqrt(len(found)))
    t = float(stats.t.ppf(0.975, len(found) - 1))
    return Estimate("slo-qps", exact, float(found.mean()), t * error / exact, (float(found.mean()) - exact) / error)


SEARCHES = (
    Search("fewest servers", fewest_servers, 0.0, seed=7_000_000),
    Search("highest rate", highest_rate, 0.02, seed=8_000_000),
)
