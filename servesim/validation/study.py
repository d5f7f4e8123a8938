"""A measurement held against a scenario: the errors of every statistic, and what would explain them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from servesim.errors import InputError, Problem
from servesim.experiment.simulate import simulate
from servesim.scenario.schema import ClassSpec, Scenario, WorkloadSpec
from servesim.validation.aggregates import Aggregate
from servesim.validation.errors import Row, per_request, table
from servesim.validation.explain import Explanation, explain
from servesim.validation.measured import read_measured
from servesim.validation.replay import replay
from servesim.validation.runs import Run
from servesim.validation.units import unit_hints
from servesim.workload.arrivals.all_at_once import AllAtOnceArrivals
from servesim.workload.arrivals.closed_loop import ClosedLoopArrivals
from servesim.workload.arrivals.gamma import GammaArrivals
from servesim.workload.trace import TraceArrivals

HEADLINES = tuple(f"{name}_s.{which}" for name in ("ttft", "tpot", "e2e") for which in ("mean", "p50", "p99"))


@dataclass(frozen=True, slots=True)
class Study:
    """One measured load against its simulation; `runs` holds measured and simulated requests where there are any."""

    name: str
    rows: list[Row]
    per_request: dict[str, float]
    explanations: list[Explanation]
    warnings: list[str]
    runs: tuple[Run, Run] | None = None

    @property
    def worst(self) -> Row | None:
        """The headline statistic (mean, p50 or p99 of TTFT, TPOT, E2E) that is furthest off."""
        rows = [row for row in self.rows if row.metric in HEADLINES]
        return max(rows, key=lambda row: abs(row.error), default=None)

    @property
    def within_noise(self) -> bool:
        """Whether no headline statistic is further off than twice its own noise, or half a percent where that is more.

        Then nothing is left to explain.
        """
        rows = [row for row in self.rows if row.metric in HEADLINES]
        return bool(rows) and all(abs(row.error) <= max(2.0 * (row.noise or 0.0), _NOTHING) for row in rows)

    def to_json(self) -> dict[str, Any]:
        """Return plain data; an error is simulated / measured - 1, a noise a share of the measured value."""
        return {
            "name": self.name,
            "statistics": [
                {
                    "metric": row.metric,
                    "measured": row.measured,
                    "simulated": row.simulated,
                    "error": row.error,
                    "noise": row.noise,
                }
                for row in self.rows
            ],
            "within_noise": self.within_noise,
            "per_request_median_error": self.per_request,
            "explanations": [
                {"assumption": one.assumption, "value": one.value, "gap_left": one.left, "closes": one.closed}
                for one in self.explanations
            ],
            "warnings": self.warnings,
        }


def study(
    paths: Sequence[Path],
    scenario: Scenario,
    users: int | None = None,
    explaining: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> list[Study]:
    """Return one study of a run and its repeats, or one per aggregate row; InputError for what cannot be replayed."""
    found = [read_measured(path) for path in paths]
    runs = [one for one in found if isinstance(one, Run)]
    if len(runs) == len(found):
        return [_of_runs(runs, paths, scenario, users, explaining, progress)]
    if runs or len(found) > 1:
        message = "give several files only as repeats of one run with single requests"
        raise InputError(Problem(message, file=str(paths[0])))
    rows = found[0]
    assert isinstance(rows, list)
    if not rows:
        raise InputError(Problem("holds neither requests with latencies nor aggregate rows", file=str(paths[0])))
    return [_of_aggregate(row, scenario) for row in rows]


def _of_runs(
    runs: list[Run],
    paths: Sequence[Path],
    scenario: Scenario,
    users: int | None,
    explaining: bool,
    progress: Callable[[int, int], None] | None,
) -> Study:
    for run, path in zip(runs, paths, strict=True):
        if not run.timed and users is None:
            message = "does not say when requests came; --closed-loop N replays it with N clients"
            raise InputError(Problem(message, file=str(path)))
    simulated = [replay(run, scenario, users) for run in runs]
    several = len(runs) > 1
    for run, before in combinations(runs, 2):
        if all(np.array_equal(getattr(run, name), getattr(before, name), equal_nan=True) for name in _MEASURED):
            raise InputError(f"{run.name} and {before.name} hold the same requests and latencies: not two runs")
    rows = table(runs, simulated)
    warnings = unit_hints(rows)
    sides = [*runs, *simulated]
    warnings += [f"{side.name}: {note}" if several else note for side in sides for note in side.notes]
    warnings += [] if several else ["the noise is of one run: repeats would also show drift between runs"]
    why = explain(runs, simulated, scenario, users, progress) if explaining else []
    each = per_request(runs[0], simulated[0])
    return Study(runs[0].name, rows, each, why, warnings, (runs[0], simulated[0]))


def _of_aggregate(row: Aggregate, scenario: Scenario) -> Study:
    """Simulate the scenario's own requests under the row's load and compare what both know."""
    result = simulate(under_load(scenario, row))
    numbers = result.numbers["classes"]["all"]
    ours = {f"{name}.{which}": value for name in _LATENCIES for which, value in (numbers[name] or {}).items()}
    ours["requests_per_s"] = numbers["request_throughput_rps"]
    rows = [
        Row(name, value, float(ours[name]), None)
        for name, value in row.statistics.items()
        if ours.get(name) is not None
    ]
    warnings = [*unit_hints(rows), *row.notes]
    warnings.append(
        "an aggregate row has no noise of its own; give a file with single requests, or repeats, to know it"
    )
    for what, theirs in (("prompt", row.prompt_tokens), ("output", row.output_tokens)):
        mean = float(result.requests[f"{what}_tokens"].mean())
        if theirs is not None and abs(mean / theirs - 1) > _LENGTHS_DIFFER:
            warnings.append(f"the scenario's {what}s have {mean:.0f} tokens on average, the measured ones {theirs:.0f}")
    return Study(row.name, rows, {}, [], warnings)


_MEASURED = ("arrival_s", "prompt_tokens", "output_tokens", "ttft_s", "e2e_s")
_LATENCIES = ("ttft_s", "tpot_s", "itl_s", "e2e_s")
_LENGTHS_DIFFER = 0.02
_NOTHING = 0.005  # an error that no reader would explain


def under_load(scenario: Scenario, row: Aggregate) -> Scenario:
    """Return the scenario's first class under the clients, rate and number of requests of the row."""
    name, spec = next(iter(scenario.workload.classes.items()))
    if isinstance(spec.arrivals, TraceArrivals):
        raise InputError("an aggregate row needs a scenario with lengths of its own, not one that replays a trace")
    changes: dict[str, Any] = {}
    if row.max_concurrency is not None and row.request_rate_rps is None:
        changes["arrivals"] = ClosedLoopArrivals(max_concurrency=row.max_concurrency)
    elif row.request_rate_rps is not None:
        changes["arrivals"] = GammaArrivals(request_rate_rps=row.request_rate_rps, burstiness=row.burstiness)
    elif row.all_at_once:
        changes["arrivals"] = AllAtOnceArrivals()
    if row.num_requests is not None:
        changes |= {"num_requests": row.num_requests, "duration_s": None}
    fields = {key: getattr(spec, key) for key in ClassSpec.model_fields}
    classes = {name: ClassSpec.model_validate({**fields, **changes})}
    pools = {pool: one for pool, one in scenario.pools.items() if pool == scenario.pool_of(name)}
    workload = WorkloadSpec(
        classes=classes, num_requests=scenario.workload.num_requests, duration_s=scenario.workload.duration_s
    )
    return scenario.model_copy(update={"workload": workload, "pools": pools, "sweep": None})


def renamed(found: Sequence[Study]) -> list[Study]:
    """Return the studies with names that differ."""
    names = [one.name for one in found]
    return [
        one if names.count(one.name) == 1 else replace(one, name=f"{one.name} ({number})")
        for number, one in enumerate(found, 1)
    ]
