"""Two scenarios under the same random numbers: verdicts, when they stop, and parts that sum to the change."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

import servesim
from servesim import Scenario
from servesim.errors import InputError
from servesim.experiment.compare import judged, look_counts
from servesim.report.compare import comparison_warnings, sentences, why_sentences
from servesim.scenario.schema import ClientSpec
from tests.theory.queues import engine_scenario, exponential_service, station

POISSON = {"kind": "poisson", "request_rate_rps": 0.5}


def queue(mean_s: float, num_requests: int = 800, **changes: Any) -> Scenario:
    return station(POISSON, exponential_service(mean_s), num_requests, **changes)


def chat(base_s: float, **engine: Any) -> Scenario:
    times = {"kind": "affine", "base_s": base_s, "per_seq_s": 1e-3}
    arrivals = {"kind": "poisson", "request_rate_rps": 8.0}
    return engine_scenario(arrivals, 64, {"kind": "geometric", "mean_tokens": 20}, times, 400, engine)


def verdicts(found: servesim.Comparison) -> dict[str, str]:
    return {change.metric: change.verdict for change in found.changes}


def test_a_slower_server_is_worse_and_the_faster_one_better() -> None:
    metrics = ["e2e_s.mean", "ttft_s.mean"]
    worse = servesim.compare(queue(1.0), queue(1.1), metrics=metrics)
    better = servesim.compare(queue(1.1), queue(1.0), metrics=metrics)
    assert set(verdicts(worse).values()) == {"worse"}
    assert set(verdicts(better).values()) == {"better"}
    change = worse.changes[0]
    assert change.low is not None
    assert change.high is not None
    exact = (1.1 / 0.45) / (1 / 0.5) - 1
    assert change.low < exact < change.high
    assert len(change.each) == len(worse.a)


def test_more_goodput_is_better() -> None:
    slo = {"slo": {"e2e_s": 2.0}}
    found = servesim.compare(queue(1.2, **slo), queue(0.9, **slo), metrics=["goodput_rps", "slo_attainment"])
    assert set(verdicts(found).values()) == {"better"}


def test_the_same_scenario_is_identical_after_one_look() -> None:
    found = servesim.compare(queue(1.0), queue(1.0), seed=4)
    assert set(verdicts(found).values()) == {"identical"}
    assert len(found.a) == 10
    assert found.summary["why"]["e2e_s.mean"]["change_s"] == 0


def test_a_change_below_the_margin_is_shown_to_be_so() -> None:
    found = servesim.compare(queue(1.0), queue(1.001), metrics=["e2e_s.mean"])
    assert verdicts(found) == {"e2e_s.mean": "practically equal"}
    undecided = servesim.compare(queue(1.0), queue(1.001), metrics=["e2e_s.mean"], margin=1e-5, replications=2)
    assert verdicts(undecided) == {"e2e_s.mean": "no difference shown"}


def test_looks_double_until_decided_or_out_of_replications() -> None:
    assert look_counts(None, 100) == [10, 20, 40, 80, 100]
    assert look_counts(None, 10) == [10]
    assert look_counts(7, 100) == [7]
    ended = []
    gamma = {"kind": "gamma", "request_rate_rps": 0.5, "burstiness": 1.0001}  # nearly the same law, other draws
    found = servesim.compare(
        queue(1.0, 200),
        station(gamma, exponential_service(1.0), 200),
        metrics=["e2e_s.p99"],
        max_replications=20,
        progress=lambda done, of: ended.append((done, of)),
    )
    assert verdicts(found) == {"e2e_s.p99": "no difference shown"}
    assert len(found.a) == len(found.b) == 20
    assert found.level == pytest.approx(0.05 / 2)
    assert ended[-1] == (40, 40)


def test_parts_sum_to_every_change() -> None:
    found = servesim.compare(chat(0.01), chat(0.012, max_num_seqs=8), replications=3)
    why = found.summary["why"]
    assert set(why) == {"ttft_s.mean", "ttft_s.p99", "e2e_s.mean", "e2e_s.p99"}
    for name, whole in why.items():
        parts = [part["change_s"] for part in whole["parts"].values()]
        assert math.fsum(parts) == pytest.approx(whole["change_s"], rel=1e-9, abs=1e-12), name
        assert whole["change_s"] != 0
    latency = found.summary["metrics"]["e2e_s.mean"]
    assert why["e2e_s.mean"]["change_s"] == pytest.approx(latency["b"] - latency["a"])
    assert "tail_shape_s" in why["e2e_s.p99"]["parts"]
    assert "tail_shape_s" not in why["e2e_s.mean"]["parts"]


def test_workers_change_nothing_and_the_summary_is_plain() -> None:
    one, two = (servesim.compare(queue(1.0, 200), queue(1.1, 200), replications=4, workers=n).summary for n in (1, 2))
    assert json.dumps(one, allow_nan=False) == json.dumps(two, allow_nan=False)


def test_what_one_side_does_not_define_is_said_so() -> None:
    wanted = {"tpot_s.mean": ("all", "tpot_s", "mean")}
    ours = [{"classes": {"all": {"tpot_s": {"mean": value}}}} for value in (1.0, 2.0)]
    theirs = [{"classes": {"all": {"tpot_s": {"mean": value}}}} for value in (1.0, None)]
    (one,) = judged(ours, theirs, wanted, 0.02, 0.05)
    assert (one.verdict, one.a, one.b) == ("not defined", 1.5, None)


def test_what_is_not_of_the_same_requests_is_warned_of() -> None:
    ours = queue(1.0, 200)
    alike = servesim.compare(ours, queue(1.1, 200), replications=2).summary
    assert comparison_warnings(alike) == []
    assert "under the same random numbers" in sentences(alike)[0]
    (name, spec), *_ = ours.workload.classes.items()
    renamed = ours.workload.model_copy(update={"classes": {"other": spec}})
    found = servesim.compare(ours, ours.model_copy(update={"workload": renamed}), replications=2).summary
    (said,) = comparison_warnings(found)
    assert said == (
        f"classes are paired by their names: {name} only A and other only B has, with random numbers of its own"
    )
    assert "of other requests in A and in B" in sentences(found)[0]
    small = servesim.compare(chat(0.01), chat(0.01, num_gpu_blocks=3), replications=2).summary
    assert any("A completed 100.0 % of what was offered, B 0.0 %" in one for one in comparison_warnings(small))


def test_no_false_difference_in_more_than_the_level() -> None:
    """Pairs of independent columns of the same law: how often is anything called better or worse?"""
    import numpy as np

    rng, false = np.random.default_rng(8), 0
    wanted = {name: ("all", name, "mean") for name in ("ttft_s", "e2e_s", "queue_s")}
    for _ in range(1000):
        a, b = (
            [{"classes": {"all": {name: {"mean": rng.gamma(20.0)} for name in wanted}}} for _ in range(10)]
            for _ in range(2)
        )
        false += any(one.verdict in ("better", "worse") for one in judged(a, b, wanted, 0.02, 0.05))
    assert false / 1000 <= 0.065


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"margin": 0.0}, "margin: a fraction between 0 and 1"),
        ({"margin": -0.1}, "margin: a fraction between 0 and 1"),
        ({"replications": 1}, "at least 2"),
        ({"max_replications": 5}, "at least 10, not 5"),
        ({"metrics": ["e2e_s.p98"]}, "did you mean e2e_s.p9"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        servesim.compare(queue(1.0, 50), queue(1.0, 50), **options)


def behind_network(one_way_s: float) -> Scenario:
    client = ClientSpec(clock="client", request_network_s=one_way_s, response_network_s=one_way_s)
    return chat(0.01).model_copy(update={"client": client})


@pytest.mark.parametrize(
    ("planted", "latency", "cause"),
    [
        (chat(0.012), "E2E mean", "own compute"),
        (chat(0.01, max_num_seqs=2), "TTFT mean", "queue"),
        (behind_network(0.05), "TTFT p99", "network"),
    ],
)
def test_the_cause_of_a_planted_change_is_named_first(planted: Scenario, latency: str, cause: str) -> None:
    summary = servesim.compare(behind_network(0.0), planted, replications=5).summary
    (sentence,) = [one for one in why_sentences(summary) if one.startswith(latency)]
    assert sentence.split(": ")[1].startswith(cause)


def test_what_may_be_chance_is_not_explained() -> None:
    same = servesim.compare(chat(0.01), chat(0.01), replications=3).summary
    assert {one.split(": ")[1] for one in why_sentences(same)} == {"no change"}
    part = {"change_s": 0.1, "low_s": -0.1, "high_s": 0.3}
    (told,) = why_sentences({"why": {"ttft_s.mean": {**part, "parts": {"queue_s": part}}}})
    assert told == "TTFT mean +100 ms: may be chance"
