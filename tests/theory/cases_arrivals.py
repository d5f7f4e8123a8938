"""Rows of arrival processes: seen from outside, with trivial service, and before one exponential server."""

from __future__ import annotations

from collections.abc import Callable
from math import expm1

import numpy as np

from servesim.rng import stream
from servesim.workload.arrivals.hawkes import HawkesArrivals
from servesim.workload.arrivals.mmpp import MmppArrivals
from servesim.workload.base import TimedArrivals
from tests.theory import controls as c
from tests.theory.book import Case, Estimate, Row
from tests.theory.cases_searches import Search
from tests.theory.known import KNOWN
from tests.theory.sample import Measure, Sample, mean
from tests.theory.scenarios import Part, constant, exponential, queue, station

MMPP: Part = {"kind": "mmpp", "rates_rps": [1.6, 0.1], "generator": [[-0.02, 0.02], [0.03, -0.03]]}
HAWKES: Part = {"kind": "hawkes", "base_rps": 0.5, "jump_rps": 0.6, "decay_per_s": 1.0}
DAY: Part = {"kind": "nhpp", "rate": {"kind": "sinusoid", "mean_rps": 10.0, "amplitude": 0.8, "period_s": 60.0}}
FIVES: Part = {"kind": "batch", "bursts": {"kind": "poisson", "request_rate_rps": 0.16}, "size": 5}
INSTANT = constant(1e-6)


def _rate(sample: Sample) -> float:
    return float((len(sample.arrival) - 1) / np.ptp(sample.arrival))


def _scv(sample: Sample) -> float:
    gaps = np.diff(sample.arrival)
    return float(gaps.var() / gaps.mean() ** 2)


def counted(within_s: float, every_s: float, number: int) -> Measure:
    """Return the mean number of arrivals in `number` windows of `within_s` that begin `every_s` apart from time 0."""

    def measure(sample: Sample) -> float:
        times_s = sample.arrival[sample.arrival < number * every_s]
        return float((times_s % every_s < within_s).sum() / number)

    return measure


def _seen_from_outside(name: str, arrivals: Part, requests: int, *rows: Row, quick: bool = False) -> Case:
    return Case(name, queue(arrivals, INSTANT, requests, station(servers="unlimited")), rows, skip=0, quick=quick)


def _variance_in_windows(source: TimedArrivals, window_s: float, windows: int, seed: int) -> tuple[float, float]:
    """Return the variance of the counts in windows side by side, and its standard error.

    The windows' squared deviations depend a little on each other: the error is that of 64 batches of them.
    """
    within = np.zeros(windows)
    for times_s in source.times(stream(seed, "arrivals", "book")):
        index = (times_s / window_s).astype(int)
        within += np.bincount(index[index < windows], minlength=windows)[:windows]
        if index[-1] >= windows:
            break
    squares = (within - within.mean()) ** 2
    batches = squares[: windows - windows % 64].reshape(64, -1).mean(axis=1)
    return float(within.var(ddof=1)), float(batches.std(ddof=1) / 8)


def _estimate(id: str, value: float, error: float, exact: float, scale: float = 1.0) -> Estimate:
    """Return the estimate of a row from its counterpart `exact` in windows of finite length."""
    return Estimate(id, KNOWN[id], scale * value, 1.998 * error / exact, (value - exact) / error)


def dispersion(seed: int) -> Estimate:
    """Return variance over mean of an MMPP's counts in 400 s: 1 + 21.6 (1 - (1 - e^-x)/x), x = 20; 22.6 in the limit.

    Printed is the limit that it stands for. From the process itself: through whole runs it would take an hour.
    """
    window_s, limit = 400.0, KNOWN["mmpp-idc"]
    x = 0.05 * window_s
    finite = limit - (limit - 1) * -expm1(-x) / x
    value, error = _variance_in_windows(MmppArrivals.model_validate(MMPP), window_s, 150_000, seed)
    return _estimate("mmpp-idc", value / window_s, error / window_s, finite, limit / finite)


def self_excited(seed: int) -> Estimate:
    """Return the variance of a Hawkes process's counts in 20 s, from the process itself."""
    value, error = _variance_in_windows(HawkesArrivals.model_validate(HAWKES), 20.0, 300_000, seed)
    return _estimate("hawkes-var", value, error, KNOWN["hawkes-var"])


def _bursts_wait(speed: float) -> float:
    """Return E[Wq] behind bursts of five: L = rho (1 + 5) / (2 (1 - rho)), Gross & Harris section 3.1, less service."""
    rho = 0.8 / speed
    return rho * 6 / (2 * (1 - rho)) / 0.8 - 1 / speed


def _mmpp_wait(speed: float) -> float:
    """Return E[Wq] of MMPP/M/1 with service rate 1.25 `speed`, by Neuts' matrix R (1981)."""
    birth, death = np.diag([1.6, 0.1]), 1.25 * speed * np.eye(2)
    change = np.array([[-0.02, 0.02], [0.03, -0.03]])
    stay = change - birth - death
    r = np.zeros((2, 2))
    for _ in range(100_000):
        r, before = -(birth + r @ r @ death) @ np.linalg.inv(stay), r
        if np.abs(r - before).max() < 1e-15:
            break
    # Level 0: pi_0 (change - birth + R death) = 0, with total mass pi_0 (I - R)^-1 1 = 1.
    rest = np.linalg.inv(np.eye(2) - r)
    balance = np.vstack([(change - birth + r @ death).T, (rest @ np.ones(2))[None]])
    empty = np.linalg.lstsq(balance, np.array([0.0, 0.0, 1.0]), rcond=None)[0]
    inside = float(empty @ r @ rest @ rest @ np.ones(2))
    return inside / 1.0 - 1 / (1.25 * speed)


def _behind(wait: Callable[[float], float], speeds: tuple[float, ...]) -> tuple[c.Control, ...]:
    return tuple(c.twin(wait(speed), speed) for speed in speeds)


SERVED = (
    Case(
        "bursts of five at a server",
        queue(FIVES, exponential(), 60_000),
        (
            Row(
                "mx5m1-L",
                mean("sojourn"),
                (c.gap(0.8), c.work(1.0), *_behind(_bursts_wait, (1.1, 1.3))),
                scale=0.8,
            ),
        ),
        skip=5_000,
    ),
    Case(
        "MMPP/M/1",
        queue(MMPP, exponential(0.8), 100_000),
        (
            Row(
                "mmpp-m1",
                mean("sojourn"),
                (c.gap(1.0), c.work(0.8), *_behind(_mmpp_wait, (1.06, 1.2))),
            ),
        ),
        skip=15_000,
    ),
)

SEEN = (
    _seen_from_outside("MMPP", MMPP, 80_000, Row("mmpp-rate", _rate), Row("mmpp-scv", _scv)),
    _seen_from_outside("Hawkes", HAWKES, 14_000, Row("hawkes-mean", counted(20.0, 20.0, 500))),
    _seen_from_outside("a day of one minute", DAY, 13_000, Row("nhpp", counted(15.0, 60.0, 20)), quick=True),
)

COUNTED = (
    Search("MMPP in windows", dispersion, 0.01, seed=9_000_000),
    Search("Hawkes in windows", self_excited, 0.01, seed=9_100_000),
)

CASES = (*SERVED, *SEEN, *COUNTED)
