"""Prompt and output lengths that depend on each other, from a few quantiles."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, Strict, model_validator

from servesim.registry import Spec, register
from servesim.workload.base import IntArray, JointLengths, Tokens
from servesim.workload.cdf import TokenCdf, inverse_cdf


class OutputGivenPrompt(Spec):
    """The output law of the prompts up to `up_to_prompt_tokens` and above the entry before."""

    up_to_prompt_tokens: Tokens
    cdf: TokenCdf


class JointTable(Spec):
    """A prompt distribution, and an output distribution for every range of the prompt.

    Both are cumulative distributions given at points, as in `quantiles`.
    """

    prompt_cdf: TokenCdf
    output: Annotated[
        tuple[OutputGivenPrompt, ...], Strict(False), Field(min_length=1, description="By rising prompt range.")
    ]

    @model_validator(mode="after")
    def _ranges_cover_the_prompts(self) -> Self:
        ends = [entry.up_to_prompt_tokens for entry in self.output]
        if any(after <= before for before, after in pairwise(ends)):
            raise ValueError("up_to_prompt_tokens must increase from one entry to the next")
        longest = self.prompt_cdf[-1][0]
        if ends[-1] < longest:
            raise ValueError(f"the last up_to_prompt_tokens ({ends[-1]}) must reach the longest prompt ({longest})")
        return self

    def draw_pairs(self, rng: np.random.Generator, n: int) -> tuple[IntArray, IntArray]:
        """Return `n` independent (prompt, output) counts, each of shape (n,)."""
        prompt = inverse_cdf(self.prompt_cdf, rng.random(n))
        uniform = rng.random(n)
        output = np.empty(n, dtype=np.int64)
        ranges = np.searchsorted([entry.up_to_prompt_tokens for entry in self.output], prompt)
        for index, entry in enumerate(self.output):
            members = np.flatnonzero(ranges == index)
            output[members] = inverse_cdf(entry.cdf, uniform[members])
        return prompt, output


@register("joint_length")
class JointQuantilesLengths(JointTable, JointLengths):
    """A prompt distribution, and an output distribution for every range of the prompt.

    Both are cumulative distributions given at points, as in `quantiles`.
    """

    kind: Literal["joint_quantiles"] = "joint_quantiles"
