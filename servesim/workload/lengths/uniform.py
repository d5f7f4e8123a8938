"""Uniform lengths."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
from pydantic import model_validator

from servesim.registry import register
from servesim.workload.base import IntArray, Length, Tokens


@register("length")
class UniformLength(Length):
    """Every whole number from `min_tokens` to `max_tokens`, both included, equally likely."""

    kind: Literal["uniform"] = "uniform"
    min_tokens: Tokens
    max_tokens: Tokens

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.max_tokens < self.min_tokens:
            raise ValueError(f"max_tokens ({self.max_tokens}) must be at least min_tokens ({self.min_tokens})")
        return self

    def draw(self, rng: np.random.Generator, n: int) -> IntArray:
        """Return `n` independent counts, shape (n,)."""
        return rng.integers(self.min_tokens, self.max_tokens, size=n, endpoint=True)
