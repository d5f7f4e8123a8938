"""One point of a sweep: its replications, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from servesim.errors import InputError
from servesim.experiment.replicate import Replications, replicate
from servesim.scenario.schema import Scenario

Outcome = dict[str, Any]
EACH = {
    "p99_ttft_s": ("ttft_s", "p99"),
    "p99_tpot_s": ("tpot_s", "p99"),
    "p99_e2e_s": ("e2e_s", "p99"),
    "goodput_rps": ("goodput_rps",),
    "output_throughput_tps": ("output_throughput_tps",),
    "usd_per_million_output_tokens": (),
}


@dataclass(frozen=True, slots=True)
class Task:
    """A point to run: what a worker needs to know of it."""

    index: int
    scenario: Scenario
    seed: int
    replications: int


def run_task(task: Task) -> tuple[int, Outcome]:
    """Return the task's index and what came out, an error included, so that nothing is ever silently missing."""
    try:
        return task.index, _outcome(replicate(task.scenario, task.replications, task.seed))
    except Exception as error:  # a researcher's policy may raise anything
        return task.index, failure(error)


def failure(error: Exception) -> Outcome:
    """Return the outcome of a point that failed."""
    message = error.problems[0].message if isinstance(error, InputError) else str(error)
    return {"error": {"type": type(error).__name__, "message": message}}


def _outcome(found: Replications) -> Outcome:
    numbers = found.numbers
    if len(found) == 1:
        numbers = {**numbers, "intervals": found.first.intervals}
    return {
        "summary": numbers,
        "overloaded": found.overloaded,
        "offered_rps": _offered_rps(found),
        "each": {name: [_number(one, name) for one in found.summaries] for name in EACH},
    }


def _offered_rps(found: Replications) -> float | None:
    """Return the requests offered per second of arrivals, warm-up included, in replication 0; None of one instant."""
    record = found.first.record
    return sum(record.offered) / record.last_arrival_s if record.last_arrival_s > 0 else None


def _number(summary: dict[str, Any], name: str) -> float | None:
    if name == "usd_per_million_output_tokens":
        return usd_per_million_output_tokens(summary)
    found: Any = summary["classes"]["all"]
    for step in EACH[name]:
        found = found[step]
    return None if found is None else float(found)


def usd_per_million_output_tokens(summary: dict[str, Any]) -> float | None:
    """Return what a million output tokens of all pools together cost; None where a price or the tokens are missing."""
    costs = [pool["cost_usd_per_hour"] for pool in summary["pools"].values()]
    rate_tps = summary["classes"]["all"]["output_throughput_tps"]
    if None in costs or not rate_tps:
        return None
    cost: float = 1e6 * sum(costs) / 3600 / rate_tps
    return cost
