"""What continuous batching can carry: saturation and the token budget. Its latencies are cases of the book."""

from __future__ import annotations

import numpy as np
import pytest

from servesim import simulate
from tests.theory.queues import Mean, assert_agrees, engine_scenario, replicate

pytestmark = pytest.mark.statistical

BATCH = {"max_num_seqs": 16, "max_num_batched_tokens": 64}
TIMES = {"kind": "affine", "base_s": 0.008, "per_seq_s": 0.00025}
GEOMETRIC = {"kind": "geometric", "mean_tokens": 64.0}


def test_saturation_throughput() -> None:
    """cb-sat: 16 / (12 ms * 64) = 20.833 requests/s, measured while the backlog lasts."""
    scenario = engine_scenario({"kind": "all_at_once"}, 1, GEOMETRIC, TIMES, 20_000, BATCH)

    def rate(result) -> float:
        finish = np.sort(result.record.requests.column("finish_s")[0])[:-200]
        return len(finish) / float(finish[-1])

    (measured,) = replicate(scenario, [rate], range(8))
    assert_agrees(measured, 20.833333333333332, 0.01)


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
    slope = Mean(*_slope(growing))
    expected = 0.02 * limit * (30_000 / (1.02 * limit)) * 0.1  # surplus requests per tenth of the run
    assert abs(slope.z(expected)) <= 4
    assert slope.mean > 8 * abs(_slope(stable)[0])


def _slope(backlogs: np.ndarray) -> tuple[float, float]:
    slopes = [np.polyfit(range(10), row, 1)[0] for row in backlogs]
    return float(np.mean(slopes)), float(np.std(slopes, ddof=1) / np.sqrt(len(slopes)))
