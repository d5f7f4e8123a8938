"""A queue whose customers leave: a quick look, and two mistakes. The rows of the book are in cases_leaving."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from servesim import Scenario
from servesim.experiment.result import Result
from servesim.request import ABANDONED
from tests.theory.queues import assert_agrees, exponential_service, replicate, settled, station

pytestmark = pytest.mark.statistical

MM1_D = 0.26930333666847744


def poisson(rate: float) -> dict[str, Any]:
    return {"kind": "poisson", "request_rate_rps": rate}


def share_abandoned(result: Result) -> float:
    (outcome,) = settled(result, "outcome")
    return float((outcome == ABANDONED).mean())


def impatient_mm1(num_requests: int, until: str) -> Scenario:
    patience = {"mean_s": 3.0, "distribution": "fixed", "until": until}
    return station(poisson(1.2), exponential_service(1.0), num_requests, patience=patience)


def test_mm1_whose_customers_leave_the_queue_quick() -> None:
    """Few requests, for every run of the suite: lam 1.2, mu 1, at most 3 s in the queue (Barrer 1957)."""
    (share,) = replicate(impatient_mm1(10_000, "scheduled"), [share_abandoned], range(8))
    assert_agrees(share, MM1_D, 0.03)


def test_patience_that_ends_with_service_is_not_mistaken_for_patience_in_the_queue() -> None:
    """The control: customers who also leave during service must not pass for those who leave the queue."""
    (share,) = replicate(impatient_mm1(5_000, "first_token"), [share_abandoned], range(6))
    with pytest.raises(AssertionError):
        assert_agrees(share, MM1_D, 0.1)


def test_nobody_in_service_abandons_the_queue() -> None:
    (count,) = replicate(impatient_mm1(2_000, "scheduled"), [abandoned_in_service], range(3))
    assert count.mean == 0


def abandoned_in_service(result: Result) -> float:
    outcome, scheduled = result.record.requests.column("outcome", "first_scheduled_s")
    left = outcome == ABANDONED
    assert left.any()
    return float((~np.isnan(scheduled[left])).sum())
