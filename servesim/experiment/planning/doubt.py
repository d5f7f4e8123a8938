"""Does the decision hang on an estimate? It is made again at both ends of the error of the iteration times."""

from __future__ import annotations

from dataclasses import dataclass, replace

from servesim.catalog.model_errors import ModelError
from servesim.errors import InputError
from servesim.experiment.planning.candidates import Candidate, with_pool
from servesim.experiment.planning.decide import Rule
from servesim.experiment.planning.error_band import error_band
from servesim.experiment.planning.observe import Laboratory, Target
from servesim.experiment.planning.search import Found, Ladder
from servesim.provenance import runs_full, validated_near
from servesim.scenario.resolve import resolve
from servesim.service_time.base import IterationTimeSpec
from servesim.service_time.stretched import Stretched


@dataclass(frozen=True, slots=True)
class End:
    """The smallest size that meets the SLO if iterations take `factor` times as long; None: no size of the space."""

    factor: float
    size: int | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Doubt:
    """What the error of iteration times does to a decision; `ends` are both.

    `of` says which error: "estimate", "calibration" or "validated deployments".
    """

    of: str
    ends: tuple[End, ...]

    def needs_more(self, size: int) -> bool:
        """Say whether this size misses the SLO at an end of the error: it meets it only inside the model's error."""
        return any(end.size is None or end.size > size for end in self.ends if not end.reason)

    def flips(self, size: int) -> bool:
        """Say whether either end asks for another size."""
        return any(end.size != size for end in self.ends if not end.reason)


def doubt(
    laboratory: Laboratory, found: Found, sizes: tuple[int, int], targets: tuple[Target, ...], rule: Rule
) -> Doubt | None:
    """Return what the answer would be at both ends of the band; None where no error is known."""
    pool = found.candidate.scenario.pools[found.candidate.pool]
    service = pool.service_time
    band = error_band(found.candidate.plan.origin.facts, validated_error(found))
    if band is None or not isinstance(service, IterationTimeSpec):
        return None
    of, low, high = band
    return Doubt(of, tuple(_end(laboratory, found, service, f, sizes, targets, rule) for f in (low, high)))


def validated_error(found: Found) -> ModelError | None:
    """Return the error of the validated deployments nearest to what was found, with full KV blocks if it had them."""
    error = validated_near(found.candidate.scenario.pools[found.candidate.pool], found.candidate.plan)
    seen = [one.numbers["pools"][found.candidate.pool] for one in found.trial.observations]
    return error.with_full_blocks() if error is not None and any(map(runs_full, seen)) else error


def _end(
    laboratory: Laboratory,
    found: Found,
    service: IterationTimeSpec,
    factor: float,
    sizes: tuple[int, int],
    targets: tuple[Target, ...],
    rule: Rule,
) -> End:
    try:
        candidate = stretched(found.candidate, service, factor)
    except InputError as error:
        return End(factor, None, not_tried(factor, error))
    ladder = Ladder(laboratory, candidate, rule, targets)
    least, most = sizes
    if ladder.meets(found.size):  # then no larger one is of interest, else no smaller one
        most = found.size
    else:
        least = found.size + 1
    best = ladder.smallest(least, most)
    return End(factor, None if best is None else best.size)


def not_tried(factor: float, error: InputError) -> str:
    """Return why an end of the band was left out: shorter times can be impossible on the GPU, which is no fault."""
    return "not tried as this GPU cannot be so fast" if factor < 1 else error.problems[0].message


def stretched(candidate: Candidate, service: IterationTimeSpec, factor: float) -> Candidate:
    """Return a candidate whose iterations take `factor` times as long; InputError where that is not physical."""
    pool = candidate.scenario.pools[candidate.pool]
    longer = pool.model_copy(update={"service_time": Stretched(times=service, factor=factor)})
    scenario = with_pool(candidate.scenario, candidate.pool, longer)
    resolve(scenario)
    return replace(candidate, scenario=scenario)
