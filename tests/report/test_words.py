"""The sentences say what the figures say."""

import re
from typing import Any

import pytest

from servesim.experiment.result import Result
from servesim.metrics import split
from servesim.report.numbers import change, listed, number, percent, seconds, whole_change
from servesim.report.validation import validation_lines
from servesim.report.why import cause_sentences, change_sentences, with_words

PARTS = dict.fromkeys(split.PARTS, 0.0)
NO_QUEUE = dict.fromkeys(("max_num_batched_tokens", "max_num_seqs", "num_gpu_blocks", "iteration_under_way"), 0.0)


def latency(value_s: float, bottleneck: str, queue: dict[str, float] | None = None, **parts: float) -> dict[str, Any]:
    return {
        "value_s": value_s,
        "requests": 10,
        "parts_s": {**PARTS, **parts},
        "queue_s": {**NO_QUEUE, **(queue or {})},
        "bottleneck": bottleneck,
    }


def test_what_a_latency_is_made_of() -> None:
    why = {
        "p99_ttft": latency(0.8, "num_gpu_blocks", {"num_gpu_blocks": 0.5, "iteration_under_way": 0.21}, queue_s=0.71,
                            own_compute_s=0.27, host_s=0.02),
        "p99_e2e": latency(9.0, "compute", queue_s=0.71, own_compute_s=3.0, interference_s=5.29),
        "time_at_limit": {"main": {"idle": 0.1, "num_gpu_blocks": 0.3, "compute": 0.598, "host": 0.002}},
    }  # fmt: skip
    assert cause_sentences(why) == [
        "p99 TTFT (800 ms): 71 % is waiting in the queue and 27 % is its own computation.",
        "Of that queueing, 70 % is for free KV blocks and 30 % is for the iteration under way to end.",
        "p99 E2E (9.00 s): 59 % is interference from others in the batch, 33 % is its own computation and 8 % is "
        "waiting in the queue.",
        "Pool main spent its time: 60 % computing below every limit, 30 % short of KV blocks and 10 % idle.",
        "Bottleneck of p99 TTFT: KV blocks, of p99 E2E: compute.",
    ]


def figures(ttft: float, e2e: float, gpus: int, **more: Any) -> dict[str, Any]:
    return {"p99_ttft_s": ttft, "p99_e2e_s": e2e, "goodput_rps": 5.0, "gpus": gpus, "goodput_rps_change": 0.0, **more}


def tried(setting: str, ttft: float, e2e: float, gpus: int = 1) -> dict[str, Any]:
    moved = {"p99_ttft_s_change": ttft - 1, "p99_e2e_s_change": e2e / 10 - 1}
    return figures(ttft, e2e, gpus, set=f"pools.main.{setting}", pool="main", **moved)


def changes(*one: dict[str, Any], noise: float = 0.02) -> dict[str, Any]:
    return {
        "requests": 1000,
        "whole_workload": False,
        "base": figures(1.0, 10.0, 1),
        "other_seed": figures(1 + noise, 10.0, 1, p99_ttft_s_change=noise, p99_e2e_s_change=0.0),
        "tried": list(one),
        "skipped": [{"set": "pools.main.engine.scheduler=priority", "pool": "main", "reason": "no reason"}],
    }


def test_what_helps_most_with_and_without_more_gpus() -> None:
    said = change_sentences(
        changes(tried("replicas=2", 0.4, 9.0, 2), tried("engine.max_num_seqs=8", 0.99, 9.95),
                tried("engine.x=1", 0.985, 10.5))
    )  # fmt: skip
    assert said == [
        "p99 TTFT improves most with replicas=2 (1.00 s -> 400 ms, -60.0 %); without more GPUs with x=1 "
        "(1.00 s -> 985 ms, -1.5 %, within chance).",
        "p99 E2E improves most with replicas=2 (10.00 s -> 9.00 s, -10.0 %); without more GPUs by less than 1 %.",
        "Nothing tried improves goodput by 1 % or more.",
        "Verified by running the first 1,000 requests of the workload, again under the same seed with one change at a "
        "time.",
        "Another seed alone changes p99 TTFT by 2.0 %: smaller changes say little.",
        "Not tried: scheduler=priority (no reason).",
    ]


def test_nothing_to_say_about_chance_where_there_is_none() -> None:
    said = change_sentences(changes(tried("engine.x=1", 1.0, 10.0), noise=0.0))
    assert not any("seed alone" in sentence for sentence in said)
    assert "Less than 1 % from x=1." in said


def test_words_go_into_a_copy_of_the_summary(one_pool: Result) -> None:
    said = with_words(one_pool.summary)
    assert "words" not in one_pool.summary["why"]
    assert said["why"]["words"] == cause_sentences(one_pool.summary["why"])
    shares = [int(share) for share in re.findall(r"(\d+) % is", said["why"]["words"][0])]
    assert sum(shares) == pytest.approx(100, abs=6)


def test_validation_says_what_is_measured_assumed_or_left_out(two_pools: Result) -> None:
    lines = validation_lines(two_pools.summary)
    assert lines == [
        "first: service times: given by the scenario (affine), not validated; host time: assumed (2 ms per iteration); "
        "clock: client (network 30 ms, assumed); end-to-end: no validated deployment is near",
        "second: service times: given by the scenario (affine), not validated; host time: left out; "
        "clock: client (network 30 ms, assumed); end-to-end: no validated deployment is near",
    ]


def validation(**pool: Any) -> list[str]:
    found = {"name": "n", "band": None, "host_time": "calibrated", "host_time_s": 0.001, "held_back_error_median": None}
    error = {"nearest": "this deployment", "deployments": ["m on g (vllm)"], "e2e_s": {"median": 0.031, "p90": 0.05}}
    found |= {"held_back_error_p90": None, "end_to_end": error, **pool}
    whole = {"clock": "server", "network_s": 0.0, "end_to_end": error, "pools": {"main": found}}
    return validation_lines({"provenance": {"validation": whole}})


def test_validation_of_calibrations_and_estimates() -> None:
    calibrated = {"service_times": "calibrated", "held_back_error_median": 0.006, "held_back_error_p90": 0.042}
    assert validation(**calibrated) == [
        "service times: calibrated (n), held-back error median 0.6 % and p90 4.2 %; host time: calibrated (1 ms per "
        "iteration); clock: server; end-to-end error, median (p90): E2E 3.1 % (5.0 %), on this deployment: m on g "
        "(vllm)"
    ]
    assert "error unknown" in validation(service_times="calibrated")[0]
    assert "measured / estimated 0.7 to 2.7" in validation(service_times="estimated", band=[0.7, 2.7])[0]
    assert validation_lines({"provenance": {}}) == []


@pytest.mark.parametrize(("text", "expected"), [
    (seconds(0.0012345), "1.23 ms"), (seconds(0.5), "500 ms"), (seconds(1234.5), "1,234.50 s"), (seconds(None), "-"),
    (number(12345.6), "12,346"), (number(0.12345), "0.123"), (number(None), "-"), (percent(0.123), "12.3 %"),
    (change(0.0), "="), (change(-0.1234), "-12.3 %"), (change(None), "-"), (change(1.5), "x 2.5"),
    (whole_change(-0.996), "-99.6 %"), (whole_change(0.004), "0 %"),
    (whole_change(0.126), "+13 %"), (whole_change(0.0), "="), (listed(["a"]), "a"), (listed(["a", "b", "c"]),
                                                                                     "a, b and c"),
])  # fmt: skip
def test_numbers_as_people_read_them(text: str, expected: str) -> None:
    assert text == expected
