"""How long a sweep will take: one point, shortened, is run on the spot and scaled by requests."""

from __future__ import annotations

import time
from dataclasses import dataclass

from servesim.experiment.sweep import Plan
from servesim.experiment.sweep_point import Task, run_task
from servesim.scenario.schema import ClassSpec, Scenario
from servesim.workload.base import TimedArrivals

PILOT_REQUESTS = 1000


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a pilot says: CPU seconds of one request, requests of every point in one replication, and wall seconds."""

    cpu_s_per_request: float
    requests: list[float]
    wall_s: float


def estimate(plan: Plan, workers: int) -> Estimate:
    """Run a point with PILOT_REQUESTS requests in each class once, and scale. Points on a cluster may run faster."""
    chosen = next(one for one in plan.points if one.refused is None)
    run_task(Task(0, _shortened(chosen.point.scenario, 10), chosen.seed, 1))  # loads what is loaded once
    pilot = _shortened(chosen.point.scenario, PILOT_REQUESTS)
    start_s = time.process_time()
    _, outcome = run_task(Task(0, pilot, chosen.seed, 1))
    spent_s = time.process_time() - start_s
    offered, rate_rps = PILOT_REQUESTS * len(pilot.workload.classes), 0.0
    if "summary" in outcome:
        window = outcome["summary"]["measurement"]
        offered = outcome["summary"]["classes"]["all"]["offered"] + window["left_out"]
        rate_rps = outcome["offered_rps"] or 0.0
    per_request_s = spent_s / max(offered, 1)
    requests = [
        0.0 if one.refused is not None else _requests(one.point.scenario, one.seed, rate_rps) for one in plan.points
    ]
    busy = min(workers, max(sum(one.refused is None for one in plan.points), 1))
    return Estimate(per_request_s, requests, per_request_s * sum(requests) * plan.replications / busy)


def _shortened(scenario: Scenario, most: int) -> Scenario:
    """Return the scenario with at most so many requests in each class."""
    classes = {}
    for name, spec in scenario.workload.classes.items():
        asked = spec.num_requests or scenario.workload.num_requests or most
        classes[name] = spec.model_copy(update={"num_requests": min(asked, most)})
    return scenario.model_copy(update={"workload": scenario.workload.model_copy(update={"classes": classes})})


def _requests(scenario: Scenario, seed: int, pilot_rps: float) -> float:
    """Return how many requests one replication offers, about."""
    return sum(_of_class(scenario, name, spec, seed, pilot_rps) for name, spec in scenario.workload.classes.items())


def _of_class(scenario: Scenario, name: str, spec: ClassSpec, seed: int, pilot_rps: float) -> float:
    workload = scenario.workload
    count = spec.num_requests or (None if spec.duration_s else workload.num_requests)
    duration_s = spec.duration_s or (None if spec.num_requests else workload.duration_s)
    if count is not None:
        return count
    if duration_s is None:
        return PILOT_REQUESTS  # a trace: as long as its file, which is not read for an estimate
    if not isinstance(spec.arrivals, TimedArrivals):
        return duration_s * pilot_rps / len(workload.classes)
    from servesim import rng as random_streams

    found = 0
    for times_s in spec.arrivals.times(random_streams.stream(seed, "arrivals", name)):
        found += len(times_s)
        last_s = float(times_s[-1])
        if last_s >= duration_s:
            return found - int((times_s > duration_s).sum())
        if found >= 4 * PILOT_REQUESTS and last_s > 0:
            return found * duration_s / last_s
    return found
