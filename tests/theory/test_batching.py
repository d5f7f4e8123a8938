"""Batches of whole requests against bulk queues, renewal theory and order statistics; each with a model that must fail.

Times are seconds where the literature has milliseconds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from servesim import Scenario
from servesim.experiment.result import Result
from tests.theory.queues import Mean, assert_agrees, mean_sojourn, replicate

pytestmark = pytest.mark.statistical

INOUE = {"kind": "batch_affine", "base_s": 1.8874, "per_item_s": 0.1438}
UNIT = {"kind": "constant", "mean_s": 1.0}
MARKOV = {"kind": "exponential", "mean_s": 1.0}
SEEDS = range(8)


def bulk(batcher: dict[str, Any], service: dict[str, Any], rate: float, num_requests: int, **engine: Any) -> Scenario:
    """Return Poisson arrivals at one server of batches."""
    return scenario({"kind": "poisson", "request_rate_rps": rate}, 1, service, num_requests, batcher, **engine)


def scenario(
    arrivals: dict[str, Any], output: Any, service: dict[str, Any], count: int, batcher: dict[str, Any], **engine: Any
) -> Scenario:
    one = {"arrivals": arrivals, "prompt_tokens": 1, "output_tokens": output}
    pool = {"engine": {"kind": "request_batching", "batcher": batcher, **engine}, "service_time": service}
    return Scenario.model_validate(
        {
            "name": "bulk",
            "workload": {"num_requests": count, "classes": {"jobs": one}},
            "pools": {"server": pool},
        }
    )


def batches(result: Result) -> np.ndarray:
    """Return the sizes of the batches after a tenth of them."""
    sizes = result.record.pools[0].replicas[0].runs.column("prefill_seqs")[0]
    return sizes[len(sizes) // 10 :]


def mean_batch(result: Result) -> float:
    return float(batches(result).mean())


def wrong(estimate: Mean, exact: float) -> None:
    """The control: the same judgement refuses a model that is off by one."""
    with pytest.raises(AssertionError):
        assert_agrees(estimate, exact)


TAKE_ALL = {"kind": "take_all"}
UP_TO_8 = {"kind": "take_all", "max_batch_size": 8}
UP_TO_7 = {"kind": "take_all", "max_batch_size": 7}


def test_take_all_with_a_linear_batch_time() -> None:
    """inoue-W, -EB, -energy, -bound: lam 2/ms, t(b) = 0.1438 b + 1.8874 ms (Inoue 2021)."""

    def jobs_per_energy(result: Result) -> float:
        sizes = batches(result)
        return float(sizes.sum() / (sizes + 10.0).sum())

    system = bulk(TAKE_ALL, INOUE, 2.0, 60_000)
    wait, size, energy = replicate(system, [mean_sojourn, mean_batch, jobs_per_energy], SEEDS)
    assert_agrees(wait, 4.1514631497045364)
    assert_agrees(size, 5.307342601665553)
    assert_agrees(energy, 0.3467187440547698)
    assert wait.mean <= 4.153341273275832 + 4 * wait.standard_error
    (capped,) = replicate(bulk(UP_TO_7, INOUE, 2.0, 50_000), [mean_sojourn], SEEDS)
    wrong(capped, 4.1514631497045364)
    # A cap hardly changes the mean batch of a server that is always busy; waiting for six does.
    (larger,) = replicate(bulk({**TAKE_ALL, "min_batch_size": 6}, INOUE, 2.0, 50_000), [mean_batch], SEEDS)
    wrong(larger, 5.307342601665553)


def test_take_all_at_low_load() -> None:
    """inoue-low-W, inoue-low-bound: lam 0.2/ms."""
    (wait,) = replicate(bulk(TAKE_ALL, INOUE, 0.2, 30_000), [mean_sojourn], SEEDS)
    assert_agrees(wait, 2.4421807332543106)
    assert wait.mean < 2.46786997898529
    (alone,) = replicate(bulk({"kind": "static", "batch_size": 1}, INOUE, 0.2, 30_000), [mean_sojourn], SEEDS)
    wrong(alone, 2.4421807332543106)


@pytest.mark.parametrize(
    ("batcher", "service", "rate", "exact", "other", "count"),
    [
        pytest.param(UP_TO_8, INOUE, 2.0, 4.306722941107454, UP_TO_7, 40_000, id="batch-b8-W"),
        pytest.param(UP_TO_8, UNIT, 5.0, 1.5316672556952349, UP_TO_7, 60_000, id="bailey-md"),
        pytest.param(
            UP_TO_8, MARKOV, 5.0, 2.6578004035019958, UP_TO_7, 300_000, id="bailey-mm", marks=pytest.mark.slow
        ),
        pytest.param(
            {**UP_TO_8, "min_batch_size": 4}, MARKOV, 5.0, 2.4845567558400576,
            {**UP_TO_8, "min_batch_size": 1}, 200_000, id="neuts-4-8", marks=pytest.mark.slow,
        ),
        pytest.param(
            {"kind": "static", "batch_size": 8}, MARKOV, 5.0, 2.392833602434429,
            {"kind": "static", "batch_size": 7}, 200_000, id="fullbatch-8", marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_bulk_queues(
    batcher: dict[str, Any], service: dict[str, Any], rate: float, exact: float, other: dict[str, Any], count: int
) -> None:
    """Embedded chains at the ends of batches: Bailey 1954, Neuts 1967, Erlang arrivals for full batches."""
    (sojourn,) = replicate(bulk(batcher, service, rate, count), [mean_sojourn], SEEDS)
    assert_agrees(sojourn, exact)
    (control,) = replicate(bulk(other, service, rate, count), [mean_sojourn], SEEDS)
    wrong(control, exact)


def test_saturation_throughput() -> None:
    """batch-b8-sat: 8 / t(8) per ms when there is always a full batch."""
    arrivals = {"kind": "all_at_once"}

    def throughput(result: Result) -> float:
        return 80_000 / result.record.end_s

    (rate,) = replicate(scenario(arrivals, 1, INOUE, 80_000, UP_TO_8), [throughput], range(2))
    assert rate.mean == pytest.approx(2.633484758706959, rel=1e-9)
    (slower,) = replicate(scenario(arrivals, 1, INOUE, 80_000, UP_TO_7), [throughput], range(2))
    assert slower.mean != pytest.approx(2.633484758706959, rel=1e-2)


def test_batches_closed_by_count_or_time() -> None:
    """timeout-EN, timeout-wait, timeout-rate: 200/s, at most 8 or 20 ms after the first, a free server always there."""

    def mean_formation(result: Result) -> float:
        return result.summary["classes"]["all"]["split"]["e2e_s"]["formation_s"]

    def batches_per_s(result: Result) -> float:
        return result.summary["pools"]["server"]["batches_per_s"]

    measures = [mean_batch, mean_formation, batches_per_s]
    trivial = {"kind": "constant", "mean_s": 1e-6}
    batcher = {"kind": "timeout", "max_batch_size": 8, "timeout_s": 0.02}
    size, formation, rate = replicate(bulk(batcher, trivial, 200.0, 40_000, instances="unlimited"), measures, SEEDS)
    assert_agrees(size, 4.915239396939636)
    assert_agrees(formation, 0.0114644349081448)
    assert_agrees(rate, 40.6897780247541)
    batcher["max_batch_size"] = 7
    size, formation, rate = replicate(bulk(batcher, trivial, 200.0, 40_000, instances="unlimited"), measures, SEEDS)
    wrong(size, 4.915239396939636)
    wrong(formation, 0.0114644349081448)
    wrong(rate, 40.6897780247541)


STEP = {"kind": "affine", "base_s": 1.0}
GEOMETRIC = {"kind": "geometric", "mean_tokens": 128.0}
AT_ONCE = {"kind": "all_at_once"}


def steps_per_batch(result: Result) -> float:
    return float(result.record.pools[0].replicas[0].runs.column("first_s")[0].mean())


def test_a_static_batch_waits_for_its_longest() -> None:
    """static-max: the mean of the largest of 32 geometric lengths; the engine's first step yields the first token."""
    count = 32 * 1000
    (steps,) = replicate(
        scenario(AT_ONCE, GEOMETRIC, STEP, count, {"kind": "static", "batch_size": 32}), [steps_per_batch], SEEDS
    )
    assert_agrees(steps, 517.9554847960391)
    (fewer,) = replicate(
        scenario(AT_ONCE, GEOMETRIC, STEP, count, {"kind": "static", "batch_size": 28}), [steps_per_batch], SEEDS
    )
    wrong(fewer, 517.9554847960391)


