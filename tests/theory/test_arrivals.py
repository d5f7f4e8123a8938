"""Arrival processes seen from outside: the arrival times that a run records, against exact answers.

Service is trivial here, so that nothing but the arrivals matters. Many classes in one scenario are as many independent
processes, each with a stream of its own. The rows of the book are in cases_arrivals.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from servesim import Scenario, simulate
from servesim.rng import stream
from servesim.workload.arrivals.nhpp import NhppArrivals
from servesim.workload.base import BLOCK_REQUESTS, TimedArrivals
from tests.theory.cases_arrivals import DAY, HAWKES, MMPP
from tests.theory.queues import Mean, assert_agrees

pytestmark = pytest.mark.statistical


def processes(arrivals: list[dict[str, Any]], **end: Any) -> Scenario:
    """Return a scenario of one class for each arrival process, served at once."""
    each = {"prompt_tokens": 1, "output_tokens": 1}
    return Scenario.model_validate(
        {
            "name": "arrivals",
            "workload": {"classes": {f"c{n}": {"arrivals": one, **each} for n, one in enumerate(arrivals)}, **end},
            "pools": {
                "p": {
                    "engine": {"num_gpu_blocks": "unlimited", "async_scheduling": False},
                    "service_time": {"kind": "affine", "base_s": 1e-6},
                }
            },
        }
    )


def recorded(scenario: Scenario, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (class, arrival time) of every request, in order of arrival."""
    which, times_s = simulate(scenario, seed).record.requests.column("class_index", "arrival_s")
    order = np.argsort(times_s, kind="stable")
    return which[order].astype(int), times_s[order]


def counts(arrivals: dict[str, Any], duration_s: float, runs: int, classes: int = 250) -> np.ndarray:
    """Return the numbers of arrivals within `duration_s` of `runs * classes` independent processes."""
    scenario = processes([arrivals] * classes, duration_s=duration_s)
    return np.concatenate([np.bincount(recorded(scenario, seed)[0], minlength=classes) for seed in range(runs)])


def windows(arrivals: dict[str, Any], length_s: float, every_s: float, number: int, runs: int) -> np.ndarray:
    """Return the numbers of arrivals in `number` windows of each run, which begin `every_s` apart from time 0 on."""
    scenario = processes([arrivals], duration_s=every_s * number)
    found = []
    for seed in range(runs):
        times_s = recorded(scenario, seed)[1]
        index, within = np.divmod(times_s[times_s < every_s * number], every_s)
        found.append(np.bincount(index[within < length_s].astype(int), minlength=number))
    return np.concatenate(found)


def mean_of(values: np.ndarray) -> Mean:
    return Mean(float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values)))


def variance_of(values: np.ndarray) -> Mean:
    """The standard error is that of the mean of squared deviations, with the kurtosis that they have."""
    squares = (values - values.mean()) ** 2
    return Mean(float(values.var(ddof=1)), float(squares.std(ddof=1)) / math.sqrt(len(values)))


def gaps_s(arrivals: dict[str, Any], num_requests: int, seeds: int) -> list[np.ndarray]:
    """Return, of each run, the gaps between arrivals."""
    scenario = processes([arrivals], num_requests=num_requests)
    return [np.diff(recorded(scenario, seed)[1]) for seed in range(seeds)]


def over_runs(values: list[float]) -> Mean:
    return mean_of(np.array(values))


def rate_and_scv(gaps: list[np.ndarray]) -> tuple[Mean, Mean]:
    return over_runs([1 / gap.mean() for gap in gaps]), over_runs([gap.var() / gap.mean() ** 2 for gap in gaps])


def test_mmpp_rate_of_many_short_runs() -> None:
    """Stationary from the first moment on: in any 40 s there are 40 on average. It is not when it starts in a state."""
    assert_agrees(mean_of(counts(MMPP, 40.0, 6)), 40.0, 0.04)
    assert mean_of(counts({**MMPP, "start_state": 0}, 40.0, 2)).z(40.0) > 4
    assert mean_of(counts({**MMPP, "start_state": 1}, 40.0, 2)).z(40.0) < -4


def test_hawkes_mean_from_the_first_moment_on() -> None:
    """25 in 20 s on average. A coarse look, the row itself is a case of the book.

    An empty past lacks mu n/(1 - n) (1 - e^-(beta - alpha) t)/(beta - alpha) requests, and must not pass for one.
    """
    assert_agrees(mean_of(counts(HAWKES, 20.0, 4)), 25.0, 0.03)
    empty = mean_of(counts({**HAWKES, "start": "empty"}, 20.0, 8))
    assert_agrees(empty, 25.0 - 0.5 * 0.6 / 0.4 * -math.expm1(-8.0) / 0.4, 0.03)
    assert empty.z(25.0) < -4


def test_nhpp_follows_its_rate() -> None:
    """Every quarter of the sine: 150 +- 480/(2 pi)."""
    day = processes([DAY] * 100, duration_s=120.0)
    per_quarter = np.bincount((recorded(day, 5)[1] / 15).astype(int), minlength=8)[:8] / 100
    swing = 480 / (2 * math.pi)
    exact = np.array([150 + swing, 150 + swing, 150 - swing, 150 - swing] * 2)
    assert (np.abs(per_quarter - exact) <= 4 * np.sqrt(exact / 100)).all()


