"""Preempted requests that find their own KV blocks again, as with vLLM's prefix cache."""

from __future__ import annotations

import numpy as np

from servesim.engine.continuous import ContinuousEngine
from servesim.engine.reference import ReferenceEngine
from servesim.engine.resume_cache import ResumeCache
from servesim.engine.settings import EngineSettings
from servesim.request import Request
from tests.engine.harness import BentTimes, Job, play

TIGHT = {"max_num_seqs": 8, "max_num_batched_tokens": 64, "block_size": 4, "num_gpu_blocks": 40}


def request(number: int) -> Request:
    return Request(number, 0, 0.0, 8, 8, 0, done=lambda ended: None)


def test_the_last_blocks_are_taken_first() -> None:
    """Ten free blocks, four of ours behind them: the first ten taken cost nothing, then one block each."""
    cache, ours = ResumeCache(), request(0)
    cache.leave(ours, blocks=4, full_blocks=3)
    assert [cache.found(ours, 14 - taken) for taken in (0, 10, 11, 12, 13, 14)] == [3, 3, 3, 2, 1, 0]


def test_blocks_given_back_later_stand_behind() -> None:
    cache, ours = ResumeCache(), request(0)
    cache.leave(ours, blocks=4, full_blocks=4)
    cache.freed_blocks += 6  # 14 free of which 6 are behind ours
    assert cache.found(ours, 14) == 4
    assert cache.found(ours, 8) == 2


def test_claiming_blocks_does_not_cost_those_before_or_behind() -> None:
    cache, first, second = ResumeCache(), request(0), request(1)
    cache.leave(first, blocks=4, full_blocks=4)
    cache.leave(second, blocks=3, full_blocks=3)  # the queue: 4 of the first, 3 of the second
    cache.claim(second, 3)
    assert cache.found(first, 4) == 4
    assert cache.found(first, 3) == 3


def test_resuming_computes_less_and_both_engines_agree() -> None:
    jobs = [Job(0.0, 20, 40) for _ in range(12)]
    times = BentTimes(per_token_s=0.001)
    computed, finish = {}, {}
    for cached in (False, True):
        settings = EngineSettings(**TIGHT, resume_from_cache=cached)
        span, step = (play(kind, jobs, settings, times) for kind in (ContinuousEngine, ReferenceEngine))
        for name, expected in step.runs[0].items():
            np.testing.assert_array_equal(span.runs[0][name], expected, err_msg=name)
        assert span.requests["preemptions"].sum() > 0
        computed[cached] = span.runs[0]["prefill_tokens"].sum()
        finish[cached] = span.requests["finish_s"].max()
    again = {cached: tokens - 20 * len(jobs) for cached, tokens in computed.items()}
    assert 0 < again[True] < 0.8 * again[False]
    assert finish[True] < finish[False]


def test_what_a_resuming_request_computes_by_hand() -> None:
    """12 blocks. The second request is preempted with 7 full ones, then the first takes 3, which are its last.

    It needs 24 + 5 tokens again and finds 4 blocks of 4: 13 are left to compute.
    """
    settings = EngineSettings(
        max_num_seqs=2, max_num_batched_tokens=64, block_size=4, num_gpu_blocks=1 + 12, resume_from_cache=True
    )
    outcome = play(ContinuousEngine, [Job(0.0, 16, 16), Job(0.0, 24, 8)], settings)
    assert outcome.requests["preemptions"].tolist() == [0, 1]
    assert outcome.runs[0]["prefill_tokens"].tolist() == [40, 0, 0, 13, 0]
