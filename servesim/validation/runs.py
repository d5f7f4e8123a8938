"""A run as its requests show it, measured or simulated: one row per request, the same form for both."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Run:
    """Requests in order of arrival; arrays of shape (n,), seconds from the first arrival on.

    `ttft_s` and `e2e_s` count from the arrival; NaN where a file does not say. `itl` holds mean, p50, p90 and p99 of
    all token gaps in seconds, pooled; None if they are not known. `cached_tokens` are prompt tokens found in a prefix
    cache at first admission. `timed` is False where the file did not say when requests came; `notes` say what it lacks.
    """

    name: str
    arrival_s: Floats
    prompt_tokens: Ints
    output_tokens: Ints
    ttft_s: Floats
    e2e_s: Floats
    itl: dict[str, float] | None = None
    cached_tokens: Ints | None = None
    timed: bool = True
    notes: tuple[str, ...] = ()

    @property
    def tpot_s(self) -> Floats:
        """(E2E - TTFT) / (output tokens - 1); NaN for fewer than two."""
        gaps = np.where(self.output_tokens > 1, self.output_tokens - 1.0, np.nan)
        return np.asarray((self.e2e_s - self.ttft_s) / gaps, dtype=np.float64)

    @property
    def makespan_s(self) -> float:
        """From the first arrival to the last token."""
        return float(np.nanmax(self.arrival_s + self.e2e_s) - self.arrival_s[0])

    def __len__(self) -> int:
        return len(self.arrival_s)

    def select(self, which: slice | Ints) -> Run:
        """Return some of the requests; pooled token gaps are left out, since they cannot be told apart."""
        parts = {
            name: getattr(self, name)[which]
            for name in ("arrival_s", "prompt_tokens", "output_tokens", "ttft_s", "e2e_s")
        }
        cached = None if self.cached_tokens is None else self.cached_tokens[which]
        return replace(self, **parts, itl=None, cached_tokens=cached)


def in_order_of_arrival(run: Run) -> Run:
    """Return the run sorted by arrival (stable), its first arrival at 0."""
    order = np.argsort(run.arrival_s, kind="stable")
    sorted_run = replace(run.select(order), itl=run.itl)
    return replace(sorted_run, arrival_s=sorted_run.arrival_s - sorted_run.arrival_s[0])


def gap_statistics(gaps_s: Floats) -> dict[str, float] | None:
    """Return mean and percentiles of pooled token gaps; None where there are none."""
    if not len(gaps_s):
        return None
    return {"mean": float(gaps_s.mean()), **{f"p{q}": float(np.quantile(gaps_s, q / 100)) for q in (50, 90, 99)}}
