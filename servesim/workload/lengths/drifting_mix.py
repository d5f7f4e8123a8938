"""Prompt and output lengths whose mix changes along the requests."""

from __future__ import annotations

from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, Strict, model_validator

from servesim.registry import register
from servesim.workload.base import IntArray, JointLengths
from servesim.workload.lengths.joint_quantiles import JointTable

Share = Annotated[float, Field(ge=0, le=1e9)]
Shares = Annotated[tuple[Share, ...], Strict(False)]


@register("joint_length")
class DriftingMixLengths(JointLengths):
    """Several joint tables, mixed in shares that change every `window_requests` requests of the class.

    Keeps what one stationary law loses: spells of long prompts or long outputs, and a mix that drifts. The windows are
    counted in requests, so a load played faster keeps its spells; after the last one the profile begins again. Within a
    window requests are independent: a mixture of laws with piecewise constant weights (for hidden states in general:
    Cappe, Moulines and Ryden, "Inference in Hidden Markov Models", 2005, 1.3; here the states' shares are known).
    """

    kind: Literal["drifting_mix"] = "drifting_mix"
    window_requests: Annotated[int, Field(ge=1, le=10**9, description="Requests of the class in a window.")]
    parts: Annotated[tuple[JointTable, ...], Strict(False), Field(min_length=1, description="The tables mixed.")]
    shares: Annotated[
        tuple[Shares, ...], Strict(False), Field(min_length=1, description="For every window, the weight of each part.")
    ]

    @model_validator(mode="after")
    def _every_window_has_a_mix(self) -> Self:
        for number, row in enumerate(self.shares, 1):
            if len(row) != len(self.parts) or not sum(row) > 0:
                raise ValueError(f"shares: window {number} needs {len(self.parts)} weights, not all 0")
        return self

    def draw_pairs(self, rng: np.random.Generator, n: int) -> tuple[IntArray, IntArray]:
        """Return (prompt, output) counts of the class's first `n` requests, each of shape (n,)."""
        return self.draw_from(rng, 0, n)

    def draw_from(self, rng: np.random.Generator, first: int, n: int) -> tuple[IntArray, IntArray]:
        """Return (prompt, output) counts of requests `first` to `first + n - 1`, each of shape (n,)."""
        cumulative = np.cumsum(self.shares, axis=1)
        window = np.arange(first, first + n) // self.window_requests % len(self.shares)
        level = rng.random(n) * cumulative[window, -1]
        part = np.minimum((cumulative[window] <= level[:, None]).sum(axis=1), len(self.parts) - 1)
        prompt, output = np.empty((2, n), dtype=np.int64)
        for index, table in enumerate(self.parts):
            members = np.flatnonzero(part == index)
            prompt[members], output[members] = table.draw_pairs(rng, len(members))
        return prompt, output
