"""Runs that show something, made once."""

import pytest

from servesim.experiment.result import Result
from servesim.experiment.simulate import simulate
from servesim.scenario.load import parse

TWO_POOLS = """\
name: two_pools
workload:
  num_requests: 300
  classes:
    chat:
      arrivals: {kind: poisson, request_rate_rps: 12}
      prompt_tokens: {kind: lognormal, median_tokens: 400, sigma: 0.6, max_tokens: 4000}
      output_tokens: {kind: geometric, mean_tokens: 40}
      pool: first
      slo: {ttft_s: 0.5, tpot_s: 0.05, attainment: 0.9}
    report:
      arrivals: {kind: closed_loop, max_concurrency: 12}
      prompt_tokens: 900
      output_tokens: 120
      pool: second
client: {clock: client, request_network_s: 0.01, response_network_s: 0.02}
pools:
  first:
    replicas: 2
    service_time: {kind: affine, base_s: 0.008, per_token_s: 3e-5}
    engine: {admission_time_s: 0.003, host_time_s: 0.002, async_scheduling: false}
  second:
    service_time: {kind: affine, base_s: 0.01, per_token_s: 4e-5}
    engine: {num_gpu_blocks: 300}
"""

ONE_POOL = """\
name: one_pool
workload:
  num_requests: 400
  classes:
    chat:
      arrivals: {kind: poisson, request_rate_rps: 8}
      prompt_tokens: {kind: lognormal, median_tokens: 400, sigma: 0.6, max_tokens: 4000}
      output_tokens: {kind: geometric, mean_tokens: 60}
      slo: {ttft_s: 1.0, attainment: 0.9}
pools:
  main:
    service_time: {kind: affine, base_s: 0.012, per_token_s: 4e-5}
    engine: {max_num_seqs: 64, max_num_batched_tokens: 2048, num_gpu_blocks: 4000}
"""


@pytest.fixture(scope="session")
def two_pools() -> Result:
    return simulate(parse(TWO_POOLS))


@pytest.fixture(scope="session")
def one_pool() -> Result:
    return simulate(parse(ONE_POOL))


@pytest.fixture(scope="session")
def nothing_completed() -> Result:
    """Every request is longer than the model allows."""
    return simulate(parse(ONE_POOL, overrides=["pools.main.engine.max_model_len=2", "workload.num_requests=20"]))
