"""Which setting would change the latencies most: found by running the scenario again with each change.

All runs have the same seed, hence the same requests at the same times, and the same length: a prefix of the workload
where the whole would take too long. The length depends on counts alone, so that the same scenario gives the same answer
on any machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from servesim.errors import InputError, LimitReached
from servesim.experiment.result import Result
from servesim.experiment.simulate import simulate
from servesim.experiment.why_changes import Change, changes
from servesim.metrics.attempts import logical_chunks
from servesim.metrics.record import RunRecord
from servesim.scenario.schema import Scenario

# 100,000 requests take one core a few seconds; of 1,000 the p99 has ten above it.
REQUESTS_IN_ALL = 100_000
LEAST_REQUESTS = 1_000
MEASURES = ("p99_ttft_s", "p99_e2e_s", "goodput_rps")


def verify(scenario: Scenario, result: Result, progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """Run `scenario`, whose result under its own seed is `result`, with one change at a time.

    `progress(done, of)` is called after each run.

    Returns `requests` (how many each run offered), `whole_workload`, `base` (figures without a change), `other_seed`
    (the same under the next seed: how much chance alone changes), `tried` (each change's figures and relative changes,
    by p99 TTFT, the best first) and `skipped` (with the reason).
    """
    tries = changes(scenario)
    offered = sum(result.record.offered)
    budget = max(LEAST_REQUESTS, REQUESTS_IN_ALL // (2 + sum(change.scenario is not None for change in tries)))
    whole = offered <= budget
    counts = {} if whole else _first_requests(result.record, budget)
    unchanged = _shortened(scenario, counts)
    tell = progress or (lambda done, of: None)
    tell(0, 2 + len(tries))
    base = _figures(result if whole else simulate(unchanged))
    tell(1, 2 + len(tries))
    other_seed = _compared(_figures(simulate(unchanged, seed=scenario.seed + 1)), base)
    tried, skipped = [], []
    for done, change in enumerate(tries, 2):
        tell(done, 2 + len(tries))
        outcome = _try(change, counts)
        if isinstance(outcome, str):
            skipped.append({"set": change.setting, "pool": change.pool, "reason": outcome})
        else:
            tried.append({"set": change.setting, "pool": change.pool, **_compared(outcome, base)})
    tried.sort(key=lambda one: (one["p99_ttft_s"] is None, one["p99_ttft_s"] or 0.0))
    requests = offered if whole else sum(counts.values())
    return {
        "requests": requests,
        "whole_workload": whole,
        "base": base,
        "other_seed": other_seed,
        "tried": tried,
        "skipped": skipped,
    }


def _try(change: Change, counts: dict[str, int]) -> dict[str, Any] | str:
    """Return the figures of a changed run, or why there are none."""
    if change.scenario is None:
        return change.why_not
    try:
        return _figures(simulate(_shortened(change.scenario, counts)))
    except InputError as error:
        return error.problems[0].message
    except LimitReached as error:
        return str(error)


def _figures(result: Result) -> dict[str, Any]:
    summary = result.numbers
    everything, pools = summary["classes"]["all"], summary["pools"].values()
    costs = [pool["cost_usd_per_hour"] for pool in pools]
    return {
        "p99_ttft_s": everything["ttft_s"]["p99"],
        "p99_e2e_s": everything["e2e_s"]["p99"],
        "goodput_rps": everything["goodput_rps"],
        "completed": everything["completed"],
        "offered": everything["offered"],
        "gpus": sum(pool["gpus"] for pool in pools),
        "cost_usd_per_hour": None if None in costs else sum(costs),
        "overloaded": result.overloaded,
    }


def _first_requests(record: RunRecord, count: int) -> dict[str, int]:
    """Return how many requests of each class are among the first `count` to arrive; at least one of each."""
    columns = [(chunk["arrival_s"].copy(), chunk["class_index"].copy()) for chunk in logical_chunks(record)]
    arrival_s = np.concatenate([arrival for arrival, _ in columns])
    which = np.concatenate([classes for _, classes in columns]).astype(np.int64)
    first = np.argsort(arrival_s, kind="stable")[:count]
    counts = np.bincount(which[first], minlength=len(record.classes)).tolist()
    return {one.name: max(1, number) for one, number in zip(record.classes, counts, strict=True)}


def _shortened(scenario: Scenario, counts: dict[str, int]) -> Scenario:
    """Return the scenario with so many requests of each class; as it is where nothing is said."""
    if not counts:
        return scenario
    classes = {
        name: spec.model_copy(update={"num_requests": counts[name], "duration_s": None})
        for name, spec in scenario.workload.classes.items()
    }
    workload = scenario.workload.model_copy(update={"classes": classes})
    return scenario.model_copy(update={"workload": workload})


def _compared(figures: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """Return the figures with their relative changes."""
    return {**figures, **{f"{name}_change": _relative(figures[name], base[name]) for name in MEASURES}}


def _relative(value: float | None, base: float | None) -> float | None:
    if value is None or base is None or base == 0 or not math.isfinite(value / base):
        return None
    return value / base - 1
