"""Known answers without chance: memory arithmetic, roofline, and a deterministic batch schedule."""

from __future__ import annotations

import numpy as np
import pytest

from servesim import Scenario, catalog, simulate
from servesim.engine.station import Station
from servesim.registry import kinds
from servesim.service_time.base import Deployment
from servesim.service_time.per_token import PerToken
from servesim.service_time.roofline import Roofline
from tests.theory.queues import engine_scenario


def test_kv_bytes_per_token_of_llama_3_8b() -> None:
    """kv-bytes: 2 * 32 layers * 8 KV heads * 128 * 2 bytes."""
    assert catalog.model("llama-3.1-8b").kv_bytes_per_token() == 131072


def test_kv_blocks_without_overhead() -> None:
    """kv-blocks: floor((80e9 * 0.9 - 16.06e9) / (131072 * 16))."""
    assert catalog.kv_blocks(80e9, 0.9, 16.06e9, 131072, 16, 0) == 26674


def test_a_decode_step_takes_at_least_the_time_to_read_the_weights() -> None:
    """roof-decode: 8.03e9 parameters * 2 bytes / 3.35e12 bytes/s = 4.794 ms."""
    gpu = catalog.gpu("h100_sxm").model_copy(update={"memory_bandwidth_bytes_per_s": 3.35e12})
    times = Roofline(bandwidth_efficiency=1.0, compute_efficiency=1.0).build(
        Deployment(gpu=gpu, model=catalog.model("llama-3.1-8b"))
    )
    base_s, _, _ = times.decode_line(1, 0)
    read_weights_s = 8.03e9 * 2 / 3.35e12
    assert base_s == pytest.approx(read_weights_s, rel=1e-4)  # the catalog's count is 8.0303e9


@pytest.mark.parametrize("reference", [False, True])
def test_waves_of_equal_requests(reference: bool) -> None:
    """cb-det: 32 requests at t=0, 8 at a time, 100 tokens each, 8 + 0.25 b ms: waves of one second."""
    scenario = engine_scenario(
        {"kind": "all_at_once"},
        1,
        100,
        {"kind": "affine", "base_s": 0.008, "per_seq_s": 0.00025},
        32,
        {"max_num_seqs": 8, "max_num_batched_tokens": 64},
    )
    result = simulate(scenario, reference=reference)
    (finish,) = result.record.requests.column("finish_s")
    np.testing.assert_allclose(np.mean(finish), 2.5, rtol=1e-9)
    np.testing.assert_allclose(np.max(finish), 4.0, rtol=1e-9)


POISSON = {"kind": "poisson", "request_rate_rps": 3.2}
CLIENTS = {"kind": "closed_loop", "max_concurrency": 9, "think_time_s": 1.0, "think": "exponential"}


@pytest.mark.parametrize(
    ("arrivals", "scheduler"), [(POISSON, "fcfs"), (POISSON, "shortest_prompt"), (CLIENTS, "fcfs")]
)
@pytest.mark.parametrize("router", ["round_robin", "least_outstanding", "random"])
def test_continuous_batching_of_one_is_a_station(arrivals: dict, scheduler: str, router: str) -> None:
    """Batches of one request whose prompt is all its work: the book's single servers, to the last request.

    Not shortest first in a closed loop: all clients come at once at time 0, when a station starts with the first that
    it is told of, and an engine with the shortest.
    """
    batching = engine_scenario(
        arrivals,
        {"kind": "geometric", "mean_tokens": 10_000.0},
        1,
        {"kind": "affine", "per_prefill_token_s": 1e-4},
        5_000,
        {"max_num_seqs": 1, "max_num_batched_tokens": 10_000_000, "scheduler": {"kind": scheduler}},
        4,
        {"kind": router},
    )
    pool = batching.pools["pool"].model_copy(
        update={
            "engine": Station(scheduler=kinds("scheduler")[scheduler]()),
            "service_time": PerToken(per_prompt_token_s=1e-4),
        }
    )
    station = batching.model_copy(update={"pools": {"pool": pool}})
    one, other = (
        np.stack(simulate(scenario, 1).record.requests.column("request_id", "first_scheduled_s", "finish_s"))
        for scenario in (batching, station)
    )
    np.testing.assert_allclose(one[:, one[0].argsort()], other[:, other[0].argsort()], rtol=1e-9, atol=1e-9)


def test_a_closed_loop_without_thinking_keeps_its_concurrency() -> None:
    """Five clients at a constant server: once all have come, every response takes five services."""
    pool = {"engine": {"kind": "station"}, "service_time": {"kind": "constant", "mean_s": 0.1}}
    arrivals = {"kind": "closed_loop", "max_concurrency": 5}
    one = {"arrivals": arrivals, "prompt_tokens": 1, "output_tokens": 1}
    workload = {"num_requests": 1000, "classes": {"clients": one}}
    scenario = Scenario.model_validate({"name": "theory", "workload": workload, "pools": {"pool": pool}})
    arrival, finish = simulate(scenario).record.requests.column("arrival_s", "finish_s")
    np.testing.assert_allclose(finish[5:] - arrival[5:], 0.5, rtol=1e-9)
