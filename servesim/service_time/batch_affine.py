"""Batch time as a straight line in the size of the batch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat

from servesim.registry import register
from servesim.service_time.base import BatchTime, BatchTimeSpec, Deployment, Origin


class AffineBatchTime(BatchTime):
    """See `BatchAffine`."""

    origin = Origin("batch_affine", measured=False, note="coefficients given in the scenario")

    def __init__(self, spec: BatchAffine) -> None:
        self._base_s = spec.base_s
        self._per_item_s = spec.per_item_s
        self._per_prompt_token_s = spec.per_prompt_token_s
        self.pads_prompts = spec.per_prompt_token_s > 0

    def batch_s(self, batch_size: int, prompt_tokens: int, output_tokens: int) -> float:
        """Return the sum of all terms."""
        return self._base_s + batch_size * (self._per_item_s + self._per_prompt_token_s * prompt_tokens)


@register("service_time")
class BatchAffine(BatchTimeSpec):
    """Time of a batch: base_s + batch size * (per_item_s + per_prompt_token_s * longest prompt in the batch).

    Without the last term this is t(b) = alpha b + tau0 of Inoue, "Queueing analysis of GPU-based inference servers with
    dynamic batching: a closed-form characterization", Performance Evaluation 147 (2021).
    """

    kind: Literal["batch_affine"] = "batch_affine"
    base_s: NonNegativeFloat = Field(0.0, description="seconds per batch, whatever its size")
    per_item_s: NonNegativeFloat = Field(0.0, description="seconds per request in the batch")
    per_prompt_token_s: NonNegativeFloat = Field(
        0.0, description="seconds per prompt token, all prompts padded to the longest"
    )

    def build(self, deployment: Deployment) -> AffineBatchTime:
        """Return the model; the deployment does not matter to it."""
        return AffineBatchTime(self)
