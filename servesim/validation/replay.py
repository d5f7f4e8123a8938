"""A measured run's requests sent through a scenario's deployment, in place of the scenario's own workload."""

from __future__ import annotations

import csv
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from servesim.engine.continuous_plan import ContinuousPlan
from servesim.errors import InputError
from servesim.experiment.simulate import simulate
from servesim.scenario.measurement import MeasurementSpec
from servesim.scenario.resolve import resolve
from servesim.scenario.schema import ClassSpec, Scenario, WorkloadSpec
from servesim.validation.drive import drive
from servesim.validation.runs import Run
from servesim.workload.arrivals.log import LogArrivals

CLASS = "measured"


def replay(run: Run, scenario: Scenario, users: int | None = None) -> Run:
    """Return the run as the scenario's deployment would have served it; InputError if it cannot say that.

    The requests come when they came, to the pool of the scenario's first class. With `users` they come from a closed
    loop of so many, all starting at once, each sending the next request of the record when its last has ended. Prefix
    cache hits that the record knows are given to the engine, as long as it is one replica.
    """
    if users is not None or (run.cached_tokens is not None and run.cached_tokens.any()):
        return _driven(run, scenario, users)
    with tempfile.TemporaryDirectory(prefix="servesim-") as folder:
        path = Path(folder) / "measured.csv"
        _write(run, path)
        result = simulate(_with_workload(scenario, path))
        table = result.requests.sort_values("request_id")
        itl = result.numbers["classes"][CLASS]["itl_s"]
    completed = (table["outcome"] == "completed").to_numpy()
    ttft_s, e2e_s = (np.where(completed, table[name].to_numpy(np.float64), np.nan) for name in ("ttft_s", "e2e_s"))
    lost = table.loc[~completed, "outcome"].value_counts()
    notes = tuple(
        f"the simulation did not serve {count} of {len(table)} requests ({outcome}): they are not compared"
        for outcome, count in lost.items()
        if count
    )
    gaps = {name: itl[name] for name in ("mean", "p50", "p90", "p99")} if itl and itl["mean"] is not None else None
    prompt, output = run.prompt_tokens, run.output_tokens
    return Run(f"{run.name} simulated", run.arrival_s, prompt, output, ttft_s, e2e_s, gaps, notes=notes)


def _write(run: Run, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("arrival", "prompt_tokens", "output_tokens"))
        for row in zip(run.arrival_s.tolist(), run.prompt_tokens.tolist(), run.output_tokens.tolist(), strict=True):
            writer.writerow((f"{row[0]:.9f}", *row[1:]))


def _with_workload(scenario: Scenario, path: Path) -> Scenario:
    """Return the scenario with the measured requests as its only class, in its first class's place."""
    first = next(iter(scenario.workload.classes.values()))
    spec = ClassSpec(
        arrivals=LogArrivals(path=str(path), format="csv", time_unit="s"),
        priority=first.priority,
        pool=scenario.pool_of(next(iter(scenario.workload.classes))),
        slo=first.slo,
    )
    pools = {spec.pool: scenario.pools[spec.pool]} if spec.pool else scenario.pools
    changes = {
        "workload": WorkloadSpec(classes={CLASS: spec}),
        "pools": pools,
        "measurement": MeasurementSpec(),
        "sweep": None,
    }
    return scenario.model_copy(update=changes)


def _driven(run: Run, scenario: Scenario, users: int | None) -> Run:
    """Return what one replica does, fed request by request."""
    pool = resolve(scenario).pools[0]
    if not isinstance(pool.plan, ContinuousPlan) or pool.spec.replicas != 1:
        raise InputError("closed loops and recorded cache hits are replayed on one replica of a continuous engine only")
    driven = drive(run, pool.plan.settings, pool.plan.times, (0.0,) * (users or 0))
    client = scenario.client
    if client.clock == "server":
        return driven
    network_s = client.request_network_s + client.response_network_s
    return replace(driven, ttft_s=driven.ttft_s + network_s, e2e_s=driven.e2e_s + network_s)
