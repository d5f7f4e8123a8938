"""How do I divide what I have: models, candidates and capacities put together, as plain data."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from servesim.deploy.write import deployment
from servesim.errors import InputError
from servesim.experiment.planning.bounds import bound, samples
from servesim.experiment.planning.candidates import Candidate, Pruned, candidates
from servesim.experiment.planning.capacity import Capacity, Curve, curve
from servesim.experiment.planning.division import Choice, Divider, Division
from servesim.experiment.planning.doubt import not_tried, stretched
from servesim.experiment.planning.error_band import error_band
from servesim.experiment.planning.growth import Growth
from servesim.experiment.planning.observe import Laboratory, targets_of
from servesim.provenance import validated_near
from servesim.scenario.load_inventory import LoadedInventory
from servesim.scenario.load_plan import LoadedPlan
from servesim.scenario.resolve import resolve
from servesim.service_time.base import IterationTimeSpec

SCHEMA_VERSION = 1
_Z = 1.959963984540054


@dataclass(frozen=True)
class _Way:
    """One configuration of one model, with its capacity."""

    model: str
    candidate: Candidate
    curve: Curve


class InventoryPlanner:
    """An inventory plan at work; `run` gives the answer."""

    def __init__(
        self,
        loaded: LoadedInventory,
        seed: int | None = None,
        workers: int = 1,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self._loaded, self._spec = loaded, loaded.spec
        self._progress, self._seed, self._workers = progress, seed, workers
        self.nodes = {gpu: loaded.spec.inventory.nodes(gpu) for gpu in loaded.spec.inventory.gpus}
        self._laboratories: list[Laboratory] = []
        self._growths = {
            name: Growth.of(model.growth or loaded.spec.growth) for name, model in loaded.spec.models.items()
        }
        self.allowed = {name: model.max_breach or loaded.spec.max_breach for name, model in loaded.spec.models.items()}

    @property
    def simulations(self) -> int:
        """How many runs were made."""
        return sum(one.simulations for one in self._laboratories)

    def run(self) -> dict[str, Any]:
        """Return the whole answer, ready for JSON."""
        ways, pruned = self.ways()
        division = self.divide(ways)
        searched = self.simulations
        models = {} if division is None else {
            name: self._model(name, ways[option.key], division) for name, option in division.packing.taken.items()
        }  # fmt: skip
        return {
            "schema_version": SCHEMA_VERSION,
            "plan": self._spec.name,
            "verdict": self._verdict(models),
            "survive": self._spec.survive,
            "inventory": {gpu: {"gpus": sum(sizes), "nodes": sizes} for gpu, sizes in self.nodes.items()},
            "breach": None if division is None else self._overall(ways, division),
            "usd_per_hour": _total([one["usd_per_hour"] for one in models.values()]) if models else None,
            "models": models,
            "placement": {} if division is None else division.packing.nodes,
            "free": {gpu: sum(sizes) - self._used(division, gpu) for gpu, sizes in self.nodes.items()},
            "simulations": {"search": searched, "all": self.simulations},
            "pruned": [{"model": name, "settings": one.settings, "rule": one.rule, "reason": one.reason}
                       for name, one in pruned],
        }  # fmt: skip

    def ways(self) -> tuple[list[_Way], list[tuple[str, Pruned]]]:
        """Return the configurations that can be, with capacities explored, and those that cannot."""
        ways: list[_Way] = []
        pruned: list[tuple[str, Pruned]] = []
        for name, plan in self._loaded.models.items():
            possible, impossible = candidates(plan)
            pruned += [(name, one) for one in impossible]
            targets, offered = targets_of(plan.scenario, plan.spec.attainment), samples(plan.scenario, plan.pool)
            laboratory = self._laboratory(plan)
            for candidate in possible:
                known = bound(candidate, offered, targets)
                most = self._most(candidate)
                if math.isinf(known.fewest):
                    pruned.append((name, Pruned(candidate.settings, known.rule, known.reason)))
                elif not most:
                    reason = f"a replica of {candidate.gpus} GPUs does not fit into a node, and must not span two"
                    pruned.append((name, Pruned(candidate.settings, "node", reason)))
                else:
                    way = curve(laboratory, candidate, targets, self._growths[name], self._spec.replications)
                    way.explore(most)
                    if way.hopeless:
                        pruned.append((name, Pruned(candidate.settings, "slo", way.hopeless)))
                    else:
                        ways.append(_Way(name, candidate, way))
        return ways, pruned

    def divide(self, ways: list[_Way]) -> Division | None:
        """Return the best division; the sizes that it rests on are measured, not interpolated."""
        priced = all(way.candidate.usd_per_hour is not None for way in ways)
        choices = [
            Choice(way.model, _gpu(way.candidate), way.candidate.gpus,
                   way.candidate.unit_cost if priced else float(way.candidate.gpus), way.curve)
            for way in ways
        ]  # fmt: skip
        while True:
            division = Divider(self.nodes, choices, self.allowed, self._spec.survive).divide()
            if division is None:
                return None
            unsure = False
            for name, option in division.packing.taken.items():
                for size in (division.up[name], division.up[name] - 1):
                    unsure |= size >= 1 and size not in ways[option.key].curve.measured
                    if size >= 1:
                        ways[option.key].curve.measure(size)
            if not unsure:
                return division

    def _laboratory(self, plan: LoadedPlan) -> Laboratory:
        before = self.simulations

        def count(number: int) -> None:
            if self._progress is not None:
                self._progress(before + number)

        found = Laboratory(plan.scenario.seed if self._seed is None else self._seed, self._workers, count)
        self._laboratories.append(found)
        return found

    def _most(self, candidate: Candidate) -> int:
        return sum(gpus // candidate.gpus for gpus in self.nodes[_gpu(candidate)])

    def _used(self, division: Division | None, gpu: str) -> int:
        taken = () if division is None else division.packing.taken.values()
        return sum(one.count * one.gpus for one in taken if one.gpu == gpu)

    def _verdict(self, models: dict[str, Any]) -> str:
        if not models:
            return "no room"
        return "enough" if all(one["breach"] <= one["max_breach"] for one in models.values()) else "not enough"

    def _model(self, name: str, way: _Way, division: Division) -> dict[str, Any]:
        option, up = division.packing.taken[name], division.up[name]
        candidate = way.candidate
        pool = resolve(candidate.of_size(option.count)).scenario.pools[candidate.pool]
        usd = candidate.usd_per_hour
        return {
            "settings": candidate.settings,
            "gpu": option.gpu,
            "replicas": option.count,
            "gpus_per_replica": option.gpus,
            "gpus": option.count * option.gpus,
            "usd_per_hour": None if usd is None else option.count * usd,
            "replicas_up_at_worst": up,
            "growth": list(self._growths[name].ends),
            "takes": _capacity(way.curve.capacity(up)),
            "takes_whole": _capacity(way.curve.measure(option.count)),
            "breach": way.curve.breach(up),
            "breach_whole": way.curve.breach(option.count),
            "max_breach": self.allowed[name],
            "estimated": candidate.estimated,
            "doubt": self._doubt(name, way, up),
            "deployment": deployment(pool, name),
        }

    def _doubt(self, name: str, way: _Way, up: int) -> dict[str, Any] | None:
        """Return the chance of a breach at both ends of the error of iteration times; None where none is known."""
        pool = way.candidate.scenario.pools[way.candidate.pool]
        service = pool.service_time
        band = error_band(way.candidate.plan.origin.facts, validated_near(pool, way.candidate.plan))
        if band is None or not isinstance(service, IterationTimeSpec) or up < 1:
            return None
        of, low, high = band
        ends: list[dict[str, Any]] = []
        for factor in (low, high):
            try:
                slower = stretched(way.candidate, service, factor)
            except InputError as error:
                ends.append({"factor": factor, "breach": None, "reason": not_tried(factor, error)})
                continue
            start = way.curve.capacity(up).factor / factor
            changed = replace(way.curve, candidate=slower, measured={}, guess=start or 1.0)
            changed.measure(up)
            ends.append({"factor": factor, "breach": changed.breach(up), "takes": _capacity(changed.capacity(up))})
        known = [end["breach"] <= self.allowed[name] for end in ends if end["breach"] is not None]
        return {"of": of, "hangs_on_it": len({*known, way.curve.breach(up) <= self.allowed[name]}) > 1, "ends": ends}

    def _overall(self, ways: list[_Way], division: Division) -> float:
        """Return the chance that any model breaches: those without a growth of their own share the same demand."""
        shared: NDArray[np.float64] = np.ones(1)
        alone = 1.0
        for name, option in division.packing.taken.items():
            way = ways[option.key].curve
            fine = 1 - way.capacity(division.up[name]).breached(way.demand)
            if self._spec.models[name].growth is None:
                shared = shared * fine
            else:
                alone *= float(fine.mean())
        return 1 - alone * float(shared.mean())


def _gpu(candidate: Candidate) -> str:
    return str(candidate.settings["gpu"])


def _capacity(found: Capacity) -> dict[str, float]:
    spread = math.exp(_Z * found.error)
    return {"factor": found.factor, "low": found.factor / spread, "high": found.factor * spread}


def _total(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) if len(known) == len(values) else None
