"""Laws of whole numbers of at least 1 other than token counts: requests of a burst, turns of a session."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field

from servesim.registry import Kind, KindSpec, ShortForm
from servesim.workload.base import IntArray

MAX_COUNT = 1_000_000
"""The largest count accepted: bursts and sessions are held in memory."""

WholeCount = Annotated[int, Field(ge=1, le=MAX_COUNT)]


class Count(KindSpec):
    """The law of a whole number of at least 1."""

    @abstractmethod
    def draw(self, rng: np.random.Generator, n: int) -> IntArray:
        """Return `n` independent counts, each from 1 to MAX_COUNT, shape (n,)."""


def _plain_number_is_fixed(value: Any) -> Any:
    """Let `size: 5` stand for `{kind: fixed, count: 5}`."""
    return {"kind": "fixed", "count": value} if isinstance(value, int) and not isinstance(value, bool) else value


CountField = Annotated[
    Count,
    Kind("count"),
    BeforeValidator(_plain_number_is_fixed),
    ShortForm({"type": "integer", "minimum": 1, "description": "exactly so many"}),
]
"""A field that holds any registered law of counts, or a plain number."""
