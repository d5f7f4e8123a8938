"""Checks that any iteration time must pass."""

from __future__ import annotations

import itertools
import math

from servesim.service_time.base import IterationTime

BATCHES = (1, 2, 3, 8, 31, 32, 64, 100, 256, 300)
CONTEXTS = (0, 1, 511, 4096, 8192, 8193, 32768, 50_000, 131_072, 1_000_000)
PREFILLS = (1, 2, 16, 100, 256, 512, 777, 2048, 8192)
ROUNDING = 1 + 1e-12


def decode_s(time: IterationTime, decode_seqs: int, context_tokens: int) -> float:
    """Return the seconds of a decode-only iteration."""
    base_s, slope_s, limit_tokens = time.decode_line(decode_seqs, context_tokens)
    assert slope_s >= 0
    assert limit_tokens >= context_tokens
    return base_s + slope_s * context_tokens


def check_decode(time: IterationTime) -> None:
    """Positive, non-decreasing in batch and in context."""
    table = [[decode_s(time, b, c) for c in CONTEXTS] for b in BATCHES]
    assert all(0 < value < math.inf for row in table for value in row)
    for row in table:
        assert all(a <= b * ROUNDING for a, b in itertools.pairwise(row))
    for column in zip(*table, strict=True):
        assert all(a <= b * ROUNDING for a, b in itertools.pairwise(column))


def check_lines_meet(time: IterationTime) -> None:
    """Every line holds up to and including its limit, where the next one begins without a jump."""
    for batch in BATCHES:
        context = 0
        for _ in range(50):
            base_s, slope_s, limit = time.decode_line(batch, context)
            if limit == math.inf:
                break
            end = math.floor(limit)
            assert time.decode_line(batch, end) == (base_s, slope_s, limit)
            next_base_s, next_slope_s, next_limit = time.decode_line(batch, end + 1)
            assert next_limit > limit
            here, there = base_s + slope_s * limit, next_base_s + next_slope_s * limit
            assert math.isclose(here, there, rel_tol=1e-9)
            context = end + 1
        else:
            raise AssertionError("a line that bends without end")


def check_mixed(time: IterationTime) -> None:
    """Non-decreasing in each argument, above the decode alone, and close to it for a vanishing prefill."""
    for batch, context in itertools.product((0, 1, 8, 64, 256), (0, 4096, 100_000)):
        here = [time.mixed_s(batch, context, 1, p, p * (p + 1) // 2) for p in PREFILLS]
        assert all(0 < a <= b * ROUNDING for a, b in itertools.pairwise(here))
        assert here[3] <= time.mixed_s(batch, context, 2, 100, 5050) * ROUNDING
        assert here[3] <= time.mixed_s(batch, context, 1, 100, 105_050) * ROUNDING
        assert here[3] <= time.mixed_s(batch + 1, context, 1, 100, 5050) * ROUNDING
        if batch:
            assert here[3] <= time.mixed_s(batch, context + 1000, 1, 100, 5050) * ROUNDING
            assert decode_s(time, batch, context) <= here[0] * ROUNDING
            # One prefill token does at most what one more decoding sequence does, and the start of a prefill.
            assert here[0] <= 1.05 * decode_s(time, batch + 1, context)


def check_alone_is_fastest(time: IterationTime) -> None:
    """A request in a larger batch never finishes an iteration earlier than alone."""
    for context, others in itertools.product((1, 1000, 16_384), (1, 7, 63)):
        assert decode_s(time, 1, context) <= decode_s(time, 1 + others, context * (1 + others)) * ROUNDING


def check(time: IterationTime) -> None:
    """Run all checks."""
    check_decode(time)
    check_lines_meet(time)
    check_mixed(time)
    check_alone_is_fastest(time)
