"""Why latencies are what they are: what p99 TTFT and p99 E2E are made of, and which limit is behind it."""

from __future__ import annotations

from typing import Any

import numpy as np

from servesim.engine.spec import ContinuousBatching
from servesim.experiment.why_batches import SERVERS, time_by_servers
from servesim.experiment.why_limits import (
    BATCH_LIMITS,
    ITERATION,
    last_tokens_s,
    limits_of,
    slowest,
    time_at_limits,
    waited_for,
)
from servesim.metrics.chunks import named_chunks
from servesim.metrics.record import RunRecord
from servesim.metrics.split import PARTS
from servesim.metrics.warmup import measured
from servesim.scenario.schema import Scenario

LATENCIES = {"p99_ttft": "ttft_s", "p99_e2e": "e2e_s"}
# Which limit a part of a latency is put down to; the queue is put down to what it waited for.
_BEHIND = {
    "network_s": "network",
    "retry_s": "retries",
    "admission_s": "admission",
    "formation_s": "batch_formation",
    "own_compute_s": "compute",
    "interference_s": "compute",
    "preemption_s": "num_gpu_blocks",
    "host_s": "host",
}


def why(record: RunRecord, scenario: Scenario, summary: dict[str, Any]) -> dict[str, Any]:
    """Return the figures behind "why" in the summary (docs/reading-results.md), from a run and its resolved scenario.

    `p99_ttft` and `p99_e2e` describe the completed requests at or above that percentile: the mean seconds of each part,
    what their queueing waited for, and the limit that most of their time is put down to (`bottleneck`). They are None
    where nothing completed. `time_at_limit` has, for each pool, fractions of its replicas' time. Where requests are
    served as a whole, queueing is for a server: one instance, or one place at a station.
    """
    lengths = _lengths(record)
    limits = {
        pool.name: limits_of(pool, engine)
        for pool in record.pools
        if isinstance(engine := scenario.pools[pool.name].engine, ContinuousBatching)
    }
    # Only one-ahead scheduling asks when sequences ended; it is a number per request, so it is not made for nothing.
    ended_s = {
        pool.name: last_tokens_s(record, pool) if limits[pool.name].ahead else [np.empty(0) for _ in pool.replicas]
        for pool in record.pools
        if pool.name in limits
    }
    window = summary["measurement"]
    counted = measured(record, window["left_out"], window["start_s"])
    found: dict[str, Any] = {}
    for name, kind in LATENCIES.items():
        p99 = summary["classes"]["all"][kind]["p99"]
        parts = summary["classes"]["all"]["split"]["p99_tail"][kind]
        if p99 is None:
            found[name] = None
            continue
        waits = slowest(counted, kind, p99)
        count = sum(len(one.replica) for one in waits.values())
        queue = dict.fromkeys((*BATCH_LIMITS, ITERATION), 0.0) if limits else {}
        for pool in record.pools:
            if pool.name in limits and len(waits[pool.name].replica):
                longest = lengths[pool.name][1]
                waited = waited_for(pool, limits[pool.name], ended_s[pool.name], waits[pool.name], longest)
                for limit, seconds in waited.items():
                    queue[limit] += seconds / count
        if len(limits) < len(record.pools):
            queue[SERVERS] = max(0.0, parts["queue_s"] - sum(queue.values()))
        found[name] = {
            "value_s": p99,
            "requests": count,
            "parts_s": dict(parts),
            "queue_s": queue,
            "bottleneck": _bottleneck(parts, queue),
        }
    found["time_at_limit"] = {
        pool.name: time_at_limits(record, pool, limits[pool.name], ended_s[pool.name], lengths[pool.name][0])
        if pool.name in limits
        else time_by_servers(record, pool)
        for pool in record.pools
    }
    return found


def _bottleneck(parts: dict[str, float], queue: dict[str, float]) -> str:
    """Return the limit that the largest share of a latency is put down to."""
    behind: dict[str, float] = {}
    for part in PARTS:
        if part in _BEHIND:
            behind[_BEHIND[part]] = behind.get(_BEHIND[part], 0.0) + parts[part]
    for limit, seconds in queue.items():
        limit = "compute" if limit == ITERATION else limit
        behind[limit] = behind.get(limit, 0.0) + seconds
    return max(behind, key=behind.__getitem__)


def _lengths(record: RunRecord) -> dict[str, tuple[float, float]]:
    """Return the mean prompt and the longest prompt with output, in tokens, of what each pool scheduled."""
    classes = len(record.classes)
    count, total, longest = np.zeros(classes), np.zeros(classes), np.zeros(classes)
    for chunk in named_chunks(record.requests):
        ran = ~np.isnan(chunk["first_scheduled_s"])
        which, prompt = chunk["class_index"][ran].astype(np.int64), chunk["prompt_tokens"][ran]
        count += np.bincount(which, minlength=classes)
        total += np.bincount(which, prompt, minlength=classes)
        np.maximum.at(longest, which, prompt + chunk["output_tokens"][ran])
    pools = np.array([one.pool for one in record.classes])
    found = {}
    for pool in record.pools:
        ours = pools == pool.name
        found[pool.name] = (float(total[ours].sum() / max(count[ours].sum(), 1)), float(longest[ours].max(initial=0)))
    return found
