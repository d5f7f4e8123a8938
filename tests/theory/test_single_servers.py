"""M/M/1, M/D/1 and their relatives as degenerate engines, against the textbook."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.theory.queues import (
    assert_agrees,
    constant_service,
    exponential_service,
    mean_sojourn,
    mean_wait,
    replicate,
    sojourn,
    station,
    wait,
)

pytestmark = pytest.mark.statistical


def poisson(rate: float) -> dict:
    return {"kind": "poisson", "request_rate_rps": rate}


def test_mm1_at_load_one_half() -> None:
    """Mean sojourn 1/(mu - lam), p99 ln(100)/(mu - lam); quick enough for every run of the suite."""
    scenario = station(poisson(0.5), exponential_service(1.0), 40_000)
    mean, p99 = replicate(scenario, [mean_sojourn, lambda r: np.percentile(sojourn(r), 99)], range(8))
    assert_agrees(mean, 2.0, 0.02)
    assert_agrees(p99, math.log(100) / 0.5, 0.03)


def test_md1_at_load_one_half() -> None:
    """Mean wait rho D / (2 (1 - rho))."""
    (mean,) = replicate(station(poisson(0.5), constant_service(1.0), 40_000), [mean_wait], range(8))
    assert_agrees(mean, 0.5, 0.02)


def test_an_exponential_server_is_not_mistaken_for_a_constant_one() -> None:
    """The control: the M/D/1 answer must be refused by an M/M/1 system."""
    (mean,) = replicate(station(poisson(0.5), exponential_service(1.0), 20_000), [mean_wait], range(8))
    with pytest.raises(AssertionError):
        assert_agrees(mean, 0.5, 0.1)


@pytest.mark.slow
def test_mm1_at_load_08() -> None:
    """mm1-T 5, mm1-p99T 23.026, mm1-p95W 13.863 (Gross & Harris)."""
    scenario = station(poisson(0.8), exponential_service(1.0), 200_000)
    mean, p99, p95 = replicate(
        scenario,
        [
            mean_sojourn,
            lambda r: np.percentile(sojourn(r), 99),
            lambda r: np.percentile(wait(r), 95),
        ],
        range(12),
    )
    assert_agrees(mean, 5.0, 0.025)
    assert_agrees(p99, math.log(100) / 0.2, 0.03)
    assert_agrees(p95, math.log(0.8 / 0.05) / 0.2, 0.03)


@pytest.mark.slow
def test_md1_at_load_08() -> None:
    """md1-Wq 2, md1-p99W 10.3559 (Franx 2001)."""
    scenario = station(poisson(0.8), constant_service(1.0), 200_000)
    mean, p99 = replicate(scenario, [mean_wait, lambda r: np.percentile(wait(r), 99)], range(8))
    assert_agrees(mean, 2.0, 0.025)
    assert_agrees(p99, 10.355886791994948, 0.03)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arrivals", "exact", "half_width"),
    [
        ({"kind": "constant", "request_rate_rps": 0.8}, 1.6927308399198975, 0.02),  # dm1-Wq
        ({"kind": "gamma", "request_rate_rps": 0.8, "burstiness": 0.25}, 10.955227558098763, 0.03),  # gammaCV2-Wq
    ],
)
def test_other_arrivals_at_an_exponential_server(arrivals: dict, exact: float, half_width: float) -> None:
    """G/M/1: Wq = s / (mu (1 - s)) with s the root of the arrival law's transform."""
    (mean,) = replicate(station(arrivals, exponential_service(1.0), 200_000), [mean_wait], range(8))
    assert_agrees(mean, exact, half_width)
    if arrivals["kind"] == "gamma":
        assert mean.mean <= 14.5  # kingman: an upper bound


def test_round_robin_makes_erlang_arrivals() -> None:
    """rr4-Wq: each of four servers sees E4/M/1."""
    scenario = station(poisson(3.2), exponential_service(1.0), 120_000, servers=4)
    (mean,) = replicate(scenario, [mean_wait], range(8))
    assert_agrees(mean, 2.2673836103193614, 0.03)


def test_random_split_makes_independent_queues() -> None:
    """split: four M/M/1 queues; at load 0.5 here, mean sojourn 2."""
    scenario = station(poisson(2.0), exponential_service(1.0), 60_000, servers=4, router={"kind": "random"})
    (mean,) = replicate(scenario, [mean_sojourn], range(8))
    assert_agrees(mean, 2.0, 0.03)


def test_join_the_shortest_queue() -> None:
    """jsq-4 at load 0.8: 1.953134 (truncated chain of the sorted queue lengths)."""
    scenario = station(poisson(3.2), exponential_service(1.0), 100_000, servers=4, router={"kind": "least_outstanding"})
    (mean,) = replicate(scenario, [mean_sojourn], range(8))
    assert_agrees(mean, 1.953134099606107, 0.02)


@pytest.mark.parametrize(("d", "exact"), [(2, 2.6140573773238756), (3, 2.027855968995279)])
@pytest.mark.slow
def test_power_of_d_choices_with_many_servers(d: int, exact: float) -> None:
    """pod-2, pod-3: sum over i of lam^((d^i - d)/(d - 1)) as the number of servers grows; 1,000 here, within 1 %."""
    scenario = station(
        poisson(900.0), exponential_service(1.0), 400_000, servers=1000, router={"kind": "power_of_d", "d": d}
    )
    (mean,) = replicate(scenario, [mean_sojourn], range(2))
    assert mean.mean == pytest.approx(exact, rel=0.015)


def test_closed_loop_of_clients_that_think() -> None:
    """repair-X 19.9324 /s, repair-R 0.60543 s: 32 clients thinking 1 s, one exponential server of 20/s (exact MVA)."""
    arrivals = {"kind": "closed_loop", "max_concurrency": 32, "think_time_s": 1.0, "think": "exponential"}
    scenario = station(arrivals, exponential_service(0.05), 40_000)

    def throughput(result) -> float:
        finish = np.sort(result.record.requests.column("finish_s")[0])
        return (len(finish) - 4000) / (finish[-1] - finish[3999])

    rate, response = replicate(scenario, [throughput, mean_sojourn], range(8))
    assert_agrees(rate, 19.932393814164428, 0.01)
    assert_agrees(response, 0.6054268392620281, 0.02)


def test_a_closed_loop_without_thinking_keeps_its_concurrency() -> None:
    """With a constant server and no think time every response takes exactly concurrency * service."""
    scenario = station({"kind": "closed_loop", "max_concurrency": 5}, constant_service(0.1), 1000)
    (response,) = replicate(scenario, [lambda r: float(np.ptp(sojourn(r)))], range(2))
    assert response.mean == pytest.approx(0.0, abs=1e-9)


@pytest.mark.slow
def test_shortest_prompt_first_is_shortest_job_first() -> None:
    """sjf-mm1: 2.88222, non-preemptive SJF."""
    scenario = station(poisson(0.8), exponential_service(1.0), 150_000, scheduler="shortest_prompt")
    (mean,) = replicate(scenario, [mean_sojourn], range(8))
    assert_agrees(mean, 2.8822186162397765, 0.025)
