"""Where a change of latency comes from: the parts of servesim.metrics.split, whose changes sum to it."""

from __future__ import annotations

import math
from typing import Any

from servesim.metrics.contrasts import Values, mean, quantile
from servesim.metrics.split import PARTS

TAIL_SHAPE = "tail_shape_s"
"""What the p99 itself differs by from the mean of the requests at or above it, whose parts are known."""
_HEADS = tuple((latency, kind) for latency in ("ttft_s", "e2e_s") for kind in ("mean", "p99"))


def why_changed(a: list[dict[str, Any]], b: list[dict[str, Any]], level: float) -> dict[str, Any]:
    """Return, for mean and p99 of TTFT and E2E of all classes, the change b - a in seconds and that of each part.

    Each change has its interval, which misses with probability `level`, over paired replications. The parts of a p99
    are those of the requests at or above it, and TAIL_SHAPE. Left out is what some replication does not define.
    """
    found = {}
    for latency, kind in _HEADS:
        ours, theirs = (_parts(side, latency, kind) for side in (a, b))
        if ours is not None and theirs is not None:
            whole, *parts = (_changed(ours[name], theirs[name], level) for name in ours)
            names = list(ours)[1:]
            found[f"{latency}.{kind}"] = {**whole, "parts": dict(zip(names, parts, strict=True))}
    return found


def _parts(summaries: list[dict[str, Any]], latency: str, kind: str) -> dict[str, list[float]] | None:
    """Return the latency (under "") and its parts, each with one value a replication."""
    every = [one["classes"]["all"] for one in summaries]
    whole = [one[latency][kind] for one in every]
    if None in whole:
        return None
    split = [one["split"][latency] if kind == "mean" else one["split"]["p99_tail"][latency] for one in every]
    parts = {part: [one[part] for one in split] for part in PARTS}
    if kind == "mean":
        return {"": whole, **parts}
    shape = [value - math.fsum(one.values()) for value, one in zip(whole, split, strict=True)]
    return {"": whole, **parts, TAIL_SHAPE: shape}


def _changed(a: list[float], b: list[float], level: float) -> dict[str, float | None]:
    change = mean(b) - mean(a)
    found = Values(a, b, paired=True).contrast()
    half = quantile(found.degrees, level / 2) * found.error
    return {"change_s": change, "low_s": found.mean - half, "high_s": found.mean + half}
