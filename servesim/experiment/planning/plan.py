"""The cheapest configuration that meets the SLO: everything put together, as plain data."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from servesim.deploy.write import deployment
from servesim.errors import InputError
from servesim.experiment.planning.bounds import bound, samples
from servesim.experiment.planning.candidates import Candidate, candidates
from servesim.experiment.planning.decide import Estimate, Judgement, Rule
from servesim.experiment.planning.doubt import Doubt, doubt
from servesim.experiment.planning.load_factor import Breaking, largest_load
from servesim.experiment.planning.naive import Naive, naive
from servesim.experiment.planning.observe import Laboratory, Observation, Target, targets_of
from servesim.experiment.planning.search import Found, Search, decisions, search
from servesim.experiment.simulate import simulate
from servesim.scenario.load_plan import LoadedPlan
from servesim.scenario.resolve import resolve

SCHEMA_VERSION = 1
# The verdict on a size that meets the SLO by the model, and not at the far end of the model's error.
HANGS = "hangs on the model's error"


class Planner:
    """A plan at work; `run` gives the answer, `search` alone only the choice."""

    def __init__(
        self,
        loaded: LoadedPlan,
        seed: int | None = None,
        workers: int = 1,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self._loaded = loaded
        self.laboratory = Laboratory(loaded.scenario.seed if seed is None else seed, workers, progress)
        self.targets: tuple[Target, ...] = targets_of(loaded.scenario, loaded.spec.attainment)

    def search(self) -> Search:
        """Find the cheapest configurations."""
        spec, space = self._loaded.spec, self._loaded.spec.space
        if space is None:
            raise InputError("a plan needs a space")
        possible, impossible = candidates(self._loaded)
        offered = samples(self._loaded.scenario, self._loaded.pool)
        bounded = [(candidate, bound(candidate, offered, self.targets)) for candidate in possible]
        outcome = search(self.laboratory, bounded, self._sizes(), self.targets, self.rule(len(possible)), spec.rank)
        outcome.pruned = [*impossible, *outcome.pruned]
        return outcome

    def _sizes(self) -> tuple[int, int]:
        assert self._loaded.spec.space is not None
        sizes = self._loaded.spec.space.sizes
        return sizes.least, sizes.most

    def rule(self, possible: int) -> Rule:
        """Return the rule of each decision, such that all of them together are right with the plan's confidence."""
        spec = self._loaded.spec
        alpha = (1 - spec.confidence) / decisions(possible, *self._sizes())
        return Rule(alpha, spec.replications.first, spec.replications.most, spec.indifference)

    def run(self) -> dict[str, Any]:
        """Return the whole answer, ready for JSON."""
        spec = self._loaded.spec
        outcome = self.search()
        searched = self.laboratory.simulations
        rule = self.rule(len(outcome.found) + len(outcome.pruned))
        rows = [(found, self._row(found)) for found in outcome.found]
        rows.sort(key=lambda one: (one[0].cost, -(one[1]["headroom"]["factor"] or 0.0)))  # at equal cost, more room
        outcome.found, ranked = [found for found, _ in rows], [row for _, row in rows]
        hangs = None
        if outcome.found:
            hangs = doubt(self.laboratory, outcome.found[0], self._sizes(), self.targets, rule)
            if hangs is not None and hangs.needs_more(outcome.found[0].size):
                ranked[0]["verdict"] = HANGS
        unwise = naive(self.laboratory, self._loaded, self.targets, spec.replications.first)
        return {
            "schema_version": SCHEMA_VERSION,
            "plan": spec.name,
            "scenario": self._loaded.scenario.name,
            "pool": self._loaded.pool,
            "seed": self.laboratory.seed,
            "confidence": spec.confidence,
            "targets": [_target(one) for one in self.targets],
            "simulations": {"search": searched, "all": self.laboratory.simulations, "decisions": outcome.judged},
            "ranked": ranked,
            "doubt": None if hangs is None else _doubt(hangs, outcome.found[0]),
            "naive": None if unwise is None else _naive(unwise, outcome),
            "pruned": [{"settings": one.settings, "rule": one.rule, "reason": one.reason} for one in outcome.pruned],
        }

    def _row(self, found: Found) -> dict[str, Any]:
        observations = found.trial.observations
        scenario = found.trial.scenario
        self.laboratory.simulations += 1
        explained = simulate(scenario, self.laboratory.seed).summary["why"]
        tail = explained["p99_ttft"] or explained["p99_e2e"]
        return {
            "settings": found.candidate.settings,
            found.candidate.sized_by: found.size,
            "gpus": found.size * found.candidate.gpus,
            **_cost(found.candidate, found.size),
            "usd_per_million_output_tokens": _mean(
                [one.numbers["pools"][self._loaded.pool]["cost_usd_per_million_output_tokens"] for one in observations]
            ),
            "goodput_rps": _mean([one.numbers["classes"]["all"]["goodput_rps"] for one in observations]),
            **_judged(found.judgement),
            "concurrent_requests": _mean([_in_system(one) for one in observations]),
            "headroom": self._headroom(found),
            "bottleneck": None if tail is None else tail["bottleneck"],
            "ties": found.ties,
            "monotone": found.monotone,
            "estimated": found.candidate.estimated,
            "deployment": deployment(resolve(scenario).scenario.pools[self._loaded.pool], self._loaded.pool),
        }

    def _headroom(self, found: Found) -> dict[str, Any]:
        first = self._loaded.spec.replications.first
        try:
            return breaking(largest_load(self.laboratory, found.trial.scenario, self.targets, first, 0.05))
        except InputError as error:
            return {"factor": None, "reason": error.problems[0].message}