@pytest.mark.slow
def test_nhpp_variance_is_its_mean() -> None:
    """Counts are Poisson; taken from the process itself, since 1 % of a variance needs 80,000 windows."""
    source, number = NhppArrivals.model_validate(DAY), 180_000
    within = np.zeros(number)
    for times_s in source.times(stream(7, "arrivals", "nhpp")):
        index = (times_s / 15.0).astype(int)
        within += np.bincount(index[index < number], minlength=number)
        if index[-1] >= number:
            break
    # The second quarter of the period expects as many as the first.
    assert_agrees(variance_of(within[np.arange(number) % 4 < 2]), 150 + 480 / (2 * math.pi), 0.01)


class ClippedPoisson(TimedArrivals):
    """A faulty source that clips its gaps at 3/rate, as a known simulator does."""

    kind: str = "clipped"

    def times(self, rng: np.random.Generator) -> Iterator[np.ndarray]:
        last_s = 0.0
        while True:
            times_s = last_s + np.cumsum(np.minimum(rng.exponential(1.0, BLOCK_REQUESTS), 3.0))
            last_s = float(times_s[-1])
            yield times_s


def test_poisson_passes_and_a_clipped_one_does_not() -> None:
    """1.0 and 1.0; the control shows the 1.0524 and 0.774 that clipping makes (neg-vidur-rate, neg-vidur-scv)."""
    rate, scv = rate_and_scv(gaps_s({"kind": "poisson", "request_rate_rps": 1.0}, 20_000, 16))
    assert_agrees(rate, 1.0, 0.01)
    assert_agrees(scv, 1.0, 0.01)
    scenario = processes([{"kind": "poisson", "request_rate_rps": 1.0}], num_requests=20_000)
    workload = scenario.workload
    clipped = {"c0": workload.classes["c0"].model_copy(update={"arrivals": ClippedPoisson()})}
    faulty = scenario.model_copy(update={"workload": workload.model_copy(update={"classes": clipped})})
    rate, scv = rate_and_scv([np.diff(recorded(faulty, seed)[1]) for seed in range(16)])
    assert_agrees(rate, 1.052395696491256, 0.01)
    assert_agrees(scv, 0.7739453599701533, 0.01)
    for estimate in (rate, scv):
        with pytest.raises(AssertionError):
            assert_agrees(estimate, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [0.5, 2.0])
def test_weibull_rate_and_variation_of_gaps(shape: float) -> None:
    """G(1 + 2/k)/G(1 + 1/k)^2 - 1: 5 for shape 1/2, 4/pi - 1 for shape 2."""
    rate, scv = rate_and_scv(gaps_s({"kind": "weibull", "request_rate_rps": 8.0, "shape": shape}, 30_000, 16))
    assert_agrees(rate, 8.0, 0.01)
    assert_agrees(scv, {0.5: 5.0, 2.0: 4 / math.pi - 1}[shape], 0.03)


@pytest.mark.parametrize(("size", "second"), [(5, 25.0), ({"kind": "geometric", "mean": 5.0}, 45.0)])
def test_bursts_add_their_own_variance(size: Any, second: float) -> None:
    """Compound Poisson counts: mean rate E[N] t, variance rate E[N^2] t."""
    bursts = {"kind": "batch", "bursts": {"kind": "poisson", "request_rate_rps": 1.0}, "size": size}
    within = windows(bursts, 10.0, 10.0, 3000, 2)
    assert_agrees(mean_of(within), 50.0, 0.012)
    assert_agrees(variance_of(within), 10 * second, 0.06)


def poisson_like(times_s: np.ndarray, rate_rps: float) -> None:
    """Gaps exponential by Kolmogorov and Smirnov, and counts per second as dispersed as their mean."""
    scipy_stats = pytest.importorskip("scipy.stats")
    gaps = np.diff(times_s, prepend=0.0)
    assert scipy_stats.kstest(gaps, scipy_stats.expon(scale=1 / rate_rps).cdf).pvalue > 1e-3
    per_second = np.bincount(times_s.astype(int))[:-1]
    assert abs(per_second.var(ddof=1) / per_second.mean() - 1) <= 4 * math.sqrt(2 / len(per_second))


def test_poisson_classes_are_one_of_the_summed_rate() -> None:
    """As classes and as the parts of one class; two copies of one stream, the obvious mistake, would fail."""
    rates = [0.5, 1.5, 3.0, 3.0]  # two alike: if they shared a stream, every arrival would come twice
    each = [{"kind": "poisson", "request_rate_rps": rate} for rate in rates]
    for scenario in (
        processes(each, duration_s=5000),
        processes([{"kind": "superposition", "processes": each}], duration_s=5000),
    ):
        _, times_s = recorded(scenario, 3)
        assert abs(len(times_s) - 40_000) <= 4 * 200
        poisson_like(times_s, 8.0)
    with pytest.raises(AssertionError):
        poisson_like(np.repeat(recorded(processes(each[3:], duration_s=5000), 3)[1], 2), 8.0)
