"""Batches of a language model that are generated as a whole, every member waiting for the longest."""

from __future__ import annotations

from math import isinf

from servesim.service_time.base import BatchTime, IterationTime, Validity


class WholeBatch(BatchTime):
    """All prompts, padded to the longest, prefilled in one iteration; then as many decode iterations as the longest
    output needs, all places kept to the end.

    Static batching of serving systems before iteration-level scheduling (Yu et al., "Orca", OSDI 2022, section 2).
    """

    pads_prompts = True
    pads_outputs = True

    def __init__(self, iterations: IterationTime) -> None:
        self._iterations = iterations
        self.origin = iterations.origin
        known = iterations.validity
        self.validity = Validity(max_prefill_tokens=known.max_prefill_tokens, max_batch_size=known.max_decode_seqs)

    def batch_s(self, batch_size: int, prompt_tokens: int, output_tokens: int) -> float:
        """Return the prefill and the decode iterations of `batch_size` sequences of these lengths."""
        pairs = batch_size * (prompt_tokens * (prompt_tokens + 1) // 2)
        prefill_s = self._iterations.mixed_s(0, 0, batch_size, batch_size * prompt_tokens, pairs)
        return prefill_s + self._decode_s(batch_size, prompt_tokens, output_tokens - 1)

    def _decode_s(self, batch_size: int, prompt_tokens: int, steps: int) -> float:
        """Return the sum over `steps` iterations, from the straight pieces of the time over the summed context."""
        seconds, done = 0.0, 0
        while done < steps:
            context = batch_size * (prompt_tokens + done)
            base_s, slope_s, limit = self._iterations.decode_line(batch_size, context)
            count = steps - done
            if not isinf(limit):
                count = min(count, max(int((limit - context) // batch_size) + 1, 1))
            seconds += count * (base_s + slope_s * (context + 0.5 * batch_size * (count - 1)))
            done += count
        return seconds
