"""Tests on paired and independent values: against scipy's own, and against how often they may be wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from servesim.metrics.contrasts import Values, holm, mean, smallest_detectable, variance

RNG = np.random.default_rng(5)
A = RNG.normal(10, 1, 12).tolist()
B = (np.array(A) * 1.03 + RNG.normal(0, 0.2, 12)).tolist()


def test_paired_contrast_is_scipys_paired_test() -> None:
    found = Values(A, B, paired=True).contrast()
    assert found.p_different() == pytest.approx(stats.ttest_rel(B, A).pvalue)
    assert found.p_above() == pytest.approx(stats.ttest_rel(B, A, alternative="greater").pvalue)
    assert found.p_below() == pytest.approx(1 - found.p_above())


def test_independent_contrasts_are_welchs_or_students_test_whose_error_is_larger() -> None:
    longer = RNG.normal(11, 3, 20).tolist()
    for a, b, pooled in ((A, longer, True), (longer, A, True), (longer[:5], A, False)):
        found = Values(a, b, paired=False).contrast()
        both = [stats.ttest_ind(b, a, equal_var=equal) for equal in (False, True)]
        assert found.p_different() == pytest.approx(both[pooled].pvalue)
        assert found.error == pytest.approx(max(abs(found.mean / one.statistic) for one in both))


def test_a_shift_asks_about_a_relative_change() -> None:
    shifted = [1.05 * value for value in A]
    assert Values(A, B, paired=True).contrast(0.05).mean == pytest.approx(mean(B) - mean(shifted))
    by_hand = stats.ttest_rel(B, shifted, alternative="less").pvalue
    assert Values(A, B, paired=True).p_equal_within(0.05) == pytest.approx(by_hand)
    assert Values(A, B, paired=True).p_equal_within(0.01) > 0.5


def test_what_does_not_vary_is_exact() -> None:
    worse = Values([2.0] * 3, [2.1] * 3, paired=True)
    assert worse.contrast().p_above() == 0.0
    assert worse.contrast().p_below() == 1.0
    assert worse.relative_interval(0.05) == pytest.approx((0.05, 0.05))
    same = Values([2.0] * 3, [2.0] * 3, paired=False)
    assert same.contrast().p_different() == 1.0
    assert same.p_equal_within(0.02) == 0.0
    assert variance([0.1 + 0.2] * 3) == 0.0


def test_nothing_is_relative_to_zero() -> None:
    values = Values([0.0, 0.0], [0.0, 1.0], paired=True)
    assert values.relative is None
    assert values.relative_interval(0.05) is None
    assert values.p_equal_within(0.02) == 1.0
    assert smallest_detectable(values, 0.02, 0.05) is None


def test_relative_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng, held = np.random.default_rng(11), 0
    for _ in range(2000):
        a = rng.gamma(4, 0.25, 15)
        values = Values(a.tolist(), (a * 1.1 + rng.normal(0, 0.1, 15)).tolist(), paired=True)
        interval = values.relative_interval(0.05)
        assert interval is not None
        held += interval[0] <= 0.1 <= interval[1]
    assert 0.93 <= held / 2000 <= 0.97


def test_holm_is_what_his_paper_says() -> None:
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert found == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert list(found) == ["a", "b", "c", "d"]
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}


@pytest.mark.parametrize(("level", "spread"), [(0.05, 0.01), (0.01, 0.03), (0.005, 0.1)])
def test_the_stated_change_is_found_with_the_stated_power(level: float, spread: float) -> None:
    """Normal values, independent: how often a planted change of the stated size is flagged by the rule of a check."""
    rng, found, number = np.random.default_rng(3), 0, 1500
    for _ in range(number):
        a, now, later = (rng.normal(1, spread, 10) for _ in range(3))
        stated = smallest_detectable(Values(a.tolist(), now.tolist(), paired=False), 0.02, level)
        if stated is None:
            continue
        values = Values(a.tolist(), (later * (1 + stated)).tolist(), paired=False)
        assert values.relative is not None
        found += values.relative >= 0.02 and values.contrast().p_above() <= level
    assert found / number >= 0.78


def test_more_replications_show_smaller_changes() -> None:
    def stated(number: int) -> float:
        rng = np.random.default_rng(1)
        values = Values(rng.normal(1, 0.05, number).tolist(), rng.normal(1, 0.05, number).tolist(), paired=False)
        found = smallest_detectable(values, 0.02, 0.01)
        assert found is not None
        return found

    sizes = [stated(number) for number in (5, 20, 80, 5000)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == pytest.approx(0.02, abs=0.002)
    assert math.isfinite(sizes[0])
