"""What a calibration of single operators leaves out of an iteration, and what it puts in too much."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from servesim.service_time.base import IterationTime


@dataclass(frozen=True, slots=True)
class Adjustment:
    """Corrections of device times, found by comparing whole runs.

    `iteration_s` is added to every iteration (launch gaps; negative where kernels are fused or overlap). What prefill
    adds to an iteration is multiplied by `prefill_factor`, and an iteration with prefill takes no less than
    `prefill_floor_s`: the host launches its kernels one by one, where decoding replays a CUDA graph.

    What the context adds is multiplied by `context_factor`: attention is measured on contexts of one length, and a
    batch waits for its longest. What decoding sequences after the first add, their context apart, is multiplied by
    `batch_factor`: below 1 where requests activate fewer experts than tokens that are dealt out at random.
    """

    iteration_s: float = 0.0
    prefill_factor: float = 1.0
    prefill_floor_s: float = 0.0
    context_factor: float = 1.0
    batch_factor: float = 1.0


# What a correction leaves of a decode iteration of one sequence; results say where it would have left less.
_LEAST_SHARE = 0.25


class AdjustedIterationTime(IterationTime):
    """Times with an `Adjustment`."""

    def __init__(self, times: IterationTime, adjustment: Adjustment) -> None:
        self._times = times
        self._adjustment = adjustment
        self._factor, self._floor_s = adjustment.prefill_factor, adjustment.prefill_floor_s
        self._context_factor = adjustment.context_factor
        base_s, slope_s, _ = times.decode_line(1, 1)
        self._idle_s = base_s + slope_s
        self._extra_s = max(adjustment.iteration_s, (_LEAST_SHARE - 1.0) * self._idle_s)
        self._shifts_s: dict[int, float] = {}
        self.origin = times.origin
        self.validity = times.validity
        self.noise = times.noise
        self.warnings = times.warnings
        if self._extra_s > adjustment.iteration_s:
            self.warnings += (
                f"the correction of {1e3 * adjustment.iteration_s:.3g} ms per iteration is cut to "
                f"{1e3 * self._extra_s:.3g} ms: it takes away {1.0 - _LEAST_SHARE:.0%} of an iteration of one sequence "
                f"({1e3 * self._idle_s:.3g} ms) at the most",
            )

    def decode_line(self, decode_seqs: int, context_tokens: int) -> tuple[float, float, float]:
        """Return the line, shifted and turned; it holds as far."""
        base_s, slope_s, limit = self._times.decode_line(decode_seqs, context_tokens)
        shift_s = self._shifts_s.get(decode_seqs)
        if shift_s is None:
            shift_s = self._shift_s(decode_seqs)
        return self._context_factor * base_s + shift_s, self._context_factor * slope_s, limit

    def _shift_s(self, decode_seqs: int) -> float:
        """Return what comes to the stretched line of a batch, and keep it: hot, and there are few batch sizes."""
        adjustment = self._adjustment
        empty_s = self._times.decode_line(decode_seqs, 1)[0]
        wanted_s = self._idle_s + adjustment.batch_factor * (empty_s - self._idle_s)
        shift_s = wanted_s - adjustment.context_factor * empty_s + self._extra_s
        self._shifts_s[decode_seqs] = shift_s
        return shift_s

    def mixed_s(
        self, decode_seqs: int, context_tokens: int, prefill_seqs: int, prefill_tokens: int, prefill_pairs: int
    ) -> float:
        """Return the seconds with what prefill adds stretched, but at least the floor."""
        seconds = self._times.mixed_s(decode_seqs, context_tokens, prefill_seqs, prefill_tokens, prefill_pairs)
        if decode_seqs:
            base_s, slope_s, _ = self._times.decode_line(decode_seqs, context_tokens)
            decode_s = base_s + slope_s * context_tokens
            base_s, slope_s, _ = self.decode_line(decode_seqs, context_tokens)
            adjusted_s = base_s + slope_s * context_tokens
        else:
            decode_s = self._idle_s
            adjusted_s = decode_s + self._extra_s
        added_s = seconds - decode_s
        return max(adjusted_s + (self._factor * added_s if added_s > 0.0 else added_s), self._floor_s)


class LargestRank(IterationTime):
    """A batch dealt out evenly to `ranks` groups that compute attention apart and wait for each other at the experts.

    An iteration takes as long as its largest group does: ceil(sequences / ranks) sequences with their share of the
    context. A prompt is not split over groups. Source: vLLM, "Data Parallel Deployment" (ranks of a mixture of experts
    run in lockstep); that requests are dealt out evenly is the first-order part.
    """

    def __init__(self, times: IterationTime, ranks: int) -> None:
        self._times = times
        self._ranks = ranks
        self.origin = times.origin
        self.validity = times.validity
        self.noise = times.noise
        self.warnings = times.warnings

    def decode_line(self, decode_seqs: int, context_tokens: int) -> tuple[float, float, float]:
        """Return the line of the largest group over the context of all."""
        seqs = -(-decode_seqs // self._ranks)
        share = seqs / decode_seqs
        base_s, slope_s, limit = self._times.decode_line(seqs, round(context_tokens * share))
        return base_s, slope_s * share, limit if limit == inf else max(limit / share, float(context_tokens))

    def mixed_s(
        self, decode_seqs: int, context_tokens: int, prefill_seqs: int, prefill_tokens: int, prefill_pairs: int
    ) -> float:
        """Return the seconds of the group with the most decoding sequences and the most prompts."""
        ranks = self._ranks
        seqs, prompts = -(-decode_seqs // ranks), -(-prefill_seqs // ranks)
        context = round(context_tokens * seqs / decode_seqs) if decode_seqs else 0
        share = prompts / prefill_seqs
        tokens, pairs = max(1, round(prefill_tokens * share)), max(1, round(prefill_pairs * share))
        return self._times.mixed_s(seqs, context, prompts, tokens, pairs)
