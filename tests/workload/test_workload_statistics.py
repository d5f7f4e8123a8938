"""Arrival processes against renewal theory, with controls that must fail."""

import math
from collections.abc import Iterator

import numpy as np
import pytest

from servesim.rng import stream
from servesim.workload.arrivals.gamma import GammaArrivals
from servesim.workload.arrivals.poisson import PoissonArrivals
from servesim.workload.base import BLOCK_REQUESTS, TimedArrivals

GAPS = 1_000_000
# A Poisson source that clips its gaps at 3/rate, as a known simulator does: its rate over the nominal one and the
# squared coefficient of variation of its gaps, in closed form.
CLIPPED_RATE = 1 / (1 - math.exp(-3))
CLIPPED_SCV = 2 * (1 - 4 * math.exp(-3)) / (1 - math.exp(-3)) ** 2 - 1


class ClippedPoisson(TimedArrivals):
    """The faulty source."""

    kind: str = "clipped"

    def times(self, rng: np.random.Generator) -> Iterator[np.ndarray]:
        last_s = 0.0
        while True:
            times_s = last_s + np.cumsum(np.minimum(rng.exponential(1.0, BLOCK_REQUESTS), 3.0))
            last_s = times_s[-1]
            yield times_s


def measured(arrivals: TimedArrivals) -> tuple[float, float]:
    """Return the rate and the squared coefficient of variation of the first million gaps."""
    blocks, count = [np.zeros(1)], 0
    for times_s in arrivals.times(stream(11, "arrivals", "chat")):
        blocks.append(times_s)
        count += len(times_s)
        if count >= GAPS:
            break
    gaps_s = np.diff(np.concatenate(blocks)[: GAPS + 1])
    return len(gaps_s) / gaps_s.sum(), gaps_s.var() / gaps_s.mean() ** 2


def is_poisson(rate: float, scv: float) -> bool:
    # Standard errors at a million gaps: rate sqrt(1/n) = 0.001; SCV sqrt(4/n) = 0.002.
    return abs(rate - 1) <= 0.002 and abs(scv - 1) <= 0.005


@pytest.mark.statistical
def test_poisson_is_poisson_and_not_clipped():
    rate, scv = measured(PoissonArrivals(request_rate_rps=1.0))
    assert is_poisson(rate, scv)
    assert abs(rate - CLIPPED_RATE) > 0.04
    assert abs(scv - CLIPPED_SCV) > 0.2


@pytest.mark.statistical
def test_the_check_rejects_a_clipped_source():
    """Negative controls: 1.0524 and 0.7739 (independently computed, and seen in that simulator's own output)."""
    assert pytest.approx(1.052395696491256, rel=1e-12) == CLIPPED_RATE
    assert pytest.approx(0.7739453599701533, rel=1e-12) == CLIPPED_SCV
    rate, scv = measured(ClippedPoisson())
    assert rate == pytest.approx(CLIPPED_RATE, abs=0.003)
    assert scv == pytest.approx(CLIPPED_SCV, abs=0.005)
    assert not is_poisson(rate, 1.0)
    assert not is_poisson(1.0, scv)


@pytest.mark.statistical
@pytest.mark.parametrize("burstiness", [0.2, 0.5, 1.0, 3.0, 50.0])
def test_gamma_rate_and_variation(burstiness):
    rate, scv = measured(GammaArrivals(request_rate_rps=25.0, burstiness=burstiness))
    assert abs(rate / 25 - 1) <= 4 / math.sqrt(burstiness * GAPS)
    # Var(sample SCV) = 2 c^2 (1 + c) / n with c = 1/shape, for gamma gaps and to first order.
    standard_error = math.sqrt(2 * (1 + 1 / burstiness) / GAPS) / burstiness
    assert abs(scv - 1 / burstiness) <= 4 * standard_error


@pytest.mark.statistical
def test_poisson_counts_and_gaps_follow_their_laws():
    scipy_stats = pytest.importorskip("scipy.stats")
    times_s = np.concatenate(
        [
            block
            for block, _ in zip(PoissonArrivals(request_rate_rps=4.0).times(stream(2, "a")), range(25), strict=False)
        ]
    )
    gaps_s = np.diff(times_s, prepend=0.0)
    assert scipy_stats.kstest(gaps_s, scipy_stats.expon(scale=0.25).cdf).pvalue > 1e-3
    counts = np.bincount(times_s[times_s < 5000].astype(int))
    assert counts.var(ddof=1) / counts.mean() == pytest.approx(1.0, abs=4 * math.sqrt(2 / len(counts)))
    assert abs(np.corrcoef(gaps_s[1:], gaps_s[:-1])[0, 1]) <= 4 / math.sqrt(len(gaps_s))


def test_gamma_of_shape_one_is_exponential():
    scipy_stats = pytest.importorskip("scipy.stats")
    times_s = next(GammaArrivals(request_rate_rps=1.0, burstiness=1.0).times(stream(2, "a")))
    assert scipy_stats.kstest(np.diff(times_s, prepend=0.0), "expon").pvalue > 1e-3


def test_times_of_two_rates_are_scaled_copies():
    """Common random numbers: a sweep over the rate moves the same arrivals closer."""
    slow = next(PoissonArrivals(request_rate_rps=1.0).times(stream(2, "a")))
    fast = next(PoissonArrivals(request_rate_rps=8.0).times(stream(2, "a")))
    assert fast * 8 == pytest.approx(slow, rel=1e-12)
