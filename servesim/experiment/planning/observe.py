"""What one replication says of the targets, and the replications of one scenario as they become more."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from servesim.experiment.result import Result
from servesim.experiment.seeds import replication_seeds
from servesim.experiment.simulate import simulate
from servesim.metrics.run_intervals import correlation_times
from servesim.scenario.schema import Scenario


@dataclass(frozen=True, slots=True)
class Target:
    """What one class asks: at least `attainment` of its offered requests good, or a p99 gap of at most `itl_s`."""

    name: str
    attainment: float | None = None
    itl_s: float | None = None


def targets_of(scenario: Scenario, attainment: float) -> tuple[Target, ...]:
    """Return the targets of a scenario's classes; `attainment` holds for those with thresholds that name none."""
    found = []
    for name, spec in scenario.workload.classes.items():
        if spec.slo.has_thresholds:
            found.append(Target(name, attainment=spec.slo.attainment or attainment))
        if spec.slo.itl_s is not None:
            found.append(Target(name, itl_s=spec.slo.itl_s))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Observation:
    """One replication: by class, requests offered and good, p99 token gap (NaN: none), and the correlation time.

    `correlation` counts requests in a row that tell as much as one independent one. `numbers` are the summary's.
    `arrivals_s` is the time from the first to the last arrival.
    """

    offered: dict[str, int]
    good: dict[str, int]
    itl_s: dict[str, float]
    correlation: dict[str, float]
    overloaded: bool
    numbers: dict[str, Any]
    arrivals_s: float = math.inf


def observe(scenario: Scenario, seed: int) -> Observation:
    """Run once and return what matters to a plan."""
    return observation_of(simulate(scenario, seed))


def observation_of(result: Result) -> Observation:
    """Return what of a run matters to a plan."""
    classes = {name: one for name, one in result.numbers["classes"].items() if name != "all"}
    times = correlation_times(result.measured, list(result.numbers["classes"]))
    shares = {name: one["slo_attainment"] for name, one in classes.items()}
    return Observation(
        offered={name: one["offered"] for name, one in classes.items()},
        good={name: round((shares[name] or 0.0) * one["offered"]) for name, one in classes.items()},
        itl_s={name: _number(one["itl_s"]["p99"]) for name, one in classes.items()},
        correlation={name: _longest(times[name]) for name in classes},
        overloaded=not result.steady,
        numbers={"classes": result.numbers["classes"], "pools": result.numbers["pools"]},
        arrivals_s=_span(result.record.requests.column("arrival_s")[0]),
    )


def _span(arrival_s: NDArray[np.float64]) -> float:
    came = arrival_s[np.isfinite(arrival_s)]
    return float(came.max() - came.min()) if len(came) else 0.0


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _longest(times: dict[str, float]) -> float:
    known = [times[name] for name in ("ttft_s", "e2e_s") if not math.isnan(times[name])]
    return max(known, default=1.0)


@dataclass
class Laboratory:
    """Where scenarios are simulated: the seeds they share (common random numbers), and a count of the runs made."""

    seed: int
    workers: int = 1
    progress: Callable[[int], None] | None = None
    simulations: int = 0

    def trial(self, scenario: Scenario) -> Trial:
        """Return a scenario without replications yet."""
        return Trial(self, scenario)

    def run(self, scenario: Scenario, seeds: list[int]) -> list[Observation]:
        """Return one observation for each seed, in order, on as many processes as there are workers."""
        return self.run_each([(scenario, seed) for seed in seeds])

    def run_each(self, runs: list[tuple[Scenario, int]]) -> list[Observation]:
        """Return one observation for each scenario with its seed, in order."""
        observations = []
        for found in self._each(runs):
            self.simulations += 1
            if self.progress is not None:
                self.progress(self.simulations)
            observations.append(found)
        return observations

    def _each(self, runs: list[tuple[Scenario, int]]) -> Iterable[Observation]:
        if self.workers == 1 or len(runs) < 2:
            return (observe(scenario, seed) for scenario, seed in runs)
        from joblib import Parallel, delayed  # type: ignore[import-untyped]

        parallel = Parallel(n_jobs=min(self.workers, len(runs)), return_as="generator")
        found: Iterable[Observation] = parallel(delayed(observe)(scenario, seed) for scenario, seed in runs)
        return found


@dataclass
class Trial:
    """The replications of one scenario; replication r has the same seed in every trial of a laboratory."""

    laboratory: Laboratory
    scenario: Scenario
    observations: list[Observation] = field(default_factory=list)

    def extend(self, number: int) -> list[Observation]:
        """Replicate until there are `number`, and return the first so many."""
        seeds = replication_seeds(self.laboratory.seed, number)[len(self.observations) :]
        self.observations += self.laboratory.run(self.scenario, seeds)
        return self.observations[:number]