def how_much_load(
    loaded: LoadedPlan,
    seed: int | None = None,
    workers: int = 1,
    replications: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Return the largest load within the SLO: as a factor on the scenario's rates, with a 95 % interval."""
    from servesim.experiment.planning.bounds import busiest_rate_rps

    laboratory = Laboratory(loaded.scenario.seed if seed is None else seed, workers, progress)
    targets = targets_of(loaded.scenario, loaded.spec.attainment)
    number = replications or max(loaded.spec.replications.first, 12)
    found = largest_load(laboratory, loaded.scenario, targets, number)
    mean, _ = busiest_rate_rps(loaded.scenario, loaded.pool, 60.0)
    return {
        "schema_version": SCHEMA_VERSION,
        "scenario": loaded.scenario.name,
        "seed": laboratory.seed,
        "replications": number,
        "simulations": laboratory.simulations,
        "targets": [_target(one) for one in targets],
        "load": breaking(found),
        "offered_rps": offered_rps(loaded, mean),
    }


def offered_rps(loaded: LoadedPlan, sampled: float) -> float | None:
    """Return the mean rate the scenario offers: as it says, else as sampled; None where there is none."""
    rates = [getattr(one.arrivals, "request_rate_rps", None) for one in loaded.scenario.workload.classes.values()]
    if all(isinstance(rate, float) for rate in rates):
        return math.fsum(rate for rate in rates if rate is not None)
    return None if math.isnan(sampled) else sampled


def breaking(found: Breaking) -> dict[str, Any]:
    """Return plain data; None for what is not a number."""
    plain = {name: _finite(getattr(found, name)) for name in ("factor", "low", "high")}
    first = {} if found.target is None else {"breaks_first": _target(found.target)}
    said = {name: True for name in ("overloaded", "short") if getattr(found, name)}
    return {**plain, **first, **said, **({"reason": found.reason} if found.reason else {})}


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


def _target(target: Target) -> dict[str, Any]:
    asked = {"attainment": target.attainment} if target.attainment is not None else {"itl_s": target.itl_s}
    return {"class": target.name, **asked}


def _cost(candidate: Candidate, size: int) -> dict[str, float | None]:
    return {"usd_per_hour": None if candidate.usd_per_hour is None else size * candidate.usd_per_hour}


def _judged(judgement: Judgement) -> dict[str, Any]:
    return {
        "verdict": judgement.verdict,
        "replications": judgement.replications,
        "estimates": [_estimate(one) for one in judgement.estimates],
        **({"short": True} if judgement.short else {}),
    }


def _estimate(one: Estimate) -> dict[str, Any]:
    return {**_target(one.target), "value": _finite(one.value), "low": _finite(one.low), "high": _finite(one.high)}


def _in_system(one: Observation) -> float | None:
    """Return the mean number of requests in the system, by Little's law."""
    found = one.numbers["classes"]["all"]
    rate, mean_s = found["request_throughput_rps"], found["e2e_s"]["mean"]
    return None if rate is None or mean_s is None else rate * mean_s


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def _doubt(found: Doubt, best: Found) -> dict[str, Any]:
    ends = [{"factor": end.factor, "size": end.size, **({"reason": end.reason} if end.reason else {})}
            for end in found.ends]  # fmt: skip
    return {"of": found.of, "hangs_on_it": found.flips(best.size), "ends": ends}


def _naive(found: Naive, outcome: Search) -> dict[str, Any]:
    best = outcome.found[0].cost if outcome.found else None
    return {
        "settings": found.candidate.settings,
        "replicas": found.size,
        "gpus": found.size * found.candidate.gpus,
        **_cost(found.candidate, found.size),
        "peak_rps": found.peak_rps,
        "one_replica_rps": found.one_rps,
        "saving": None if best is None or not found.cost else 1 - best / found.cost,
    }
