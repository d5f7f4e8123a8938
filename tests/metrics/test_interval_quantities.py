"""An interval is of the very number beside it, whatever the engine and the lives of requests."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from servesim import Scenario, simulate
from servesim.metrics.intervals import run_mean, run_quantile
from servesim.request import ENDS

ONE_TOKEN = {"prompt_tokens": 10, "output_tokens": 1}
EXPONENTIAL = {"kind": "exponential", "mean_s": 1.0}
ENGINES: dict[str, dict[str, Any]] = {
    "station": {"engine": {"kind": "station", "max_in_system": 3}, "service_time": EXPONENTIAL},
    "sharing": {"engine": {"kind": "processor_sharing"}, "service_time": EXPONENTIAL},
    "preemptive": {"engine": {"kind": "preemptive_station", "order": "last_come"}, "service_time": EXPONENTIAL},
    "batches": {
        "engine": {"kind": "request_batching", "batcher": {"kind": "static", "batch_size": 8}},
        "service_time": {"kind": "batch_affine", "base_s": 1.0},
    },
}
RETRY = {"max_attempts": 10, "backoff_s": 5.0, "jitter": "exponential", "multiplier": 1.0}
LIVES: dict[str, dict[str, Any]] = {
    "plain": {},
    "retries": {"retry": RETRY},
    "patience": {"patience": {"mean_s": 4.0}, "retry": {**RETRY, "on": ["abandoned", "rejected"]}},
}


def scenario(pool: dict[str, Any], classes: dict[str, dict[str, Any]], **top: Any) -> Scenario:
    classes = {name: {**ONE_TOKEN, **one} for name, one in classes.items()}
    return Scenario.model_validate({"name": "x", "workload": {"classes": classes}, "pools": {"main": pool}, **top})


def poisson(rate_rps: float, num_requests: int, **more: Any) -> dict[str, Any]:
    return {"arrivals": {"kind": "poisson", "request_rate_rps": rate_rps}, "num_requests": num_requests, **more}


def told(values: dict[str, Any], intervals: dict[str, Any]) -> list[tuple[str, float, dict[str, float]]]:
    """Return (name, value, interval) of every interval that is given."""
    found = []
    for name, interval in intervals.items():
        if "low" in interval:
            found.append((name, values[name], interval))
        elif "reason" not in interval:
            found += [(f"{name}.{kind}", *rest) for kind, *rest in told(values[name], interval)]
    return found


@pytest.mark.parametrize("lives", LIVES)
@pytest.mark.parametrize("engine", ENGINES)
def test_every_interval_holds_the_number_beside_it(engine: str, lives: str) -> None:
    slo = {"e2e_s": 6.0, "attainment": 0.5}
    classes = {name: poisson(0.4, 3000, slo=slo, output_tokens=5, **LIVES[lives]) for name in ("a", "b")}
    summary = simulate(scenario(ENGINES[engine], classes), 1).summary
    for name, one in summary["intervals"]["classes"].items():
        given = told(summary["classes"][name], one)
        least = {"e2e_s.mean", "slo_attainment"} | (
            {"request_throughput_rps", "goodput_rps"} if name == "all" else set()
        )
        assert least <= {number for number, _, _ in given}
        for number, value, interval in given:
            assert 0 <= interval["low"] <= value <= interval["high"] > interval["low"], (name, number)


def test_no_interval_without_a_spread_nor_below_zero() -> None:
    spike = np.zeros(1009)
    spike[3] = 1.0  # in the beginning that does not fill a batch
    assert "no spread" in run_mean(spike).reason
    atom = np.tile([0.0, 0.0, 0.0, 1.0], 1000)
    assert "no spread" in run_quantile(atom, np.sort(atom), 50).reason
    bursts = np.random.default_rng(3).exponential(1.0, 2000) * (np.random.default_rng(4).random(2000) < 0.002)
    found = run_mean(bursts)
    assert not found.reason
    assert found.low == 0.0


def test_a_busy_server_works_at_its_rate_whatever_the_warm_up() -> None:
    loop = {"arrivals": {"kind": "closed_loop", "max_concurrency": 200, "think_time_s": 0.0}, "num_requests": 3000}
    pool = {"engine": {"kind": "station"}, "service_time": {"kind": "constant", "mean_s": 1.0}}
    busy = scenario(pool, {"c": {**loop, "slo": {"e2e_s": 1e6}}}, measurement={"warmup": {"requests": 1000}})
    one = simulate(busy, 1).summary["classes"]["all"]
    for rate in ("request_throughput_rps", "output_throughput_tps", "goodput_rps"):
        assert one[rate] == pytest.approx(1.0, abs=1e-9)


def test_a_class_that_stops_early_is_said_and_has_no_steady_rate() -> None:
    pool = {"engine": {"kind": "station", "servers": 4}, "service_time": {"kind": "exponential", "mean_s": 0.02}}
    classes = {"fast": poisson(100.0, 2000), "slow": poisson(1.0, 2000)}
    summary = simulate(scenario(pool, classes), 1).summary
    assert any("class fast sends its last request" in warning for warning in summary["warnings"])
    assert not any("class slow" in warning for warning in summary["warnings"])
    intervals = summary["intervals"]["classes"]
    assert "stops long before" in intervals["fast"]["request_throughput_rps"]["reason"]
    assert "low" in intervals["slow"]["request_throughput_rps"]


def spiky(**top: Any) -> Scenario:
    slo = {"e2e_s": 0.01, "attainment": 0.99}
    classes = {
        "spike": poisson(20.0, 90, slo=slo),
        "steady": poisson(1.0, 3000, slo={"e2e_s": 5.0, "attainment": 0.9}),
    }
    pool = {"engine": {"kind": "station", "servers": 4}, "service_time": {"kind": "constant", "mean_s": 0.1}}
    return scenario(pool, classes, **top)


def test_auto_takes_no_class_away() -> None:
    summary = simulate(spiky(), 1).summary
    assert summary["measurement"]["left_out"] == 0
    assert "class spike would lose 90 of its 90" in summary["measurement"]["how"]
    assert summary["classes"]["all"]["slo_met"] is summary["classes"]["spike"]["slo_met"] is False


def test_an_objective_without_a_measured_request_is_not_met() -> None:
    summary = simulate(spiky(measurement={"warmup": {"requests": 300}}), 1).summary
    assert summary["classes"]["spike"]["offered"] == 0
    assert summary["classes"]["spike"]["slo_met"] is None
    assert summary["classes"]["steady"]["slo_met"] is True
    assert summary["classes"]["all"]["slo_met"] is False
    assert any("all of its 90 requests came before" in warning for warning in summary["warnings"])


def test_what_is_no_batch_has_no_batch_size() -> None:
    for engine in ("station", "sharing", "preemptive", "batches"):
        pool = simulate(scenario(ENGINES[engine], {"c": poisson(0.4, 100)}), 1).summary["pools"]["main"]
        is_batch = engine == "batches"
        assert (pool["mean_batch_size"] is not None) == (pool["batches_per_s"] is not None) == is_batch


def test_every_end_is_counted() -> None:
    one = simulate(scenario(ENGINES["station"], {"c": poisson(0.9, 500)}), 1).summary["classes"]["all"]
    assert sum(one[end] for end in ENDS) == one["offered"] == 500
