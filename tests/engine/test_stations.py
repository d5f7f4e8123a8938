"""The stations of queueing theory, by hand: who is served when, what is logged, and that nothing is lost."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from servesim import Scenario, simulate
from servesim.engine.base import Site, Surroundings
from servesim.errors import InputError
from servesim.metrics.split import PARTS
from servesim.registry import kinds
from servesim.request import Request
from servesim.rng import stream
from servesim.service_time.per_token import PerToken
from servesim.system.clock import Clock

ENGINES: list[dict[str, Any]] = [
    {"kind": "station"},
    {"kind": "station", "servers": 3, "max_in_system": 5},
    {"kind": "station", "servers": "unlimited"},
    {"kind": "station", "servers": 2, "scheduler": {"kind": "priority"}},
    {"kind": "processor_sharing"},
    {"kind": "processor_sharing", "max_num_seqs": 2},
    {"kind": "preemptive_station", "order": "priority"},
    {"kind": "preemptive_station", "order": "remaining_work", "servers": 2},
    {"kind": "preemptive_station", "order": "last_come"},
]


def station(engine: dict[str, Any], service: dict[str, Any]) -> Scenario:
    """Return a scenario of two classes, the second one less important and impatient."""
    arrivals = {"kind": "poisson", "request_rate_rps": 0.6}
    one = {"arrivals": arrivals, "prompt_tokens": {"kind": "geometric", "mean_tokens": 5.0}, "output_tokens": 3}
    classes = {"gold": one, "iron": {**one, "priority": 1, "timeout_s": 4.0}}
    return Scenario.model_validate(
        {
            "name": "station",
            "workload": {"num_requests": 150, "classes": classes},
            "pools": {"pool": {"engine": engine, "service_time": service, "replicas": 2}},
        }
    )


@pytest.mark.parametrize("engine", ENGINES, ids=lambda e: "-".join(map(str, e.values())))
@given(seed=st.integers(0, 1000))
@settings(max_examples=10)
def test_every_station_keeps_its_books(engine: dict[str, Any], seed: int) -> None:
    """The summary's checks hold (conservation, causality, Little's law) and the parts sum to the latency."""
    result = simulate(station(engine, {"kind": "per_token", "per_prompt_token_s": 0.2}), seed)
    classes = result.summary["classes"]
    assert classes["all"]["offered"] == 300
    frame = result.requests
    done = frame["outcome"] == "completed"
    np.testing.assert_allclose(frame.loc[done, list(PARTS)].sum(axis=1), frame.loc[done, "e2e_s"], atol=1e-9)
    np.testing.assert_allclose(frame.loc[done, "own_compute_s"], 0.2 * frame.loc[done, "prompt_tokens"], atol=1e-9)
    assert 0 <= result.summary["pools"]["pool"]["utilisation"] <= 1 + 1e-9


def ends(engine: dict[str, Any], jobs: list[tuple[float, int, int]]) -> list[float]:
    """Return when each of `jobs` (arrival, seconds of work, priority) ends on one replica, in order of arrival."""
    spec = kinds("engine")[engine["kind"]].model_validate(engine)
    plan = spec.resolve(Site("pool", None, None, "vllm", PerToken(per_prompt_token_s=1.0), ("jobs",)))
    clock = Clock()
    finished: list[Request] = []
    replica = plan.builder(Surroundings(clock, finished.append, partial(stream, 0), ("jobs",)), False)(0)
    requests = [Request(i, 0, at, work, 1, priority, lambda _: None) for i, (at, work, priority) in enumerate(jobs)]
    for request in requests:
        clock.call_at(request.arrival_s, partial(replica.submit, request))
    clock.run_until_empty()
    assert sorted(one.request_id for one in finished) == list(range(len(jobs)))
    assert replica.outstanding == 0
    return [request.finish_s for request in requests]


JOBS = [(0.0, 6, 1), (1.0, 3, 0), (2.0, 1, 1)]


@pytest.mark.parametrize(
    ("engine", "expected"),
    [
        ({"kind": "station"}, [6, 9, 10]),
        ({"kind": "station", "servers": 2}, [6, 4, 5]),
        ({"kind": "station", "scheduler": {"kind": "shortest_prompt"}}, [6, 10, 7]),
        ({"kind": "station", "max_in_system": 2}, [6, 9, 2]),  # the third is rejected on arrival
        # 1 s alone; 1 s shared by two; three from 2 s on: the third has its 1 s at 5, the second its 2 s left at 8.
        ({"kind": "processor_sharing"}, [10, 8, 5]),
        ({"kind": "processor_sharing", "max_num_seqs": 1}, [6, 9, 10]),
        ({"kind": "preemptive_station", "order": "priority"}, [9, 4, 10]),
        ({"kind": "preemptive_station", "order": "remaining_work"}, [10, 5, 3]),
        ({"kind": "preemptive_station", "order": "last_come"}, [10, 5, 3]),
        ({"kind": "preemptive_station", "order": "priority", "servers": 2}, [6, 4, 5]),
    ],
    ids=str,
)
def test_three_jobs_by_hand(engine: dict[str, Any], expected: list[float]) -> None:
    assert ends(engine, JOBS) == pytest.approx(expected)


def test_who_is_done_when_another_comes_is_done() -> None:
    """An end and an arrival at one instant: the server is free."""
    assert ends({"kind": "preemptive_station"}, [(0.0, 1, 1), (1.0, 1, 0)]) == [1.0, 2.0]
    full_load = [(float(i), 1, 0) for i in range(5)]
    assert ends({"kind": "station", "max_in_system": 1}, full_load) == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_remaining_work_is_what_is_left_now() -> None:
    """When a job of 4 s comes, the first has 3 of its 8 s left and stays; a job of 1 s, and then it would give way."""
    shortest = {"kind": "preemptive_station", "order": "remaining_work"}
    assert ends(shortest, [(0.0, 8, 0), (5.0, 4, 0)]) == pytest.approx([8, 12])
    assert ends(shortest, [(0.0, 8, 0), (5.0, 1, 0)]) == pytest.approx([9, 6])


def test_each_class_has_a_law_of_its_own() -> None:
    laws = {"gold": {"kind": "constant", "mean_s": 0.25}, "iron": {"kind": "constant", "mean_s": 0.5}}
    frame = simulate(station({"kind": "station"}, {"kind": "by_class", "laws": laws})).requests
    done = frame[frame["outcome"] == "completed"]
    np.testing.assert_allclose(done["own_compute_s"], np.where(done["class"] == "gold", 0.25, 0.5))


@pytest.mark.parametrize(
    ("engine", "service", "message"),
    [
        ({"kind": "station"}, {"kind": "affine", "base_s": 1.0}, "it takes: by_class, constant, erlang, exponential"),
        ({"kind": "continuous"}, {"kind": "constant", "mean_s": 1.0}, "it takes: affine, calibrated, roofline"),
        (
            {"kind": "station"},
            {"kind": "by_class", "laws": {"gold": {"kind": "constant", "mean_s": 1.0}}},
            "no law for class 'iron'",
        ),
    ],
)
def test_a_service_time_of_the_wrong_kind_is_refused(
    engine: dict[str, Any], service: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        simulate(station(engine, service))


def test_two_stations_compared_under_one_seed_do_the_same_work() -> None:
    service = {"kind": "exponential", "mean_s": 0.5}
    one, two = (simulate(station(e, service), 3).requests for e in ({"kind": "station"}, {"kind": "processor_sharing"}))
    both = (one["outcome"] == "completed") & (two["outcome"] == "completed") & (one["class"] == "gold")
    assert both.sum() > 50
    np.testing.assert_allclose(one.loc[both, "own_compute_s"], two.loc[both, "own_compute_s"], atol=1e-9)
