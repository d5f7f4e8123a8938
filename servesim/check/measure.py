"""Replications of one scenario, one at a time: here, or by another version of servesim."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from servesim.check.fingerprint import Fingerprint, digest_of, fingerprint
from servesim.deploy.overlay import with_deployed
from servesim.errors import InputError
from servesim.experiment.precision import metric_paths, number_at
from servesim.experiment.simulate import simulate
from servesim.scenario.load import load, positioned
from servesim.scenario.schema import Scenario

_DIGESTED = ("classes", "pools", "measurement", "warnings")


@dataclass(frozen=True, slots=True)
class Replication:
    """What one replication found: the summary without "why" and "intervals", and the CPU time it took."""

    seed: int
    numbers: dict[str, Any]
    overloaded: bool
    cpu_s: float

    @property
    def digest(self) -> str:
        """The digest of all numbers: equal ones are equal to the last digit."""
        return digest_of({key: self.numbers[key] for key in _DIGESTED if key in self.numbers})

    @property
    def metrics(self) -> dict[str, float | None]:
        """Every number that has a name, None where it is not defined."""
        classes = self.numbers["classes"]
        return {name: number_at(classes, path) for name, path in metric_paths(classes).items()}


class Measurer(Protocol):
    """Something that can run one scenario."""

    def run(self, seed: int) -> Replication:
        """Run one replication."""
        ...

    def made_from(self, replication: Replication) -> Fingerprint:
        """Return what a replication rests on."""
        ...


class Here:
    """The scenario in a file, run in this process by this servesim."""

    def __init__(self, file: Path, allow_paths: tuple[Path, ...] = (), deployed: Sequence[str] = ()) -> None:
        self.file, self._deployed = file, deployed
        self.scenario: Scenario = with_deployed(load(file, allow_paths=allow_paths), deployed)

    def run(self, seed: int) -> Replication:
        """Run one replication; what is wrong with the scenario is said with line and column."""
        started_s = time.process_time()
        try:
            result = simulate(self.scenario, seed)
        except InputError as error:
            raise InputError(positioned(error.problems, self.file)) from error
        return Replication(seed, result.numbers, not result.steady, time.process_time() - started_s)

    def made_from(self, replication: Replication) -> Fingerprint:
        """Return what a replication rests on."""
        return fingerprint(self.scenario, self.file, replication.numbers["provenance"], deployed=self._deployed)
