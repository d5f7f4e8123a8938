"""Iteration times of another model, all times a factor: what an error of that model would do."""

from __future__ import annotations

from typing import Literal

from servesim.service_time.base import Deployment, IterationTime, IterationTimeSpec


class StretchedIterationTime(IterationTime):
    """Every iteration `factor` times as long."""

    def __init__(self, times: IterationTime, factor: float) -> None:
        self._times = times
        self._factor = factor
        self.origin = times.origin
        self.validity = times.validity
        self.noise = times.noise
        self.warnings = times.warnings

    def decode_line(self, decode_seqs: int, context_tokens: int) -> tuple[float, float, float]:
        """Return the stretched line; it holds as far."""
        base_s, slope_s, limit = self._times.decode_line(decode_seqs, context_tokens)
        return base_s * self._factor, slope_s * self._factor, limit

    def mixed_s(
        self, decode_seqs: int, context_tokens: int, prefill_seqs: int, prefill_tokens: int, prefill_pairs: int
    ) -> float:
        """Return the stretched seconds."""
        seconds = self._times.mixed_s(decode_seqs, context_tokens, prefill_seqs, prefill_tokens, prefill_pairs)
        return seconds * self._factor


class Stretched(IterationTimeSpec):
    """For what-if questions only: made from a scenario's own service time, not named in scenarios."""

    kind: Literal["stretched"] = "stretched"
    times: IterationTimeSpec
    factor: float

    def build(self, deployment: Deployment) -> StretchedIterationTime:
        """Return the stretched times of `deployment`."""
        return StretchedIterationTime(self.times.build(deployment), self.factor)
