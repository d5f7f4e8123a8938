"""Iteration times added up by hand: both engines take theirs from one expression, so it is checked against none."""

from __future__ import annotations

import numpy as np
import pytest

from servesim.engine.continuous import ContinuousEngine
from servesim.engine.reference import ReferenceEngine
from servesim.engine.settings import EngineSettings
from tests.engine.harness import BentTimes, Job, play

TIMES = BentTimes(base_s=0.01, per_seq_s=0.002, per_token_s=0.0001, slope_s=1e-5, pair_s=1e-7)
HOST_S, HOST_PER_SEQ_S = 0.03, 0.001


def by_hand(jobs: list[Job], ahead: bool) -> list[float]:
    """Return each job's end if all are prefilled together at t = 0 and decode without anybody joining."""
    prefill_s = TIMES.mixed_s(
        0,
        0,
        len(jobs),
        sum(j.prompt_tokens for j in jobs),
        sum(j.prompt_tokens * (j.prompt_tokens + 1) // 2 for j in jobs),
    )
    now = prefill_s + HOST_S + HOST_PER_SEQ_S * len(jobs)  # nothing hides the host's work after an idle spell
    tokens = [1] * len(jobs)
    ends = [now if j.output_tokens == 1 else 0.0 for j in jobs]
    while live := [i for i, j in enumerate(jobs) if tokens[i] < j.output_tokens]:
        context = sum(jobs[i].prompt_tokens + tokens[i] - 1 for i in live)
        base, slope, _ = TIMES.decode_line(len(live), context)
        device, host = base + slope * context, HOST_S + HOST_PER_SEQ_S * len(live)
        now += max(device, host) if ahead else device + host
        for i in live:
            tokens[i] += 1
            if tokens[i] == jobs[i].output_tokens:
                ends[i] = now
    return ends


@pytest.mark.parametrize("engine", [ContinuousEngine, ReferenceEngine])
@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("prompt", [10, 3000])
def test_every_iteration_takes_what_its_parts_say(engine: type, ahead: bool, prompt: int) -> None:
    """Short contexts leave the device waiting for the host, long ones the host for the device."""
    jobs = [Job(0.0, prompt + 7 * i, outputs) for i, outputs in enumerate((1, 40, 90, 90, 200))]
    settings = EngineSettings(
        max_num_seqs=8,
        max_num_batched_tokens=100_000,
        async_scheduling=ahead,
        host_time_s=HOST_S,
        host_time_per_seq_s=HOST_PER_SEQ_S,
    )
    outcome = play(engine, jobs, settings, TIMES)
    np.testing.assert_allclose(outcome.requests["finish_s"], by_hand(jobs, ahead), rtol=1e-12)


@pytest.mark.parametrize("start_s", [0.0, 1e3, 1e6])
def test_naive_addition_differs_by_rounding_only(start_s: float) -> None:
    """The closed form of a run against adding 20,000 iterations one by one."""
    outcome = play(ContinuousEngine, [Job(start_s, 5, 20_001)], EngineSettings(), TIMES)
    now = start_s + TIMES.mixed_s(0, 0, 1, 5, 15)
    for context in range(5, 20_005):
        base, slope, _ = TIMES.decode_line(1, context)
        now += base + slope * context
    assert outcome.requests["finish_s"][0] == pytest.approx(now, rel=1e-12, abs=1e-12 * 20_000)


def test_admission_latency_comes_before_the_queue_and_stalls_nobody() -> None:
    settings = EngineSettings(admission_time_s=0.5, admission_time_per_token_s=0.001)
    both = play(ContinuousEngine, [Job(0.0, 100, 50), Job(0.1, 10, 5)], settings, TIMES)
    np.testing.assert_allclose(both.requests["admission_s"], [0.6, 0.51])
    np.testing.assert_allclose(both.requests["first_scheduled_s"][0], 0.6)
    alone = play(ContinuousEngine, [Job(0.0, 100, 50)], settings, TIMES)
    assert both.requests["first_token_s"][0] == alone.requests["first_token_s"][0]
