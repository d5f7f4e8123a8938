"""A smaller version of `python -m tests.check_power`, whose figures docs/ci.md quotes."""

from __future__ import annotations

import pytest

from servesim.metrics import contrasts
from tests.check_power import FALSE, by_recursion, macro_runs


@pytest.mark.slow
def test_false_alarms_are_rare_and_slowdowns_are_caught() -> None:
    """Through the simulator, as users do; of so few runs only what hardly ever happens can be asked."""
    false, slow, slow_fresh, paired, fresh = list(macro_runs(10))[-1].values()
    # One-sided binomial limits at 0.1 %: a true share of 5 % gives at most 3 of 10, one of 80 % at least 4, of 90 % 6.
    assert false.happened <= 3
    assert slow.happened == slow.of == 10
    assert slow_fresh.happened >= 6
    assert paired.happened >= 4
    assert fresh.happened >= 0.4 * fresh.of - 1


@pytest.mark.statistical
def test_the_same_by_the_recursion() -> None:
    """Shares of 200 runs: limits that a true one of 5 %, 90 % or 80 % passes but once in a thousand times."""
    false, slow, slow_fresh, paired, fresh = by_recursion(200).values()
    assert false.happened <= 21
    assert slow.happened == slow.of == 200
    assert slow_fresh.happened >= 165
    assert paired.happened >= 141
    assert fresh.happened >= 0.7 * fresh.of


@pytest.mark.statistical
def test_the_smaller_side_alone_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Welch's error by itself is too small where the baseline is low by chance: more false alarms."""
    careful = by_recursion(200)[FALSE]
    monkeypatch.setattr(contrasts, "_pooled", lambda a, b: (0.0, 1.0))
    assert by_recursion(200)[FALSE].happened > careful.happened
