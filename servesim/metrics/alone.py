"""How long a request would compute if it had the device to itself."""

from __future__ import annotations

from math import floor, isinf

import numpy as np
from numpy.typing import NDArray

from servesim.metrics.definitions import Floats
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
