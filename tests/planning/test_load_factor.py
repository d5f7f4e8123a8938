"""How much load: a load that cannot be served is not taken, however short the run and however long the target."""

import pytest

from servesim.experiment.planning.decide import judge
from servesim.experiment.planning.load_factor import largest_load, scaled_scenario
from servesim.experiment.planning.observe import Laboratory, Observation, Target, observe, targets_of
from servesim.scenario.load import parse
from servesim.scenario.schema import Scenario

CAN_DO_RPS = 10.0
STATION = "{engine: {kind: station}, service_time: {kind: exponential, mean_s: 0.1}}"
ENGINE = "{model: llama-3.1-8b, gpu: h100_sxm, engine: {max_num_seqs: 4}}"


def served(pool: str, slo: str, tokens: int = 1) -> Scenario:
    return parse(f"""
name: short
workload:
  num_requests: 1500
  classes:
    chat:
      arrivals: {{kind: poisson, request_rate_rps: 4}}
      prompt_tokens: {tokens}
      output_tokens: {tokens}
      slo: {slo}
pools:
  main: {pool}
""")


def test_a_target_longer_than_the_run_does_not_let_more_than_can_be_served_pass() -> None:
    scenario = served(STATION, "{e2e_s: 100, attainment: 0.99}")  # 1,500 requests at 30/s last 50 s
    found = largest_load(Laboratory(0), scenario, targets_of(scenario, 0.99), replications=4, precision=0.05)
    assert 0.8 * CAN_DO_RPS < 4 * found.factor < 1.15 * CAN_DO_RPS


def test_a_target_that_no_backlog_touches_ends_at_the_overload() -> None:
    scenario = served(ENGINE, "{tpot_s: 1, attainment: 0.99}", tokens=100)
    found = largest_load(Laboratory(0), scenario, targets_of(scenario, 0.99), replications=2, precision=0.1)
    assert found.overloaded
    assert found.target is None
    full = observe(scaled_scenario(scenario, 20), 0).numbers["classes"]["all"]["request_throughput_rps"]
    assert 0.8 * full < 4 * found.factor < 1.3 * full


@pytest.mark.parametrize(("overloaded", "verdict"), [(0, "meets"), (2, "meets"), (3, "misses"), (4, "misses")])
def test_a_size_that_is_overloaded_in_most_replications_does_not_meet(overloaded: int, verdict: str) -> None:
    seen = [Observation({"chat": 5000}, {"chat": 5000}, {}, {"chat": 1.0}, r < overloaded, {}) for r in range(4)]
    assert judge(seen, (Target("chat", attainment=0.9),), 0.01).verdict == verdict
