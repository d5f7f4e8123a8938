"""What is done without a simulator, to say what a right-sized choice saves."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

from servesim import catalog
from servesim.errors import InputError
from servesim.experiment.planning.bounds import bound, busiest_rate_rps, samples
from servesim.experiment.planning.candidates import Candidate, candidate_of
from servesim.experiment.planning.load_factor import largest_load
from servesim.experiment.planning.observe import Laboratory, Target
from servesim.scenario.load_plan import LoadedPlan

WINDOW_S = 60.0


@dataclass(frozen=True, slots=True)
class Naive:
    """The naive choice: `peak_rps` is the busiest minute's rate, `one_rps` what one replica takes within the SLO."""

    candidate: Candidate
    size: int
    peak_rps: float
    one_rps: float

    @property
    def cost(self) -> float:
        """USD per hour, or replicas where there are no prices."""
        return self.size * self.candidate.unit_cost


def naive(laboratory: Laboratory, loaded: LoadedPlan, targets: tuple[Target, ...], replications: int) -> Naive | None:
    """Return what many would take: the largest GPU, the scenario's own engine settings, replicas by the peak.

    The GPU of the space with the most memory (then the dearest), as few per replica as hold the model and can meet the
    SLO without company, and as many replicas as the busiest minute's rate is of what one replica takes by itself.

    None for stations and for loads that have no rate.
    """
    space = loaded.spec.space
    assert space is not None
    candidate = None if space.servers is not None else _largest(loaded, targets)
    if candidate is None:
        return None
    mean, peak = busiest_rate_rps(candidate.scenario, candidate.pool, WINDOW_S)
    if not mean > 0:
        return None
    try:
        takes = largest_load(laboratory, candidate.of_size(1), targets, replications, precision=0.1)
    except InputError:
        return None
    if not takes.factor > 0:
        return None
    one_rps = takes.factor * mean
    return Naive(candidate, math.ceil(peak / one_rps), peak, one_rps)


def _largest(loaded: LoadedPlan, targets: tuple[Target, ...]) -> Candidate | None:
    """Return the first that holds the model and, without company, does not miss for sure."""
    offered = samples(loaded.scenario, loaded.pool)
    space = loaded.spec.space
    assert space is not None
    known = {name: catalog.gpu(name) for name in space.gpu or ()}
    gpus = sorted(known, key=lambda name: (-known[name].memory_bytes, -(known[name].usd_per_hour or 0.0)))
    parallel: list[Any] = sorted(space.tensor_parallel_size or space.engine.get("tensor_parallel_size", []))
    of_gpu: list[dict[str, Any]] = [{"gpu": gpu} for gpu in gpus] or [{}]
    of_size: list[dict[str, Any]] = [{"tensor_parallel_size": size} for size in parallel] or [{}]
    for gpu, size in itertools.product(of_gpu, of_size):
        try:
            candidate = candidate_of(loaded, {**gpu, **size})
        except InputError:
            continue
        if math.isfinite(bound(candidate, offered, targets).fewest):
            return candidate
    return None
