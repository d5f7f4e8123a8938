"""Goodput of a run whose requests are mostly refused."""

from __future__ import annotations

import pytest

from servesim import Scenario, simulate
from tests.theory.scenarios import constant, queue, station


def test_who_is_rejected_is_not_good() -> None:
    """One of five that come at once finds room: a goodput of one in its second, and a fifth of all."""
    at_once = {"kind": "all_at_once"}
    scenario = queue(at_once, constant(1.0), 5, station(max_in_system=1))()
    data = scenario.model_dump()
    data["workload"]["classes"]["all-of-them"]["slo"] = {"e2e_s": 10.0}
    found = simulate(Scenario.model_validate(data), 1).summary["classes"]["all"]
    assert (found["completed"], found["rejected"]) == (1, 4)
    assert found["goodput_rps"] == pytest.approx(1.0)
    assert found["slo_attainment"] == pytest.approx(0.2)
