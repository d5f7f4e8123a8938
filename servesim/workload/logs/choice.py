"""Choosing the smallest law that varies as the log does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from servesim.workload.base import FloatArray

_NEARLY = 1.2  # the smallest candidate whose misfit is within this factor of the best one's is taken: fewer numbers
_PLAIN = 1.3  # the plain candidate is taken if the log differs from it hardly more than another draw of it would

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Candidate(Generic[T]):
    """A law, the variances of several draws of it, shape (draws, curves, scales), and how many numbers it has."""

    law: T
    variances: FloatArray
    size: int


def chosen(candidates: Iterable[Candidate[T]], recorded: FloatArray, *, plain: bool = True) -> T:
    """Return the smallest law whose misfit is near the least; `recorded` has shape (curves, scales).

    The misfit is the root mean square of log(ratio of variances), mean of the draws to the log. Where `plain` the
    first candidate is taken at once if it is hardly further off than its own draws are from each other.
    """
    rated: list[tuple[float, Candidate[T]]] = []
    for candidate in candidates:
        drawn = np.log(candidate.variances)
        rated.append((root_mean_square(drawn.mean(axis=0) - np.log(recorded)), candidate))
        if len(rated) == 1 and plain and rated[0][0] <= _PLAIN * _between_draws(drawn):
            return candidate.law
    least = min(misfit for misfit, _ in rated)
    return min((candidate for misfit, candidate in rated if misfit <= _NEARLY * least), key=lambda each: each.size).law


def root_mean_square(values: FloatArray) -> float:
    """Return the root of the mean of the squares."""
    return float(np.sqrt(np.mean(values**2)))


def _between_draws(drawn: FloatArray) -> float:
    """Return the misfit of one draw to the mean of the others, on average."""
    others = (drawn.sum(axis=0) - drawn) / (len(drawn) - 1)
    return float(np.mean([root_mean_square(one - rest) for one, rest in zip(drawn, others, strict=True)]))
