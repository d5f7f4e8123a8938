"""How long a request would compute if it had the device to itself."""

from __future__ import annotations

from math import floor, isinf

import numpy as np
from numpy.typing import NDArray

from servesim.metrics.chunks import Columns, named_chunks
from servesim.metrics.definitions import Floats
from servesim.metrics.record import Own, PoolRecord
from servesim.service_time.base import IterationTime

Ints = NDArray[np.int64]


class Alone:
    """Device seconds of one request without company on one replica of a pool; remembers what it worked out."""

    def __init__(self, times: IterationTime, max_num_batched_tokens: int) -> None:
        self._times = times
        self._budget = max_num_batched_tokens
        self._full_chunks_s = [0.0]
        self._prefill_s = np.full(1, np.nan)
        self._decode = _DecodeSum(times)

    def prefill_s(self, prompt_tokens: Ints) -> Floats:
        """Return the seconds of prefilling prompts of these lengths, shape (n,), in chunks of the token budget."""
        longest = int(prompt_tokens.max(initial=0))
        if longest >= len(self._prefill_s):
            grown = np.full(max(longest + 1, 2 * len(self._prefill_s)), np.nan)
            grown[: len(self._prefill_s)] = self._prefill_s
            self._prefill_s = grown
        seconds = self._prefill_s[prompt_tokens]
        unknown = np.isnan(seconds)
        if unknown.any():
            for tokens in np.unique(prompt_tokens[unknown]).tolist():
                self._prefill_s[tokens] = self._one_prefill_s(tokens)
            seconds = self._prefill_s[prompt_tokens]
        return seconds

    def _one_prefill_s(self, tokens: int) -> float:
        full, rest = divmod(tokens, self._budget)
        known = self._full_chunks_s
        while len(known) <= full:
            known.append(known[-1] + self._chunk_s((len(known) - 1) * self._budget, self._budget))
        return known[full] + (self._chunk_s(full * self._budget, rest) if rest else 0.0)

    def _chunk_s(self, computed: int, tokens: int) -> float:
        return self._times.mixed_s(0, 0, 1, tokens, tokens * computed + tokens * (tokens + 1) // 2)

    def decode_s(self, context_tokens: Ints, steps: Ints) -> Floats:
        """Return the seconds of `steps` decode iterations, the first with `context_tokens` computed before it."""
        ends = context_tokens + steps
        self._decode.reach(int(ends.max(initial=0)))
        return self._decode.upto(ends) - self._decode.upto(context_tokens)


class _DecodeSum:
    """Sum over contexts 0..S-1 of a lone decode iteration's seconds, from the straight pieces of `decode_line`."""

    def __init__(self, times: IterationTime) -> None:
        self._times = times
        self._starts: list[int] = []
        self._lines: list[tuple[float, float]] = []
        self._end = 0

    def reach(self, context_tokens: int) -> None:
        """Make sure that `upto` knows every context below `context_tokens`."""
        if self._end >= context_tokens and self._lines:
            return
        while self._end < max(context_tokens, 1):
            base, slope, limit = self._times.decode_line(1, self._end)
            self._starts.append(self._end)
            self._lines.append((base, slope))
            self._end = (1 << 62) if isinf(limit) else max(floor(limit), self._end) + 1
        self._first = np.array(self._starts, dtype=np.float64)
        self._base, self._slope = np.array(self._lines).T
        lengths = np.diff(self._first)
        whole = _line_sum(self._base[:-1], self._slope[:-1], self._first[:-1], lengths)
        self._before = np.concatenate([[0.0], np.cumsum(whole)])

    def upto(self, context_tokens: Ints) -> Floats:
        """Return the sum over all contexts below each of `context_tokens`."""
        if len(self._first) == 1:
            return _line_sum(self._base[0], self._slope[0], 0.0, context_tokens)
        piece = np.searchsorted(self._first, context_tokens, side="right") - 1
        first = self._first[piece]
        rest = _line_sum(self._base[piece], self._slope[piece], first, context_tokens - first)
        return self._before[piece] + rest


def _line_sum(base: Floats, slope: Floats, first: Floats | float, count: Floats | Ints) -> Floats:
    """Return the sum of base + slope * S over the `count` whole numbers S from `first` on."""
    return count * (base + slope * (first + 0.5 * (count - 1)))


class AloneInPool:
    """What requests of one pool with continuous batching would have computed alone."""

    def __init__(self, times: IterationTime, max_num_batched_tokens: int, pool: PoolRecord) -> None:
        self._alone = Alone(times, max_num_batched_tokens)
        self._recomputed = _Recomputed(pool)

    def __call__(self, done: Columns) -> Own:
        """Return the device seconds alone of completed requests, given as REQUEST_COLUMNS of shape (n,)."""
        prompt = done["prompt_tokens"].astype(np.int64)
        decode = self._alone.decode_s(prompt, done["output_tokens"].astype(np.int64) - 1)
        preempted = np.flatnonzero(done["preemptions"])
        if len(preempted):
            ids = done["request_id"][preempted]
            decode[preempted] -= self._recomputed.decode_s(self._alone, ids, prompt[preempted])
        return Own(self._alone.prefill_s(prompt), decode)


class _Recomputed:
    """Which decode steps of preempted requests never ran, because the recomputation emitted their token."""

    def __init__(self, pool: PoolRecord) -> None:
        ids, generated = [np.empty(0)], [np.empty(0)]
        for replica in pool.replicas:
            if len(replica.segments):
                upto = np.concatenate([[0], np.cumsum(replica.runs.column("iterations")[0])])
                for chunk in named_chunks(replica.segments):
                    rows = [chunk[name].astype(np.int64) for name in ("first_row", "last_row")]
                    ids.append(chunk["request_id"].copy())
                    generated.append(upto[rows[1]] - upto[rows[0]] + 1)
        # A request stays on its replica, whose segments are in order of time.
        request_id, tokens = np.concatenate(ids), np.concatenate(generated)
        order = np.argsort(request_id, kind="stable")
        self._request_id = request_id[order]
        total = np.cumsum(tokens[order])
        start = np.searchsorted(self._request_id, self._request_id, side="left")
        self._generated = (total - (total - tokens[order])[start]).astype(np.int64)

    def decode_s(self, alone: Alone, request_id: Floats, prompt_tokens: Ints) -> Floats:
        """Return the device seconds alone of the steps that never ran, summed for each of these requests."""
        first = np.searchsorted(self._request_id, request_id, side="left")
        count = np.searchsorted(self._request_id, request_id, side="right") - first
        owner = np.repeat(np.arange(len(first)), count)
        index = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count) + np.repeat(first, count)
        context = prompt_tokens[owner] + self._generated[index] - 1
        seconds = alone.decode_s(context, np.ones(len(context), dtype=np.int64))
        return np.bincount(owner, seconds, minlength=len(first)).astype(np.float64, copy=False)
