"""The overload rule against queues whose stability is known, under several orders of service."""

from __future__ import annotations

import heapq

import numpy as np
import pytest

from servesim.engine.settings import EngineSettings
from servesim.metrics.overload import Overload, Requests, grows, overload_warnings, overloads
from servesim.metrics.record import ClassRecord, RunRecord
from servesim.request import COMPLETED
from servesim.service_time.affine import Affine
from servesim.service_time.base import Deployment
from tests.metrics.records import Job, poisson_jobs, record_of, with_timeouts

Array = np.ndarray
ORDERS = ("fcfs", "lifo", "priority", "sjf", "processor_sharing")


def one_at_a_time(arrival: Array, service: Array, key: Array) -> Array:
    """Return when requests end at one server that takes the waiting request with the smallest key."""
    arrivals, services, keys = arrival.tolist(), service.tolist(), key.tolist()
    waiting: list[tuple[float, int]] = []
    end, now, entered = np.empty(len(arrivals)), 0.0, 0
    for _ in arrivals:
        if not waiting:
            now = max(now, arrivals[entered])
        while entered < len(arrivals) and arrivals[entered] <= now:
            heapq.heappush(waiting, (keys[entered], entered))
            entered += 1
        index = heapq.heappop(waiting)[1]
        now += services[index]
        end[index] = now
    return end


def shared(arrival: Array, service: Array) -> Array:
    """Return when requests end at one server that serves all present at equal rates."""
    arrivals, services = arrival.tolist(), service.tolist()
    present: list[tuple[float, int]] = []
    end, now, each, entered = np.empty(len(arrivals)), 0.0, 0.0, 0
    while entered < len(arrivals) or present:
        next_end = now + (present[0][0] - each) * len(present) if present else np.inf
        if entered < len(arrivals) and arrivals[entered] <= next_end:
            each += (arrivals[entered] - now) / max(1, len(present))
            now = arrivals[entered]
            heapq.heappush(present, (each + services[entered], entered))
            entered += 1
        else:
            now = next_end
            each, index = heapq.heappop(present)
            end[index] = now
    return end


def queue(order: str, load: float, requests: int, seed: int, burst: float = 1.0, spread: float = 1.0) -> Requests:
    """Return what one server with mean service 1 does.

    `burst` is the squared coefficient of variation of the gaps between arrivals, `spread` that of service.
    """
    rng = np.random.default_rng(seed)
    arrival = np.cumsum(rng.gamma(1 / burst, burst / load, requests))
    service = rng.gamma(1 / spread, spread, requests) if spread else np.ones(requests)
    if order == "processor_sharing":
        return served(arrival, arrival, shared(arrival, service))
    key = {
        "fcfs": np.arange(requests),
        "lifo": -np.arange(requests),
        "priority": rng.integers(0, 2, requests),
        "sjf": service,
    }[order]
    end = one_at_a_time(arrival, service, key)
    return served(arrival, end - service, end)


def served(arrival: Array, start: Array, end: Array) -> Requests:
    return Requests(arrival, start, end, np.full(len(arrival), float(COMPLETED)))


def share_flagged(order: str, load: float, requests: int, runs: int = 300, **shape: float) -> float:
    return float(np.mean([grows(queue(order, load, requests, seed, **shape)) for seed in range(runs)]))


@pytest.mark.parametrize("order", ORDERS)
def test_overload_is_found_at_load_1_1_under_any_order(order: str) -> None:
    assert share_flagged(order, 1.1, 2000) >= 0.975


@pytest.mark.parametrize("order", ORDERS)
def test_false_alarms_at_load_0_9_are_rare_under_any_order(order: str) -> None:
    assert share_flagged(order, 0.9, 2000) <= 0.015


@pytest.mark.parametrize("requests", [200, 10_000])
def test_false_alarms_are_rare_in_short_and_long_runs(requests: int) -> None:
    assert share_flagged("fcfs", 0.9, requests, runs=200) <= 0.01


@pytest.mark.parametrize("order", ["fcfs", "processor_sharing"])
def test_false_alarms_with_bursty_arrivals_are_rare(order: str) -> None:
    assert share_flagged(order, 0.9, 2000, burst=4.0) <= 0.02
    assert share_flagged(order, 0.8, 2000, runs=200, burst=4.0) <= 0.01


def test_false_alarms_with_very_different_services_are_rare() -> None:
    assert share_flagged("fcfs", 0.9, 2000, spread=4.0) <= 0.02
    assert share_flagged("processor_sharing", 0.9, 2000, spread=4.0) <= 0.02


def test_overload_with_equal_services_is_found() -> None:
    assert share_flagged("fcfs", 1.1, 2000, spread=0.0) >= 0.99


@pytest.mark.parametrize("order", ORDERS)
def test_strong_overload_is_found_in_a_short_run(order: str) -> None:
    assert share_flagged(order, 2.0, 200) >= 0.92
    assert share_flagged(order, 5.0, 400, runs=100) >= 0.95


