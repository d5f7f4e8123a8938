"""A stretch of a run, replayed in several runs with some number of replicas: is its SLO met there, and how surely?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from servesim.experiment.planning.candidates import with_pool
from servesim.experiment.planning.decide import Verdict, estimate
from servesim.experiment.planning.observe import Laboratory, Observation, Target
from servesim.metrics.intervals import CONFIDENCE
from servesim.scenario.schema import Scenario


@dataclass(frozen=True, slots=True)
class Replay:
    """The requests of a stretch in one run: the run's number and seed, and the scenario that has just those."""

    run: int
    seed: int
    scenario: Scenario


@dataclass
class Stretch:
    """The replays of a stretch; each is simulated once for each number of replicas.

    `requests` are those judged in all runs together, `busiest` the most that are replayed in one run.
    """

    laboratory: Laboratory
    pool: str
    targets: tuple[Target, ...]
    replays: list[Replay]
    requests: int
    busiest: int
    seen: dict[tuple[int, int], Observation] = field(default_factory=dict)

    def fewest(self, runs: Sequence[int], near: int) -> int | None:
        """Return the fewest replicas that meet the SLO in some runs together, looked for from `near` on.

        None: no number does, since no more than one for each request can help.
        """
        most = self.busiest
        low, high, step = 0, max(1, min(near, most)), 1
        while not self.meets(runs, high):
            if high == most:
                return None
            low, high, step = high, min(most, high + step), 2 * step
        step = 1
        while low == 0 and high > 1:
            lower = max(1, high - step)
            if not self.meets(runs, lower):
                low = lower
                break
            high, step = lower, 2 * step
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.meets(runs, middle) else (middle, high)
        return high

    def meets(self, runs: Sequence[int], size: int) -> bool:
        """Say whether all requests of some runs together meet the SLO with so many replicas."""
        seen = self._observed(runs, size)
        return all(_holds(_with(seen, target), target) for target in self.targets)

    def between(self, runs: Sequence[int], fewest: int) -> tuple[int, int | None]:
        """Return the fewest replicas that do not surely miss, and the fewest that surely meet the SLO.

        Both by the interval of `decide`, at 95 % for each size. None: not to be told, however many there are.
        """
        low, high = fewest, fewest
        while low > 1 and self._verdict(runs, low - 1) != "misses":
            low -= 1
        while self._verdict(runs, high) != "meets":
            if high >= self.busiest or self._nothing_is_bad(runs, high):
                return low, None
            high += 1
        return low, high

    def _verdict(self, runs: Sequence[int], size: int) -> Verdict:
        seen = self._observed(runs, size)
        alpha = (1 - CONFIDENCE) / 2
        verdicts = [estimate(of, target, alpha).verdict for target in self.targets if (of := _with(seen, target))]
        return "misses" if "misses" in verdicts else "tie" if "tie" in verdicts else "meets"

    def _nothing_is_bad(self, runs: Sequence[int], size: int) -> bool:
        return all(one.good == one.offered for one in self._observed(runs, size))

    def _observed(self, runs: Sequence[int], size: int) -> list[Observation]:
        wanted = [one for one in self.replays if one.run in runs]
        new = [one for one in wanted if (one.run, size) not in self.seen]
        found = self.laboratory.run_each([(self._of_size(one.scenario, size), one.seed) for one in new])
        self.seen |= {(one.run, size): seen for one, seen in zip(new, found, strict=True)}
        return [self.seen[one.run, size] for one in wanted]

    def _of_size(self, scenario: Scenario, size: int) -> Scenario:
        return with_pool(scenario, self.pool, scenario.pools[self.pool].model_copy(update={"replicas": size}))


def _with(seen: list[Observation], target: Target) -> list[Observation]:
    """Return the observations that have requests of the target's class at all."""
    return [one for one in seen if target.name in one.offered]


def _holds(seen: list[Observation], target: Target) -> bool:
    """Say whether a target is met by all requests together; one of which there are none is."""
    if target.attainment is None:
        assert target.itl_s is not None
        gaps = [gap for one in seen if not math.isnan(gap := one.itl_s[target.name])]
        return not gaps or math.fsum(gaps) / len(gaps) <= target.itl_s
    count = sum(one.offered[target.name] for one in seen)
    good = sum(one.good[target.name] for one in seen)
    return good >= target.attainment * count * (1 - 1e-12)
