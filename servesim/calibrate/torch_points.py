"""Which iterations and batches to measure: a space-filling design inside the limits of a deployment."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import qmc  # type: ignore[import-untyped]

SMALLEST_TOKENS = 16
_KINDS = ("decode", "prefill", "mixed")
_PROMPTS = (1, 1, 1, 2, 4)  # prompts that share an iteration's prefill: mostly one


@dataclass(frozen=True, slots=True, order=True)
class IterationPoint:
    """One iteration: equal decoding sequences, and equal prompts that each prefill one chunk.

    `decode_context` tokens of every decoding sequence are in the KV cache, and so are `prefill_before` tokens of
    every prompt; a chunk has `prefill_tokens`.
    """

    decode_seqs: int = 0
    decode_context: int = 0
    prefill_seqs: int = 0
    prefill_tokens: int = 0
    prefill_before: int = 0

    @property
    def kind(self) -> str:
        """decode, prefill or mixed."""
        return _KINDS[0] if not self.prefill_seqs else _KINDS[2] if self.decode_seqs else _KINDS[1]

    @property
    def scheduled_tokens(self) -> int:
        """Tokens that pass the layers."""
        return self.decode_seqs + self.prefill_seqs * self.prefill_tokens

    @property
    def kv_tokens(self) -> int:
        """Tokens that the KV cache holds at the end of the iteration."""
        prompts = self.prefill_seqs * (self.prefill_before + self.prefill_tokens)
        return self.decode_seqs * (self.decode_context + 1) + prompts

    @property
    def prefill_pairs(self) -> int:
        """Causal (query, key) pairs of the prefill: chunk * before + chunk * (chunk + 1) / 2 for every prompt."""
        chunk = self.prefill_tokens
        return self.prefill_seqs * (chunk * self.prefill_before + chunk * (chunk + 1) // 2)


@dataclass(frozen=True, slots=True)
class BatchPoint:
    """One batch of whole requests."""

    batch_size: int

    @property
    def kind(self) -> str:
        """Always batch."""
        return "batch"


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest iteration to measure; `kv_tokens` is what the KV cache holds."""

    max_num_seqs: int
    max_context: int
    max_prefill_tokens: int
    kv_tokens: int

    def allow(self, point: IterationPoint) -> bool:
        """Whether the point lies within."""
        return (
            min(point.decode_context, point.prefill_before) >= 0
            and point.decode_seqs <= self.max_num_seqs
            and max(point.decode_context, point.prefill_before + point.prefill_tokens) <= self.max_context
            and point.prefill_seqs * point.prefill_tokens <= self.max_prefill_tokens
            and point.kv_tokens <= self.kv_tokens
        )


def iteration_points(limits: Limits, count: int, seed: int) -> list[IterationPoint]:
    """Return about `count` distinct points in the order in which to measure them, the same for the same seed.

    First the corners of the space and the ladder of batch sizes and chunk lengths between them, then points of a
    Sobol sequence (Sobol, 1967; scrambled) in the logarithms of batch size, context, chunk and tokens before it, a
    third each of decode, prefill and mixed. Each part is shuffled: a design cut short by its budget still covers the
    space, and nothing measured depends on what was measured before it. Points outside `limits` are pulled inside.
    """
    rng = np.random.default_rng(seed)
    frame = [point for point in dict.fromkeys(_frame(limits)) if limits.allow(point)]
    frame = [frame[i] for i in rng.permutation(len(frame))][:count]
    seen = set(frame)
    filling: list[IterationPoint] = []
    draws = qmc.Sobol(d=5, rng=rng).random_base2(max(4, int(np.ceil(np.log2(8 * count)))))
    for i, draw in enumerate(draws):
        if len(frame) + len(filling) >= count:
            break
        point = _inside(_KINDS[i % 3], draw, limits)
        if point is not None and point not in seen:
            seen.add(point)
            filling.append(point)
    return frame + [filling[i] for i in rng.permutation(len(filling))]


def batch_points(max_batch_size: int, seed: int) -> list[BatchPoint]:
    """Return 1, 2, 3, 4, 6, 8, 12, ... up to `max_batch_size`, shuffled."""
    sizes = sorted({size for size in (*_ladder(1, max_batch_size), max_batch_size) if size <= max_batch_size})
    return [BatchPoint(sizes[i]) for i in np.random.default_rng(seed).permutation(len(sizes))]


def _ladder(low: int, high: int) -> list[int]:
    """Return `low`, then twice and three times each power of two of it, up to `high`."""
    steps, step = [], low
    while step <= high:
        steps += [step] + ([step * 3 // 2] if step > 1 and step * 3 // 2 <= high else [])
        step *= 2
    return steps


def _frame(limits: Limits) -> Iterator[IterationPoint]:
    """Yield the corners, and each axis alone."""
    smallest = min(SMALLEST_TOKENS, limits.max_context)
    longest = max(smallest, limits.max_context - 1)
    for seqs in (*_ladder(1, limits.max_num_seqs), limits.max_num_seqs):
        for context in (smallest, min(longest, limits.kv_tokens // seqs - 1)):
            yield IterationPoint(seqs, context)
    most = min(limits.max_prefill_tokens, limits.max_context)
    for tokens in (*_ladder(smallest, most), most):
        yield IterationPoint(0, 0, 1, tokens, 0)
        yield IterationPoint(0, 0, 1, tokens, min(limits.max_context, limits.kv_tokens) - tokens)
    for seqs in {1, limits.max_num_seqs}:
        for context in (smallest, min(longest, (limits.kv_tokens - most) // seqs - 1)):
            for tokens in (smallest, most):
                yield IterationPoint(seqs, context, 1, tokens, 0)


def _inside(kind: str, draw: np.ndarray, limits: Limits) -> IterationPoint | None:
    """Return the point at `draw` of the unit cube, each axis as far as what is left of the limits allows."""
    kv = limits.kv_tokens
    prompts = chunk = before = seqs = context = 0
    if kind != "decode":
        prompts = _PROMPTS[int(draw[4] * len(_PROMPTS))]
        most = min(limits.max_prefill_tokens // prompts, limits.max_context, kv // prompts)
        if most < 1:
            return None
        chunk = _between(min(SMALLEST_TOKENS, most), most, draw[2])
        room = min(limits.max_context, kv // prompts) - chunk
        before = 0 if draw[3] < 0.4 or room < 1 else _between(1, room, (draw[3] - 0.4) / 0.6)
        kv -= prompts * (chunk + before)
    if kind != "prefill":
        seqs = _between(1, min(limits.max_num_seqs, kv // 2), draw[0]) if kv >= 2 else 0
        if not seqs:
            return None
        longest = min(limits.max_context - 1, kv // seqs - 1)
        context = _between(min(SMALLEST_TOKENS, longest), longest, draw[1])
    return IterationPoint(seqs, context, prompts, chunk, before)


def _between(low: int, high: int, share: float) -> int:
    """Return the whole number that lies at `share` of the way from `low` to `high` in the logarithm."""
    return round(math.exp(math.log(low) + share * (math.log(high) - math.log(low)))) if high > low else low