@pytest.mark.parametrize("length", [0.5, 1, 2, 3, 4, 5, 6, 8, 10, 20, 50])
@pytest.mark.parametrize("requests", [200, 2000, 20_000])
@pytest.mark.parametrize("equal", [True, False])
def test_an_empty_system_that_fills_to_its_level_is_no_overload(length: float, requests: int, equal: bool) -> None:
    """Nobody waits for anybody; the run is `length` times as long as a request stays."""
    flagged = []
    for seed in range(100 if requests < 20_000 else 30):
        rng = np.random.default_rng(seed)
        arrival = np.cumsum(rng.exponential(1.0, requests))
        stay = requests / length * (np.ones(requests) if equal else rng.exponential(1.0, requests))
        flagged.append(grows(served(arrival, arrival, arrival + stay)))
    assert np.mean(flagged) <= 0.03


def test_a_real_engine_above_and_below_capacity() -> None:
    settings = EngineSettings(max_num_seqs=8)
    above = record_of(poisson_jobs(1500, 40, 100, 100), settings)
    (found,) = overloads(above)
    arrival, finish = above.requests.column("arrival_s", "finish_s")
    middle, last = (arrival.min() + arrival.max()) / 2, arrival.max()
    assert found.offered_rps == pytest.approx(40, rel=0.1)
    completed = np.count_nonzero((finish > middle) & (finish <= last))
    assert found.completed_rps == pytest.approx(completed / (last - middle))
    assert found.completed_rps < 0.7 * found.offered_rps
    assert found.inside_after == np.count_nonzero(finish > last)
    (text,) = overload_warnings(above)
    assert f"grew from {found.inside_before} to {found.inside_after}; latencies depend" in text
    assert overload_warnings(record_of(poisson_jobs(1500, 8, 100, 100), settings)) == []


def test_a_backlog_in_the_running_batch_is_found() -> None:
    times = Affine(base_s=0.005, per_seq_s=0.001).build(Deployment())
    settings = EngineSettings(max_num_seqs=100_000, num_gpu_blocks=1_000_000)
    above = record_of(poisson_jobs(3000, 15, 50, 100), settings, times)
    arrival, scheduled = above.requests.column("arrival_s", "first_scheduled_s")
    assert np.median(scheduled - arrival) < 5
    assert len(overloads(above)) == 1
    assert overload_warnings(record_of(poisson_jobs(3000, 6, 50, 100), settings, times)) == []


def starving_record(low_rps: float) -> RunRecord:
    """Return a record whose class `low` is served after class `high`, at one server with mean service 1."""
    record = record_of([], classes=(ClassRecord("high", "main"), ClassRecord("low", "main")))
    rng = np.random.default_rng(3)
    rates, requests = (0.8, low_rps), (4000, int(5000 * low_rps))
    arrival = np.concatenate([np.cumsum(rng.exponential(1 / r, n)) for r, n in zip(rates, requests, strict=True)])
    which = np.repeat([0, 1], requests)
    order = np.argsort(arrival)
    arrival, which = arrival[order], which[order]
    service = rng.exponential(1.0, len(arrival))
    end = one_at_a_time(arrival, service, which)
    columns = record.requests.columns
    for i in range(len(arrival)):
        row = dict.fromkeys(columns, 0.0)
        row |= {"class_index": which[i], "arrival_s": arrival[i], "finish_s": end[i], "outcome": COMPLETED}
        row["first_scheduled_s"] = end[i] - service[i]
        record.requests.add(tuple(float(row[name]) for name in columns))
    return record


def test_only_the_starved_class_is_named() -> None:
    (found,) = overloads(starving_record(0.4))
    assert found.classes == ("low",)
    assert found.completed_rps == pytest.approx(0.2, abs=0.05)
    assert "pool main is overloaded for low: offered" in str(found)
    assert overloads(starving_record(0.05)) == []


def test_a_rate_of_nothing_is_said_in_a_word() -> None:
    assert "completed none over the second half" in str(Overload("main", 4.0, 0.0, 10, 90))


def test_where_nothing_ends_it_is_overload_only_if_most_wait() -> None:
    record = record_of(poisson_jobs(1500, 40, 100, 100), EngineSettings(max_num_seqs=8))
    requests = Requests(*record.requests.column("arrival_s", "first_scheduled_s", "finish_s", "outcome"))
    late = np.full(len(requests.arrival_s), requests.arrival_s.max() + 1.0)
    assert grows(Requests(requests.arrival_s, late, late + 1.0, requests.outcome))
    assert not grows(Requests(requests.arrival_s, requests.arrival_s, late, requests.outcome))  # all run, none is done


def test_clients_that_give_up_are_a_warning_of_their_own() -> None:
    settings = EngineSettings(max_num_seqs=8)
    jobs = with_timeouts(poisson_jobs(1500, 40, 100, 100), every=1, timeout_s=3.0)
    record = record_of(jobs, settings)
    assert overloads(record) == []
    (text,) = overload_warnings(record)
    assert "cannot serve what is offered while its clients wait" in text
    patient = with_timeouts(poisson_jobs(1500, 8, 100, 100), every=1, timeout_s=60.0)
    assert overload_warnings(record_of(patient, settings)) == []


def test_a_batch_at_time_zero_and_closed_loops_are_no_overload() -> None:
    settings = EngineSettings(max_num_seqs=2)
    assert overloads(record_of([Job(0.0, 10, 10)] * 300, settings)) == []
    closed = (ClassRecord("chat", "main", open_loop=False),)
    assert overloads(record_of(poisson_jobs(1500, 60, 100, 100), settings, classes=closed)) == []
