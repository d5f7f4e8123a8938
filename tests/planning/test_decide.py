"""Sequential decisions: the interval is Wilson's where it should be, and the error stays below what was asked for."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from servesim.experiment.planning.decide import Rule, judge, share_interval
from servesim.experiment.planning.observe import Laboratory, Observation, Target, Trial
from servesim.scenario.load import parse
from tests.scenario.samples import CHAT

TARGET = Target("chat", attainment=0.9)


def seen(good: int, offered: int) -> Observation:
    return Observation({"chat": offered}, {"chat": good}, {"chat": math.nan}, {"chat": 1.0}, False, {})


class Prepared(Trial):
    """A trial whose replications are drawn from a beta-binomial law instead of a simulation."""

    def __init__(self, share: float, rng: np.random.Generator, offered: int = 400, spread: float = 200.0) -> None:
        super().__init__(Laboratory(0), parse(CHAT))
        self._draw = lambda: seen(int(rng.binomial(offered, rng.beta(share * spread, (1 - share) * spread))), offered)

    def extend(self, number: int) -> list[Observation]:
        while len(self.observations) < number:
            self.observations.append(self._draw())
        return self.observations[:number]


def test_independent_requests_in_many_replications_give_wilsons_interval() -> None:
    count, each = 4000, 50
    good = [45 + (r % 2) for r in range(count)]  # spread less than independent ones would be: design effect 1
    share, low, high = share_interval(good, [each] * count, 0.025)
    n, z = count * each, float(norm.ppf(0.975))
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    assert (low, high) == pytest.approx((centre - half, centre + half), rel=1e-4)


def test_clusters_widen_the_interval_by_their_design_effect() -> None:
    even = share_interval([90] * 40, [100] * 40, 0.025)
    clustered = share_interval([100] * 20 + [80] * 20, [100] * 40, 0.025)
    assert even[0] == clustered[0]
    # variance between replications is 100.0 * 40 / 39 requests squared, 100 * 0.9 * 0.1 = 9 if independent
    assert (clustered[2] - clustered[1]) / (even[2] - even[1]) == pytest.approx(math.sqrt(100 * 40 / 39 / 9), rel=0.02)


def test_few_bad_requests_are_taken_to_come_in_bunches() -> None:
    assert share_interval([500] * 4, [500] * 4, 0.01, 1.0)[1] > 0.98
    assert share_interval([500] * 4, [500] * 4, 0.01, 100.0)[1] < 0.6


@pytest.mark.parametrize("share", [0.9 - 1e-9, 0.9])
def test_on_the_boundary_a_wrong_verdict_is_as_rare_as_asked_for(share: float) -> None:
    rng = np.random.default_rng(5)
    rule = Rule(alpha=0.1, first=4, most=32)
    verdicts = [rule.decide(Prepared(share, rng), (TARGET,)).verdict for _ in range(400)]
    wrong = verdicts.count("meets" if share < 0.9 else "misses")
    assert wrong <= 0.1 * 400
    assert verdicts.count("tie") > 300


def test_what_is_clear_is_decided_at_the_first_look_and_what_is_close_later() -> None:
    rng = np.random.default_rng(6)
    rule = Rule(alpha=0.05, first=4, most=256)
    clear = rule.decide(Prepared(0.99, rng), (TARGET,))
    close = rule.decide(Prepared(0.915, rng), (TARGET,))
    assert (clear.verdict, clear.replications) == ("meets", 4)
    assert close.verdict == "meets"
    assert close.replications > 8


def test_one_missed_target_is_enough_to_miss() -> None:
    other = Target("chat", itl_s=0.05)
    fast = [
        Observation({"chat": 9}, {"chat": 9}, {"chat": 0.08 + 0.001 * r}, {"chat": 1.0}, False, {}) for r in range(6)
    ]
    found = judge(fast, (TARGET, other), 0.05)
    assert found.verdict == "misses"
    assert found.worst.target is other


def test_the_looks_double_and_end_at_the_most() -> None:
    assert Rule(0.05, 4, 50).looks == [4, 8, 16, 32, 50]
    assert Rule(0.05, 6, 6).looks == [6]
