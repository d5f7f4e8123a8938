"""A smaller version of `python -m tests.check_power`, whose figures docs/ci.md quotes."""

from __future__ import annotations

import pytest

from tests.check_power import false_alarms, macro_runs


@pytest.mark.slow
@pytest.mark.nightly
def test_false_alarms_are_rare_and_stated_changes_are_caught() -> None:
    false, slow, _, paired, fresh = list(macro_runs(25))[-1].values()
    # One-sided binomial limits at 0.1 %: with 25 runs a true share of 5 % gives at most 5, one of 80 % at least 14.
    assert false.happened <= 5
    assert slow.happened == slow.of == 25
    assert paired.happened >= 14
    assert fresh.happened >= 0.55 * fresh.of


@pytest.mark.statistical
def test_false_alarms_by_the_recursion() -> None:
    """The true share is near 3.5 %; were it above 5 %, 300 runs would show 26 or more once in a thousand times."""
    assert false_alarms(300).happened <= 25
