"""Continuous batching against exact chains: decode-only engines with geometric outputs."""

from __future__ import annotations

import numpy as np
import pytest

from servesim import Scenario, simulate
from tests.theory.queues import Estimate, assert_agrees, engine_scenario, mean_sojourn, replicate

pytestmark = pytest.mark.statistical

BATCH = {"max_num_seqs": 16, "max_num_batched_tokens": 64}
TIMES = {"kind": "affine", "base_s": 0.008, "per_seq_s": 0.00025}
GEOMETRIC = {"kind": "geometric", "mean_tokens": 64.0}


def decode_only(rate_rps: float, num_requests: int) -> Scenario:
    """One prompt token, so that the prefill iteration is the first of a geometric number of equal iterations."""
    return engine_scenario({"kind": "poisson", "request_rate_rps": rate_rps}, 1, GEOMETRIC, TIMES, num_requests, BATCH)


def utilisation(result) -> float:
    (replica,) = result.record.pools[0].replicas
    count, first, bend = replica.runs.column("iterations", "first_s", "bend_s")
    busy = (count * (first + bend * (count - 1))).sum()
    return float(busy / result.record.end_s)


def test_mean_latency_and_utilisation() -> None:
    """cb-T 659.877 ms, cb-util 0.99916: iteration-level chain, b = min(n, 16), completions Bin(b, 1/64)."""
    latency, busy = replicate(decode_only(12.0, 30_000), [mean_sojourn, utilisation], range(8))
    assert_agrees(latency, 0.6598772156345802)
    assert_agrees(busy, 0.999160444407021)


@pytest.mark.slow
def test_mean_latency_near_saturation() -> None:
    """cb-T-heavy 1266.355 ms at 94 % of the saturation rate."""
    (latency,) = replicate(decode_only(19.5, 120_000), [mean_sojourn], range(16))
    assert_agrees(latency, 1.2663546883390675, 0.03)


def test_saturation_throughput() -> None:
    """cb-sat: 16 / (12 ms * 64) = 20.833 requests/s, measured while the backlog lasts."""
    scenario = engine_scenario({"kind": "all_at_once"}, 1, GEOMETRIC, TIMES, 20_000, BATCH)

    def rate(result) -> float:
        finish = np.sort(result.record.requests.column("finish_s")[0])[:-200]
        return len(finish) / float(finish[-1])

    (measured,) = replicate(scenario, [rate], range(8))
    assert_agrees(measured, 20.833333333333332, 0.01)


def test_a_batch_of_fifteen_is_not_mistaken_for_sixteen() -> None:
    """The control: an engine that is off by one in its batch limit must not pass where the limit matters."""
    scenario = decode_only(19.5, 10_000)
    pool = scenario.pools["pool"]
    wrong = pool.model_copy(update={"engine": pool.engine.model_copy(update={"max_num_seqs": 15})})
    (latency,) = replicate(scenario.model_copy(update={"pools": {"pool": wrong}}), [mean_sojourn], range(8))
    assert latency.z(1.2663546883390675) > 4


def backlog(rate_rps: float, num_requests: int, seed: int) -> np.ndarray:
    """Return how many requests were inside at each of ten equally spaced arrivals of an engine with a token budget."""
    scenario = engine_scenario(
        {"kind": "poisson", "request_rate_rps": rate_rps},
        256,
        65,  # 64 decode tokens: the first output token comes with the prefill
        {"kind": "affine", "base_s": 0.03},
        num_requests,
        {"max_num_seqs": 512, "max_num_batched_tokens": 512},
    )
    arrival, finish = simulate(scenario, seed).record.requests.column("arrival_s", "finish_s")
    arrival, finish = np.sort(arrival), np.sort(finish)
    marks = np.linspace(0.1, 1.0, 10) * arrival[-1]
    return np.searchsorted(arrival, marks) - np.searchsorted(finish, marks)


def test_the_token_budget_limits_the_rate() -> None:
    """ldp: stable up to 512 / (0.03 * 320) = 53.333 requests/s; the queue grows linearly beyond."""
    limit = 512 / (0.03 * 320)
    stable = np.array([backlog(0.98 * limit, 30_000, seed) for seed in range(4)])
    growing = np.array([backlog(1.02 * limit, 30_000, seed) for seed in range(4)])
    slope = Estimate(*_slope(growing))
    expected = 0.02 * limit * (30_000 / (1.02 * limit)) * 0.1  # surplus requests per tenth of the run
    assert abs(slope.z(expected)) <= 4
    assert slope.mean > 8 * abs(_slope(stable)[0])


def _slope(backlogs: np.ndarray) -> tuple[float, float]:
    slopes = [np.polyfit(range(10), row, 1)[0] for row in backlogs]
    return float(np.mean(slopes)), float(np.std(slopes, ddof=1) / np.sqrt(len(slopes)))
