"""What servers of whole batches can carry, each with a model that must fail. Their latencies are cases of the book."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from servesim import Scenario
from servesim.experiment.result import Result
from tests.theory.queues import Mean, assert_agrees, replicate

pytestmark = pytest.mark.statistical

INOUE = {"kind": "batch_affine", "base_s": 1.8874, "per_item_s": 0.1438}
SEEDS = range(8)


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


def wrong(estimate: Mean, exact: float) -> None:
    """The control: the same judgement refuses a model that is off by one."""
    with pytest.raises(AssertionError):
        assert_agrees(estimate, exact)


UP_TO_8 = {"kind": "take_all", "max_batch_size": 8}
UP_TO_7 = {"kind": "take_all", "max_batch_size": 7}


def test_saturation_throughput() -> None:
    """batch-b8-sat: 8 / t(8) per ms when there is always a full batch."""
    arrivals = {"kind": "all_at_once"}

    def throughput(result: Result) -> float:
        return 80_000 / result.record.end_s

    (rate,) = replicate(scenario(arrivals, 1, INOUE, 80_000, UP_TO_8), [throughput], range(2))
    assert rate.mean == pytest.approx(2.633484758706959, rel=1e-9)
    (slower,) = replicate(scenario(arrivals, 1, INOUE, 80_000, UP_TO_7), [throughput], range(2))
    assert slower.mean != pytest.approx(2.633484758706959, rel=1e-2)


STEP = {"kind": "affine", "base_s": 1.0}
GEOMETRIC = {"kind": "geometric", "mean_tokens": 128.0}
AT_ONCE = {"kind": "all_at_once"}


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
