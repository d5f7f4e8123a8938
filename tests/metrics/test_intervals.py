"""Intervals against known answers, textbook processes and their own refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from servesim.metrics.intervals import (
    Interval,
    across_replications,
    correlation_time,
    has_trend,
    order_statistic_ranks,
    quantile_across_replications,
    run_mean,
    run_quantile,
    student_t,
)
from tests.coverage.queue import exact, one_run, recursion


def test_order_statistic_ranks_of_a_known_case() -> None:
    """p99-ci-ranks, p99-ci-ranks-u, p99-ci-cov: 983 and 997 of 1,000."""
    found = order_statistic_ranks(1000, 0.99)
    assert found is not None
    assert found[:2] == (983, 997)
    assert found[2] == pytest.approx(0.976094763497977, abs=1e-12)
    assert order_statistic_ranks(300, 0.99) is None


@given(st.integers(10, 5000), st.floats(0.05, 0.99))
@settings(max_examples=60, deadline=None)
def test_order_statistic_ranks_miss_at_most_as_often_as_they_say(count: int, fraction: float) -> None:
    found = order_statistic_ranks(count, fraction)
    if found is None:
        assert binom.cdf(0, count, fraction) > 0.025 or binom.cdf(count - 1, count, fraction) < 0.975
        return
    lower, upper, coverage = found
    assert 1 <= lower < upper <= count
    assert coverage == pytest.approx(binom.cdf(upper - 1, count, fraction) - binom.cdf(lower - 1, count, fraction))
    assert coverage >= 0.95 - 1e-12
    assert binom.cdf(lower - 1, count, fraction) <= 0.025 < binom.cdf(lower, count, fraction)


def test_students_interval_by_hand() -> None:
    found = across_replications([1.0, 2.0, 3.0, 4.0])
    assert found.half_width == pytest.approx(3.182446305284263 * math.sqrt(5 / 3 / 4))
    assert (found.low + found.high) / 2 == pytest.approx(2.5)
    assert found.relative_half_width == pytest.approx(found.half_width / 2.5)
    assert student_t(9) == pytest.approx(2.2621571627409915)
    assert across_replications([1.0]).reason


def test_means_of_few_independent_observations_have_room_above() -> None:
    plain, found = across_replications([1.0, 2.0, 3.0]), across_replications([1.0, 2.0, 3.0], 100.0)
    assert found.low == plain.low
    assert found.high - found.value == pytest.approx(1.5 * (plain.high - plain.value))


def test_a_percentile_across_replications_has_room_for_its_bias() -> None:
    values = [9.0, 10.0, 11.0]
    plain, found = across_replications(values), quantile_across_replications(values)
    assert found.low == plain.low
    assert found.high == pytest.approx(plain.high + 1.0 / 10.0)
    few = quantile_across_replications(values, 10.0)
    assert few.high == pytest.approx(found.high + 0.5 * (plain.high - plain.value))


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9])
def test_correlation_time_of_an_autoregression(phi: float) -> None:
    """AR(1): the autocorrelations phi^k sum to (1 + phi) / (1 - phi)."""
    rng = np.random.default_rng(3)
    noise = rng.standard_normal(200_000)
    values = np.empty_like(noise)
    values[0] = noise[0]
    for i in range(1, len(noise)):
        values[i] = phi * values[i - 1] + noise[i]
    assert correlation_time(values) == pytest.approx((1 + phi) / (1 - phi), rel=0.15)


@given(st.integers(0, 10_000), st.floats(0.01, 100.0))
@settings(max_examples=20, deadline=None)
def test_intervals_follow_the_unit(seed: int, scale: float) -> None:
    values = np.random.default_rng(seed).exponential(1.0, 8_000)
    for found, scaled in (
        (run_mean(values), run_mean(values * scale)),
        (run_quantile(values, np.sort(values), 90), run_quantile(values * scale, np.sort(values * scale), 90)),
    ):
        assert scaled.reason == found.reason
        if not found.reason:
            assert found.low <= found.value <= found.high
            assert (scaled.low, scaled.high) == pytest.approx((found.low * scale, found.high * scale), rel=1e-6)


def test_a_quantile_is_no_surer_than_independent_observations_would_make_it() -> None:
    values = np.random.default_rng(1).exponential(1.0, 10_000)
    ordered = np.sort(values)
    found, ranks = run_quantile(values, ordered, 99), order_statistic_ranks(10_000, 0.99)
    assert ranks is not None
    assert found.low <= ordered[ranks[0] - 1]
    assert found.high >= ordered[ranks[1] - 1]


def test_refusals_say_why() -> None:
    rng = np.random.default_rng(2)
    noise = rng.standard_normal(20_000)
    walk = np.cumsum(noise)
    assert "only 50 observations" in run_mean(noise[:50]).reason
    assert "equal" in run_mean(np.ones(1000)).reason
    assert "too short" in run_mean(walk).reason
    assert "trend" in run_mean(noise + np.linspace(0, 3, len(noise)), time=1.0).reason
    assert "beyond it" in run_quantile(noise[:1000], np.sort(noise[:1000]), 99).reason
    assert "too short" in run_quantile(walk, np.sort(walk), 99).reason
    assert has_trend(np.arange(10.0))
    assert not has_trend(np.zeros(10))
    assert Interval(1.0, reason="no").plain() == {"reason": "no"}
    assert math.isnan(Interval(1.0, reason="no").relative_half_width)


@pytest.mark.statistical
def test_intervals_of_one_run_hold_the_truth_about_as_often_as_they_say() -> None:
    """150 M/M/1 runs at load 0.5: 95 % falls below 89.5 % in 0.3 % of cases; `python -m tests.coverage` has all."""
    found = [one_run(run) for run in recursion(0.5, 20_000, 150, 11)]
    for name, truth in exact(0.5).items():
        told = [one[name] for one in found if not one[name].reason]
        assert len(told) >= 140
        assert sum(one.low <= truth <= one.high for one in told) >= 0.895 * len(told)
        assert not all(one.low <= 1.2 * truth <= one.high for one in told)
