"""Queues whose customers leave, against the textbook: M/M/1+D, Erlang A, and the retrial queue."""

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
    """mm1+D with few requests, for every run of the suite."""
    (share,) = replicate(impatient_mm1(10_000, "scheduled"), [share_abandoned], range(8))
    assert_agrees(share, MM1_D, 0.03)


@pytest.mark.slow
def test_mm1_whose_customers_leave_the_queue_after_three_seconds() -> None:
    """mm1+D: lam 1.2, mu 1, at most 3 s in the queue (Barrer 1957: virtual wait truncated at 3 s)."""
    (share,) = replicate(impatient_mm1(40_000, "scheduled"), [share_abandoned], range(16))
    assert_agrees(share, MM1_D, 0.01)


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


def of_station(rate: float, num_requests: int, engine: dict[str, Any], **lives: Any) -> Scenario:
    """Return one station with exponential service of mean 1 s."""
    return Scenario.model_validate(
        {
            "name": "theory",
            "workload": {
                "num_requests": num_requests,
                "classes": {
                    "all-of-them": {
                        "arrivals": poisson(rate),
                        "prompt_tokens": 1,
                        "output_tokens": 1,
                        **lives,
                    }
                },
            },
            "pools": {
                "pool": {
                    "engine": {"kind": "station", **engine},
                    "service_time": {"kind": "exponential", "mean_s": 1.0},
                }
            },
        }
    )


def mean_time_in_queue_s(result: Result) -> float:
    """Return the mean over everybody of the time until service, or until leaving."""
    arrival, scheduled, finish = settled(result, "arrival_s", "first_scheduled_s", "finish_s")
    return float((np.fmin(scheduled, finish) - arrival).mean())


@pytest.mark.slow
def test_erlang_a() -> None:
    """M/M/10+M: lam 12, mu 1, theta 0.5 (Palm 1957; Garnett, Mandelbaum and Reiman 2002)."""
    patience = {"mean_s": 2.0, "until": "scheduled"}
    case = of_station(12.0, 60_000, {"servers": 10}, patience=patience)
    share, queue = replicate(case, [share_abandoned, mean_time_in_queue_s], range(16))
    assert_agrees(share, 0.19565594401072317, 0.01)
    assert_agrees(queue, 0.39131188802144634, 0.015)


def mean_retrying(result: Result) -> float:
    """Return the mean number of clients between two attempts, over the middle of the run."""
    frame = result.attempts.sort_values(["request_id", "attempt"])
    left, back = frame["finish_s"].to_numpy()[:-1], frame["arrival_s"].to_numpy()[1:]
    same = frame["request_id"].to_numpy()[:-1] == frame["request_id"].to_numpy()[1:]
    begin, end = 0.1 * result.record.last_arrival_s, 0.9 * result.record.last_arrival_s
    waited = np.clip(back, begin, end) - np.clip(left, begin, end)
    return float(waited[same].sum() / (end - begin))


@pytest.mark.slow
def test_retrial_queue() -> None:
    """M/M/1/1 with retrials: lam 0.7, mu 1, nu 0.5; rho / (1 - rho) * (lam / nu + rho) (Falin and Templeton 1997)."""
    retry = {
        "on": ["rejected"],
        "max_attempts": "unlimited",
        "backoff_s": 2.0,
        "multiplier": 1.0,
        "jitter": "exponential",
    }
    case = of_station(0.7, 40_000, {"servers": 1, "max_in_system": 1}, retry=retry)
    (retrying,) = replicate(case, [mean_retrying], range(16))
    assert_agrees(retrying, 4.9, 0.05)
