"""Independent replications of one scenario: the same system, other random numbers."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from servesim.errors import InputError
from servesim.experiment.combine import combined, overload_refusal, replication_intervals, thin_tail
from servesim.experiment.result import Result
from servesim.experiment.seeds import replication_seeds
from servesim.experiment.simulate import Progress, checked_scenario, checked_seed, simulate
from servesim.metrics.run_intervals import correlation_times
from servesim.scenario.schema import Scenario

Told = Callable[[int, int], None]
Times = dict[str, dict[str, float]]
_MOST = 100_000


class Replications:
    """What happened in independent replications. Only the first one's record is kept; any can be made again.

    `summaries` and `overloaded` have one entry per replication, `seeds` the seed that recreates it.
    """

    def __init__(
        self,
        scenario: Scenario,
        first: Result,
        summaries: list[dict[str, Any]],
        overloaded: list[bool],
        times: list[Times],
    ) -> None:
        self._asked = scenario
        self.first = first
        self.scenario = first.scenario
        self.summaries = summaries
        self.overloaded_each = overloaded
        self._times = times
        self.stopping: dict[str, Any] | None = None

    def __len__(self) -> int:
        return len(self.summaries)

    @property
    def seeds(self) -> list[int]:
        """The seed of each replication."""
        return [summary["seed"] for summary in self.summaries]

    @property
    def overloaded(self) -> bool:
        """True if most replications were."""
        return 2 * sum(self.overloaded_each) > len(self)

    def refusal(self, *path: str) -> str:
        """Say why a number of the summary, such as `("classes", "all", "e2e_s", "p99")`, can have no interval.

        The system is overloaded, or a percentile's tail too thin; empty if neither is so.
        """
        if found := overload_refusal(self.overloaded_each):
            return found
        if len(path) != 4 or path[0] != "classes" or path[2] not in next(iter(self._times[0].values())):
            return ""
        _, name, latency, kind = path
        completed = [one["classes"][name]["completed"] for one in self.summaries]
        return thin_tail(kind, completed, [times[name][latency] for times in self._times])

    @cached_property
    def summary(self) -> dict[str, Any]:
        """One summary of all: counts are totals, all else means; with intervals and seeds. "why" is replication 0's."""
        return {**self.numbers, "why": self.first.summary["why"]}

    @cached_property
    def numbers(self) -> dict[str, Any]:
        """The summary without "why", which costs more."""
        classes = self.scenario.workload.classes.items()
        whole = combined(self.summaries, {name: spec.slo.attainment for name, spec in classes})
        stopping = {} if self.stopping is None else {"stopping": self.stopping}
        intervals = replication_intervals(self.summaries, self.overloaded_each, self._times)
        return {
            **whole,
            "replications": {"number": len(self), "seeds": self.seeds, **stopping},
            "intervals": {**intervals, "calibration": self.first.calibration_error},
        }

    def result(self, replication: int) -> Result:
        """Return one replication in full; all but replication 0 are simulated again."""
        if not 0 <= replication < len(self):
            raise InputError(f"there is no replication {replication}; there are 0 to {len(self) - 1}")
        return self.first if not replication else simulate(self._asked, self.seeds[replication])

    def write(
        self,
        directory: str | Path,
        summary: dict[str, Any] | None = None,
        more: Callable[[Path], None] | None = None,
    ) -> None:
        """Write the files of replication 0 (see Result.write) with the summary of all replications."""
        self.first.write(directory, self.summary if summary is None else summary, more)


def replicate(
    scenario: Scenario | str | Path,
    number: int,
    seed: int | None = None,
    workers: int = 1,
    progress: Told | None = None,
    first_progress: Progress | None = None,
) -> Replications:
    """Run `number` independent replications, on `workers` local processes; the result does not depend on these.

    `seed` replaces the scenario's; replication r has `replication_seeds(seed, number)[r]`. `progress(done, of)` is
    called as replications end, `first_progress` as `simulate` calls its own during the first one. Raises what
    `simulate` raises.
    """
    runs = Runs(scenario, seed, workers, first_progress)
    runs.extend(checked_number(number, "replications"), progress)
    return runs.replications()


class Runs:
    """Replications made so far, of which there can be more."""

    def __init__(
        self,
        scenario: Scenario | str | Path,
        seed: int | None,
        workers: int,
        first_progress: Progress | None = None,
    ) -> None:
        self._scenario = checked_scenario(scenario)
        self._seed = self._scenario.seed if seed is None else checked_seed(seed)
        self._workers = checked_number(workers, "workers")
        # The first one stays in this process, whose memory its record is in, and finds what is wrong with the scenario.
        self._first = simulate(self._scenario, self._seed, first_progress)
        self.summaries = [self._first.numbers]
        self.overloaded = [not self._first.steady]
        self.times = [_times(self._first)]

    def extend(self, number: int, progress: Told | None = None) -> None:
        """Run until there are `number` replications."""
        tell = progress or (lambda done, of: None)
        seeds = replication_seeds(self._seed, number)[len(self.summaries) :]
        tell(len(self.summaries), number)
        for summary, overloaded, times in _each(self._scenario, seeds, self._workers):
            self.summaries.append(summary)
            self.overloaded.append(overloaded)
            self.times.append(times)
            tell(len(self.summaries), number)

    def replications(self, number: int | None = None) -> Replications:
        """Return what there is, the first `number` of them if given."""
        return Replications(
            self._scenario, self._first, self.summaries[:number], self.overloaded[:number], self.times[:number]
        )


def _each(scenario: Scenario, seeds: list[int], workers: int) -> Any:
    """Yield each seed's summary, and whether it was overloaded, in order."""
    if workers == 1 or len(seeds) < 2:
        return (_numbers(scenario, seed) for seed in seeds)
    from joblib import Parallel, delayed  # type: ignore[import-untyped]

    parallel = Parallel(n_jobs=min(workers, len(seeds)), return_as="generator")
    return parallel(delayed(_numbers)(scenario, seed) for seed in seeds)


def _numbers(scenario: Scenario, seed: int) -> tuple[dict[str, Any], bool, Times]:
    result = simulate(scenario, seed)
    return result.numbers, not result.steady, _times(result)


def _times(result: Result) -> Times:
    return correlation_times(result.measured, list(result.numbers["classes"]))


def checked_number(number: int, what: str) -> int:
    """Return a count of 1 or more."""
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= _MOST:
        raise InputError(f"{what}: a whole number from 1 to {_MOST:,}, not {number!r}")
    return number
