"""Which setting moves p99 and cost most around today's: one change at a time, paired by common random numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from servesim.errors import InputError
from servesim.experiment.seeds import replication_seeds
from servesim.experiment.sweep import Plan, Planned, Swept, plan_points
from servesim.experiment.sweep_point import EACH, Outcome
from servesim.metrics.contrasts import Values
from servesim.metrics.intervals import CONFIDENCE, Interval
from servesim.scenario.document import Mark
from servesim.scenario.load_allowed import schema_fields
from servesim.scenario.load_sweep import Base
from servesim.scenario.resolve import resolve

SCHEMA_VERSION = 1
REPLICATIONS = 5
# What a deployment or its traffic is made of; not how long it is simulated, measured or when it is stopped.
_PARTS = ("pools", "workload", "client")
_OF_THE_RUN = {"num_requests", "duration_s", "priority", "max_total_tokens", "attainment"}
_LISTS = {"slo"}
_RANKED = ("p99_e2e_s", "p99_ttft_s", "usd_per_million_output_tokens")
_BY_FIRST = "p99_e2e_s"
_LEVEL = 1 - CONFIDENCE


@dataclass(frozen=True, slots=True)
class Nudge:
    """A setting at another value."""

    path: str
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class SensitivityPlan:
    """The scenario as it is and with each change; `skipped` has (change, reason) of those that make no scenario."""

    plan: Plan
    nudges: list[Nudge]
    skipped: list[tuple[Nudge, str]]


def plan_sensitivity(base: Base, replications: int | None = None, seed: int | None = None) -> SensitivityPlan:
    """Return the runs: every positive number of the resolved scenario's pools, traffic and client, doubled and halved.

    A fraction that cannot double is moved half of its way to 1.
    """
    points, nudges, skipped = [base.point(())], [], []
    resolved = resolve(base.scenario).scenario
    for part in _PARTS:
        for path, value, whole in _numbers(getattr(resolved, part), part):
            for after in _changed(path, value, whole):
                where, node = base.setting(path, after, Mark(f"--vary {path}"))
                nudge = Nudge(path if isinstance(node.value, dict) else where, value, after)
                try:
                    point = base.point(((where, node),))
                    resolve(point.scenario)
                except InputError as error:
                    skipped.append((nudge, error.problems[0].message))
                    continue
                points.append(point)
                nudges.append(nudge)
    return SensitivityPlan(plan_points(base, points, replications or REPLICATIONS, seed), nudges, skipped)


def _numbers(value: Any, path: str) -> Iterator[tuple[str, float, bool]]:
    """Yield (path, value, whether it is a whole number) of every positive number of a specification."""
    if isinstance(value, bool):
        return
    if isinstance(value, int | float):
        if 0 < value < math.inf:
            yield path, value, isinstance(value, int)
        return
    if fields := schema_fields(type(value)):
        for name in fields:
            if name not in _OF_THE_RUN | _LISTS:
                yield from _numbers(getattr(value, name), f"{path}.{name}")
    elif isinstance(value, dict):
        for name, one in value.items():
            yield from _numbers(one, f"{path}.{name}")


def _changed(path: str, value: float, whole: bool) -> list[float]:
    if whole:
        return [one for one in (2 * value, value // 2) if one >= 1 and one != value]
    fraction = path.endswith(("_utilization", "watermark", "probability", "fraction")) and value < 1
    above = (1 + value) / 2 if fraction and 2 * value >= 1 else 2 * value
    return [float(f"{above:.6g}"), float(f"{value / 2:.6g}")]


def sensitivity(found: Swept, asked: SensitivityPlan) -> dict[str, Any]:
    """Return what sensitivity.json holds: every change with its relative effects, those that move p99 E2E most first.

    An effect is the change of the mean relative to that of the scenario as it is, with its 95 % interval: paired, and
    with the chance in today's mean (`Values.relative_interval`). `rank` counts from 1, by size, among the effects of
    the same metric.
    """
    base, rest = found.outcomes[0], found.outcomes[1:]
    if "error" in base:
        raise InputError(f"the scenario as it is cannot be run: {base['error']['message']}")
    rows = [
        {"set": nudge.path, "from": nudge.before, "to": nudge.after, **_effects(base, outcome)}
        for nudge, outcome in zip(asked.nudges, rest, strict=True)
    ]
    for metric in _RANKED:
        known = [row for row in rows if _size(row, metric) is not None]
        for rank, row in enumerate(sorted(known, key=lambda row: -(_size(row, metric) or 0.0)), 1):
            row["effects"][metric]["rank"] = rank
    rows.sort(key=lambda row: -(_size(row, _BY_FIRST) or 0.0))
    return {
        "schema_version": SCHEMA_VERSION,
        "scenario": asked.plan.name,
        "replications": asked.plan.replications,
        "seeds": replication_seeds(asked.plan.points[0].seed, asked.plan.replications),
        "key": asked.plan.points[0].key,
        "base": {metric: _mean(base["each"][metric]) for metric in EACH},
        "changes": rows,
        "skipped": [
            {"set": nudge.path, "from": nudge.before, "to": nudge.after, "reason": reason}
            for nudge, reason in asked.skipped
        ],
    }


def _size(row: dict[str, Any], metric: str) -> float | None:
    value = row["effects"].get(metric, {}).get("value")
    return None if value is None else abs(value)


def _effects(base: Outcome, outcome: Outcome) -> dict[str, Any]:
    if "error" in outcome:
        return {"error": outcome["error"]["message"], "overloaded": None, "effects": {}}
    effects = {metric: _effect(base["each"][metric], outcome["each"][metric]) for metric in EACH}
    return {"error": None, "overloaded": outcome["overloaded"], "effects": effects}


def _effect(before: list[float | None], after: list[float | None]) -> dict[str, Any]:
    pairs = [(a, b) for a, b in zip(before, after, strict=True) if a is not None and b is not None]
    missing = len(before) - len(pairs)
    if missing:
        return {"value": None, "reason": f"not defined in {missing} of {len(before)} replications"}
    values = Values([a for a, _ in pairs], [b for _, b in pairs], paired=True)
    change = values.relative
    if change is None:
        return {"value": None, "reason": "today's value is 0"}
    if len(pairs) < 2 or values.a == values.b:
        why = "only one replication" if len(pairs) < 2 else "the same in all replications: no spread to judge by"
        return {"value": change, **Interval(change, reason=why).plain()}
    low, high = values.relative_interval(_LEVEL) or (math.nan, math.nan)
    return {"value": change, **Interval(change, low, high).plain()}


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if len(known) == len(values) else None


__all__ = ["Nudge", "Planned", "SensitivityPlan", "plan_sensitivity", "sensitivity"]
