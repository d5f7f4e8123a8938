"""Lengths observed in any log of requests."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from servesim.errors import InputError, Problem
from servesim.registry import register
from servesim.workload.base import IntArray, JointLengths
from servesim.workload.logs.log_file import LogFile


@register("joint_length")
class LogLengths(LogFile, JointLengths):
    """Pairs of prompt and output tokens drawn with replacement from a log's requests, whenever they came.

    Requests that generated no token, failed ones among them, are left out. ShareGPT's counts are estimates: characters
    divided by four, of the first exchange of each conversation.
    """

    kind: Literal["log"] = "log"
    max_requests: Annotated[int, Field(ge=1, description="Take the log's first so many requests.")] | None = None

    @cached_property
    def _pairs(self) -> tuple[IntArray, IntArray]:
        prompts, outputs, left = [], [], self.max_requests
        for rows in self.batches():
            served = np.flatnonzero(rows.output_tokens)[:left]
            prompts.append(rows.prompt_tokens[served])
            outputs.append(rows.output_tokens[served])
            if left is not None:
                left -= len(served)
                if left == 0:
                    break
        if not sum(map(len, prompts)):
            raise InputError(Problem("the log has no request with output", file=self.path))
        return np.concatenate(prompts), np.concatenate(outputs)

    def draw_pairs(self, rng: np.random.Generator, n: int) -> tuple[IntArray, IntArray]:
        """Return `n` independent (prompt, output) counts, each of shape (n,); raise InputError for a faulty log."""
        prompt, output = self._pairs
        chosen = rng.integers(len(prompt), size=n)
        return prompt[chosen], output[chosen]