def test_continuous_over_static_throughput() -> None:
    """static-eff: E[longest] / E[length], both engines with equal iterations and always a full batch."""
    count = 32 * 1500

    def settled_rate(result: Result) -> float:
        """Completions per second between a tenth and four fifths of them: neither filling nor draining."""
        finish = np.sort(result.record.requests.column("finish_s")[0])
        first, last = len(finish) // 10, 4 * len(finish) // 5
        return float((last - first) / (finish[last] - finish[first]))

    static = scenario(AT_ONCE, GEOMETRIC, STEP, count, {"kind": "static", "batch_size": 32})
    (slow,) = replicate(static, [lambda r: 1 / settled_rate(r)], SEEDS)

    def ratio(places: int) -> Mean:
        data = static.model_dump()
        data["pools"]["server"]["engine"] = {
            "kind": "continuous", "max_num_seqs": places, "async_scheduling": False, "num_gpu_blocks": "unlimited",
        }  # fmt: skip
        (fast,) = replicate(Scenario.model_validate(data), [settled_rate], SEEDS)
        mean = slow.mean * fast.mean
        return Mean(mean, float(mean * np.hypot(slow.half_width(), fast.half_width()) / 1.96))

    assert_agrees(ratio(32), 4.046527224969055)
    wrong(ratio(28), 4.046527224969055)
