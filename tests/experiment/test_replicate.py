"""Replications: seeds that can be used again, the same bytes however they were made, and what they say together."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from servesim import Scenario, load, simulate
from servesim.errors import InputError
from servesim.experiment.paired import paired
from servesim.experiment.precision import replicate_until, stopping_warning
from servesim.experiment.replicate import Replications, replicate
from servesim.experiment.seeds import replication_seeds
from servesim.metrics.intervals import across_replications
from tests.data import ROOT
from tests.theory.queues import exponential_service, station

POISSON = {"kind": "poisson", "request_rate_rps": 0.7}


def queue(num_requests: int = 2000, **changes: Any) -> Scenario:
    return station(POISSON, exponential_service(1.0), num_requests, **changes)


@pytest.fixture(scope="module")
def five() -> Replications:
    return replicate(queue(slo={"e2e_s": 5.0, "attainment": 0.5}), 5, seed=9)


def test_seeds_are_numpys_spawned_children() -> None:
    """The row seed of the theory book."""
    seeds = replication_seeds(12345, 3)
    assert seeds[0] == 12345
    assert seeds[2] == 642571064 == int(np.random.SeedSequence(12345).spawn(3)[2].generate_state(1)[0])
    many = replication_seeds(7, 500)
    assert many[:3] == replication_seeds(7, 3)
    assert len(set(many)) == 500


def test_a_seed_gives_that_replication_again(five: Replications) -> None:
    assert five.seeds == replication_seeds(9, 5)
    for number in (0, 3):
        again = simulate(five.scenario, five.seeds[number])
        assert again.numbers == five.summaries[number]
    pd.testing.assert_frame_equal(five.result(3).requests, again.requests)
    with pytest.raises(InputError, match="no replication 5"):
        five.result(5)


def test_counts_are_totals_and_numbers_are_means(five: Replications) -> None:
    summary, each = five.summary["classes"]["all"], [one["classes"]["all"] for one in five.summaries]
    assert summary["offered"] == sum(one["offered"] for one in each)
    assert summary["e2e_s"]["mean"] == pytest.approx(np.mean([one["e2e_s"]["mean"] for one in each]))
    assert five.summary["replications"] == {"number": 5, "seeds": five.seeds}
    interval = five.summary["intervals"]["classes"]["all"]["e2e_s"]["mean"]
    plain = across_replications([one["e2e_s"]["mean"] for one in each])
    assert interval["low"] == plain.low
    assert plain.high < interval["high"] < plain.high + 0.3 * plain.half_width  # about 250 independent observations
    assert summary["slo_met"] is (summary["slo_attainment"] >= 0.5)
    busy = five.summary["intervals"]["pools"]["pool"]["utilisation"]
    assert busy["low"] < 0.7 < busy["high"]
    json.dumps(five.summary, allow_nan=False)


def test_thin_tails_have_no_interval(five: Replications) -> None:
    tail = five.summary["intervals"]["classes"]["all"]["e2e_s"]["p99"]
    assert "low" not in tail
    assert "beyond it" in tail["reason"]


def test_what_is_not_random_has_no_interval() -> None:
    fixed = station({"kind": "constant", "request_rate_rps": 0.5}, {"kind": "constant", "mean_s": 1.0}, 200)
    found = replicate(fixed, 3).summary["intervals"]["classes"]["all"]
    assert "the same in all" in found["e2e_s"]["mean"]["reason"]


def test_an_overloaded_system_has_no_interval() -> None:
    flooded = station({"kind": "poisson", "request_rate_rps": 1.5}, exponential_service(1.0), 3000)
    many = replicate(flooded, 3)
    assert many.overloaded
    assert "overloaded in 3 of 3" in many.summary["intervals"]["classes"]["all"]["e2e_s"]["mean"]["reason"]
    one = simulate(flooded).summary["intervals"]
    assert "overloaded" in one["classes"]["all"]["e2e_s"]["mean"]["reason"]


def test_one_run_has_intervals_where_they_can_be_trusted() -> None:
    found = simulate(queue(40_000)).summary["intervals"]["classes"]["all"]
    value = simulate(queue(40_000)).numbers["classes"]["all"]
    for path in (("e2e_s", "mean"), ("e2e_s", "p90"), ("request_throughput_rps",)):
        interval, number = found, value
        for step in path:
            interval, number = interval[step], number[step]
        assert interval["low"] < number < interval["high"]
    assert found["e2e_s"]["mean"]["low"] < 1 / 0.3 < found["e2e_s"]["mean"]["high"]
    assert "goodput_rps" not in found
    short = simulate(queue(300)).summary["intervals"]["classes"]["all"]
    assert "reason" in short["e2e_s"]["p99"]


def test_a_burst_has_no_steady_state_to_sample() -> None:
    burst = station({"kind": "all_at_once"}, exponential_service(1.0), 2000)
    summary = simulate(burst).summary
    assert summary["measurement"]["left_out"] == 0
    assert "all_at_once" in summary["intervals"]["classes"]["all"]["e2e_s"]["mean"]["reason"]


def test_workers_and_hash_seeds_change_no_byte(tmp_path: Path) -> None:
    file, short = ROOT / "scenarios" / "chat-llama31-8b-a100.yaml", "workload.duration_s=60"
    for name, workers, hash_seed in (("a", 1, "0"), ("b", 2, "77")):
        command = [sys.executable, "-m", "servesim", "run", str(file), "--set", short, "--replications", "3"]
        command += ["--workers", str(workers), "-o", str(tmp_path / name), "--quiet"]
        done = subprocess.run(
            command,
            env={"PYTHONHASHSEED": hash_seed, "PATH": ""},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert "summary.json" in names
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    table = pd.read_parquet(tmp_path / "a" / "requests.parquet")
    assert len(table) == len(simulate(load(file, [short])).requests)


def test_replicating_stops_at_the_precision() -> None:
    wide = replicate_until(queue(), 0.9, metrics=["e2e_s.mean"])
    assert len(wide) == 10
    assert wide.stopping is not None
    assert wide.stopping["reached"]
    found = replicate_until(queue(), 0.04, metrics=["e2e_s.mean", "request_throughput_rps"])
    assert 10 < len(found) < 200
    assert found.stopping is not None
    assert found.stopping["last"] == "e2e_s.mean"
    interval = found.summary["intervals"]["classes"]["all"]["e2e_s"]["mean"]
    assert interval["half_width"] <= 0.04 * found.summary["classes"]["all"]["e2e_s"]["mean"]
    before = across_replications([one["classes"]["all"]["e2e_s"]["mean"] for one in found.summaries[:-1]])
    assert before.relative_half_width > 0.04
    assert stopping_warning(found) is None


def test_a_maximum_that_stops_it_is_said() -> None:
    found = replicate_until(queue(), 0.001, 12, ["e2e_s.mean", "e2e_s.p99"])
    assert len(found) == 12
    warning = stopping_warning(found)
    assert warning is not None
    assert "e2e_s.mean reached" in warning
    assert "e2e_s.p99 has no interval" in warning


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"precision": 0.1, "metrics": ["e2e_s.p98"]}, r"did you mean"),
        ({"precision": 2.0}, "between 0 and 1"),
        ({"precision": 0.1, "most": 5}, "at least 10"),
        ({"precision": 0.1, "workers": 0}, "workers"),
    ],
)
def test_bad_questions_get_one_clear_message(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replicate_until(queue(20), **arguments)


def test_pairing_reduces_the_variance_between_routers() -> None:
    arrivals = {"kind": "poisson", "request_rate_rps": 3.2}
    routers = ({"kind": "round_robin"}, {"kind": "least_outstanding"})
    a, b = (station(arrivals, exponential_service(1.0), 1500, replicas=4, router=one) for one in routers)
    found = paired(a, b, 12)
    assert found.a.seeds == found.b.seeds
    path = ("classes", "all", "e2e_s", "mean")
    independent = replicate(b, 12, seed=1000)
    apart = [
        y["classes"]["all"]["e2e_s"]["mean"] - x["classes"]["all"]["e2e_s"]["mean"]
        for x, y in zip(found.a.summaries, independent.summaries, strict=True)
    ]
    differences = found.differences(*path)
    assert np.var(differences, ddof=1) < 0.8 * np.var(apart, ddof=1)
    interval = found.interval(*path)
    assert interval.high < 0
    assert interval.value == pytest.approx(math.fsum(differences) / 12)
