"""Lognormal lengths."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from servesim.registry import register
from servesim.workload.base import MAX_TOKENS, FloatArray, IntArray, Length, Tokens

_MIN_ACCEPTANCE = 0.01


@register("length")
class LognormalLength(Length):
    """A lognormal variable rounded to the nearest token.

    Give its median or its mean; `sigma` is the standard deviation of the logarithm, median = mean * exp(-sigma^2/2).
    Counts outside `min_tokens` .. `max_tokens` move to the nearer bound (`outside: clip`, which piles them up there)
    or are drawn again (`outside: reject`, which truncates the law). Median and mean are those before either.
    """

    kind: Literal["lognormal"] = "lognormal"
    median_tokens: Annotated[float, Field(ge=1, le=MAX_TOKENS)] | None = None
    mean_tokens: Annotated[float, Field(ge=1, le=MAX_TOKENS)] | None = None
    sigma: Annotated[float, Field(ge=0, le=2, description="Standard deviation of the logarithm of the count.")]
    min_tokens: Tokens = 1
    max_tokens: Tokens | None = None
    outside: Annotated[Literal["clip", "reject"], Field(description="What becomes of a count out of bounds.")] = "clip"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.median_tokens is None) == (self.mean_tokens is None):
            raise ValueError("give either median_tokens or mean_tokens")
        if self.max_tokens is not None and self.max_tokens < self.min_tokens:
            raise ValueError(f"max_tokens ({self.max_tokens}) must be at least min_tokens ({self.min_tokens})")
        if self.outside == "reject" and self.acceptance < _MIN_ACCEPTANCE:
            raise ValueError(f"only {self.acceptance:.2g} of the draws lie between min_tokens and max_tokens")
        return self

    @property
    def mu(self) -> float:
        """Mean of the logarithm."""
        if self.median_tokens is not None:
            return math.log(self.median_tokens)
        assert self.mean_tokens is not None
        return math.log(self.mean_tokens) - self.sigma**2 / 2

    @property
    def acceptance(self) -> float:
        """Probability that a draw rounds to a count within the bounds."""
        above_min = self._cdf(self.min_tokens - 0.5)
        return (1.0 if self.max_tokens is None else self._cdf(self.max_tokens + 0.5)) - above_min

    def _cdf(self, tokens: float) -> float:
        if self.sigma == 0:
            return float(math.log(tokens) >= self.mu)
        return math.erfc((self.mu - math.log(tokens)) / (self.sigma * math.sqrt(2))) / 2

    def draw(self, rng: np.random.Generator, n: int) -> IntArray:
        """Return `n` independent counts, shape (n,)."""
        tokens = self._rounded(rng.lognormal(self.mu, self.sigma, n))
        high = np.iinfo(np.int64).max if self.max_tokens is None else self.max_tokens
        if self.outside == "reject":
            while (wrong := np.flatnonzero((tokens < self.min_tokens) | (tokens > high))).size:
                tokens[wrong] = self._rounded(rng.lognormal(self.mu, self.sigma, wrong.size))
        return np.clip(tokens, self.min_tokens, high)

    @staticmethod
    def _rounded(values: FloatArray) -> IntArray:
        return np.floor(values + 0.5).astype(np.int64)
