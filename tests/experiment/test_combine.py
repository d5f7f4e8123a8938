"""What many replications say together, and two systems under the same random numbers."""

from __future__ import annotations

from typing import Any

from servesim import Scenario
from servesim.experiment.combine import combined
from servesim.experiment.paired import paired
from servesim.experiment.replicate import replicate
from servesim.request import ENDS
from tests.theory.queues import exponential_service, station


def queue(rate_rps: float, mean_s: float, num_requests: int, **changes: Any) -> Scenario:
    arrivals = {"kind": "poisson", "request_rate_rps": rate_rps}
    return station(arrivals, exponential_service(mean_s), num_requests, **changes)


def test_counts_of_many_replications_are_totals() -> None:
    lives = {"patience": {"mean_s": 2.0}, "retry": {"on": ["abandoned"], "max_attempts": 3}}
    many = replicate(queue(2.0, 1.0, 300, **lives), 3)
    one = many.summary["classes"]["all"]
    assert one["abandoned"] > 0
    assert sum(one[end] for end in ENDS) == one["offered"] == 900
    assert one["attempts"] == one["offered"] + one["retries"]
    for name, value in many.summaries[0]["classes"]["all"].items():
        if type(value) is int:
            assert one[name] == sum(each["classes"]["all"][name] for each in many.summaries), name


def test_pairs_have_the_refusals_of_replications() -> None:
    mean, p99 = ("classes", "all", "e2e_s", "mean"), ("classes", "all", "e2e_s", "p99")
    flooded = paired(queue(0.5, 1.0, 2000), queue(0.5, 3.0, 2000), 3)
    assert "overloaded in 3 of 3" in flooded.interval(*mean).reason
    windows = {(one["measurement"]["left_out"]) for side in (flooded.a, flooded.b) for one in side.summaries}
    assert windows == {100}
    short = paired(queue(0.5, 1.0, 50), queue(0.5, 1.1, 50), 10)
    assert "beyond it" in short.interval(*p99).reason
    assert not short.interval(*mean).reason


def test_pairs_measure_the_same_requests_or_have_no_interval() -> None:
    whole = queue(0.5, 1.0, 1200)
    part = whole.model_copy(update={"measurement": whole.measurement.model_validate({"warmup": {"requests": 300}})})
    assert "different requests" in paired(whole, part, 3).interval("classes", "all", "e2e_s", "mean").reason


def test_how_the_warm_up_was_found_is_said_of_all_replications() -> None:
    many = replicate(queue(0.5, 1.0, 1200), 3)
    changed = [dict(one) for one in many.summaries]
    changed[1]["measurement"] = {**changed[1]["measurement"], "how": "otherwise"}
    how = combined(changed, {})["measurement"]["how"]
    assert how == "the first twentieth, as usual (in 2 of 3 replications); otherwise (in 1 of 3 replications)"
