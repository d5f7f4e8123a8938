"""Service times that follow from a request's size."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat

from servesim.registry import register
from servesim.request import Request
from servesim.service_time.law import Sampler, ServiceLaw, Stream


@register("service_time")
class PerToken(ServiceLaw):
    """base_s + per_prompt_token_s * prompt + per_output_token_s * output, so that size decides and is known before."""

    kind: Literal["per_token"] = "per_token"
    base_s: NonNegativeFloat = Field(0.0, description="seconds per request")
    per_prompt_token_s: NonNegativeFloat = Field(0.0, description="seconds per prompt token")
    per_output_token_s: NonNegativeFloat = Field(0.0, description="seconds per output token")

    def sampler(self, stream: Stream, class_names: tuple[str, ...]) -> Sampler:
        """Return the sum for the request's tokens."""
        base_s, prompt_s, output_s = self.base_s, self.per_prompt_token_s, self.per_output_token_s

        def work_s(request: Request) -> float:
            return base_s + prompt_s * request.prompt_tokens + output_s * request.output_tokens

        return work_s
