"""The overload rule against queues whose stability is known: M/M/1 and M/D/1 by Lindley's recursion."""

from __future__ import annotations

import numpy as np
import pytest

from servesim.engine.settings import EngineSettings
from servesim.metrics.overload import overload_warnings, overloads, queue_grew
from servesim.metrics.record import ClassRecord
from tests.metrics.records import Job, poisson_jobs, record_of


def single_server(
    load: float, requests: int, seed: int, burst: float = 1.0, spread: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return (arrival_s, start_s) of a first-come first-served queue with mean service 1.

    `burst` is the squared coefficient of variation of the gaps between arrivals, `spread` that of service.
    """
    rng = np.random.default_rng(seed)
    arrival = np.cumsum(rng.gamma(1 / burst, burst / load, requests))
    service = rng.gamma(1 / spread, spread, requests) if spread else np.ones(requests)
    done = np.cumsum(service)
    leave = done + np.maximum.accumulate(arrival - (done - service))
    return arrival, leave - service


def share_flagged(load: float, requests: int, runs: int = 1000, **shape: float) -> float:
    return float(np.mean([queue_grew(*single_server(load, requests, seed, **shape)) > 0 for seed in range(runs)]))


@pytest.mark.parametrize("requests", [200, 2000, 10_000])
def test_false_alarms_at_load_0_9_are_rare(requests: int) -> None:
    assert share_flagged(load=0.9, requests=requests) <= 0.01


def test_false_alarms_with_bursty_arrivals_are_rare() -> None:
    assert share_flagged(load=0.9, requests=2000, burst=4.0) <= 0.01
    assert share_flagged(load=0.8, requests=2000, burst=4.0) <= 0.01


@pytest.mark.parametrize("spread", [1.0, 0.0])
def test_overload_is_found_at_load_1_1(spread: float) -> None:
    assert share_flagged(load=1.1, requests=2000, spread=spread) >= 0.99


def test_strong_overload_is_found_in_a_short_run() -> None:
    assert share_flagged(load=2.0, requests=200) >= 0.99


def test_a_real_engine_above_and_below_capacity() -> None:
    settings = EngineSettings(max_num_seqs=8)
    above = record_of(poisson_jobs(1500, 40, 100, 100), settings)
    (found,) = overloads(above)
    arrival, finish = above.requests.column("arrival_s", "finish_s")
    assert found.offered_rps == pytest.approx(40, rel=0.1)
    assert found.served_rps == pytest.approx((finish <= arrival.max()).sum() / np.ptp(arrival))
    assert found.served_rps < 0.7 * found.offered_rps
    (text,) = overload_warnings(above)
    assert f"the queue grew to {found.waiting} requests" in text
    assert overload_warnings(record_of(poisson_jobs(1500, 8, 100, 100), settings)) == []


def test_a_batch_at_time_zero_and_closed_loops_are_no_overload() -> None:
    settings = EngineSettings(max_num_seqs=2)
    assert overloads(record_of([Job(0.0, 10, 10)] * 300, settings)) == []
    closed = (ClassRecord("chat", "main", open_loop=False),)
    assert overloads(record_of(poisson_jobs(1500, 60, 100, 100), settings, classes=closed)) == []
