"""A cumulative distribution of whole tokens, given at a few points."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, Field, Strict

from servesim.workload.base import MAX_TOKENS, FloatArray, IntArray

# A YAML sequence arrives as a list; what is inside stays strict.
CdfPoint = Annotated[
    tuple[Annotated[int, Field(ge=0, le=MAX_TOKENS)], Annotated[float, Field(ge=0, le=1)]], Strict(False)
]


def _check(points: tuple[CdfPoint, ...]) -> tuple[CdfPoint, ...]:
    tokens, probabilities = zip(*points, strict=True)
    if probabilities[0] != 0 or probabilities[-1] != 1:
        raise ValueError("the first point's probability must be 0 and the last one's 1")
    if any(after <= before for before, after in pairwise(tokens)):
        raise ValueError("the points' tokens must increase")
    if any(after < before for before, after in pairwise(probabilities)):
        raise ValueError("the points' probabilities must not decrease")
    return points


TokenCdf = Annotated[
    tuple[CdfPoint, ...],
    Strict(False),
    Field(min_length=2, description="Points [tokens, P(count <= tokens)], from probability 0 to probability 1."),
    AfterValidator(_check),
]
"""Points [t, P(T <= t)]. Between two points the probability is spread evenly over the whole tokens t0+1 .. t1, so an
atom at t is written [t-1, p], [t, q], and the first point lies one token below the smallest count."""


def cdf_arrays(points: TokenCdf) -> tuple[IntArray, FloatArray]:
    """Return the points' tokens and probabilities, each of shape (len(points),)."""
    tokens, probabilities = zip(*points, strict=True)
    return np.array(tokens, dtype=np.int64), np.array(probabilities, dtype=np.float64)


def inverse_cdf(points: TokenCdf, uniform: FloatArray) -> IntArray:
    """Return the smallest count t with P(T <= t) > u for every u in [0, 1) of `uniform`, in its shape.

    Plain arithmetic, one operation at a time: the same on every machine.
    """
    tokens, probabilities = cdf_arrays(points)
    segment = np.searchsorted(probabilities, uniform, side="right") - 1
    low, below = tokens[segment], probabilities[segment]
    width = tokens[segment + 1] - low
    step = np.floor((uniform - below) / (probabilities[segment + 1] - below) * width).astype(np.int64)
    counts: IntArray = low + 1 + np.minimum(step, width - 1)
    return counts


def cdf_mean_tokens(points: TokenCdf) -> float:
    """Return the exact mean: each segment's probability times the middle of its whole tokens."""
    tokens, probabilities = cdf_arrays(points)
    return float(np.sum(np.diff(probabilities) * (tokens[:-1] + 1 + tokens[1:]) / 2))
