"""How many GPUs are needed when: the fewest in each window of a run, against as many all the time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from servesim.errors import InputError
from servesim.experiment.planning.excerpt import between, offered, replayed
from servesim.experiment.planning.observe import Laboratory, Target, targets_of
from servesim.experiment.planning.stretch import Replay, Stretch
from servesim.experiment.seeds import replication_seeds
from servesim.metrics.intervals import CONFIDENCE
from servesim.scenario.load_plan import LoadedPlan
from servesim.scenario.measurement import MeasurementSpec, WarmupSpec
from servesim.scenario.resolve import resolve
from servesim.scenario.schema import Scenario
from servesim.workload.base import Block
from servesim.workload.trace import TraceArrivals

SCHEMA_VERSION = 1
_WINDOWS = 24
_MOST_WINDOWS = 2_000
_LEAD_S = 60.0
_REPLICATIONS = 4
_WHOLE = (0.0, math.inf)

Bounds = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Needs:
    """The fewest replicas by some runs: in each window (None: no number does), for the worst of them, for the run."""

    windows: tuple[int | None, ...]
    static: int
    whole: int | None

    @property
    def mean(self) -> float:
        """Replicas of perfect scaling, on average over the windows that any number can serve."""
        known = [one for one in self.windows if one is not None]
        return math.fsum(known) / len(known) if known else 0.0

    @property
    def saving(self) -> float | None:
        """What perfect scaling saves against as many as the worst window needs."""
        return 1 - self.mean / self.static if self.static else None


@dataclass
class OverTime:
    """The fewest replicas in each window, as if it began with nothing left over from before."""

    scenario: Scenario
    pool: str
    targets: tuple[Target, ...]
    laboratory: Laboratory
    replications: int
    blocks: list[tuple[int, dict[str, Block]]] = field(default_factory=list)
    _stretches: dict[tuple[Bounds, float], Stretch] = field(default_factory=dict)

    def __post_init__(self) -> None:
        seeds = replication_seeds(self.laboratory.seed, self.replications)
        self.blocks = [(seed, offered(self.scenario, seed)) for seed in seeds]

    @property
    def end_s(self) -> float:
        """When the last request of any run arrives."""
        last = (block.arrival_s[-1] for _, run in self.blocks for block in run.values() if block.arrival_s)
        return max(last, default=0.0)

    def needs(self, windows: list[Bounds], runs: Sequence[int], near: Needs | None = None) -> Needs:
        """Return what some runs together need, looked for from what `near` needs on."""
        found: list[int | None] = []
        last = 1
        for index, bounds in enumerate(windows):
            stretch = self.stretch(bounds)
            guess = (near.windows[index] if near else None) or last
            found.append(stretch.fewest(runs, guess) if stretch.requests else 0)
            last = found[-1] or last
        static = self._static(windows, found, runs)
        whole = self.stretch(_WHOLE).fewest(runs, (near and near.whole) or static) if static else None
        return Needs(tuple(found), static, whole)

    def _static(self, windows: list[Bounds], needed: list[int | None], runs: Sequence[int]) -> int:
        """Return the fewest replicas that, always there, meet the SLO in each window that any number can serve.

        No fewer than the worst window needs by itself; what the time before a window leaves over counts here.
        """
        able = [bounds for bounds, size in zip(windows, needed, strict=True) if size]
        size = max((one or 0 for one in needed), default=0)
        most = 2 * size
        for start_s, end_s in able:
            stretch = self.stretch((start_s, end_s), min(_LEAD_S, end_s - start_s))
            while size < most and not stretch.meets(runs, size):
                size += 1
        return size

    def stretch(self, bounds: Bounds, lead_s: float = 0.0) -> Stretch:
        """Return a stretch of time; requests of `lead_s` before it are there, too, but not judged."""
        key = (bounds, lead_s)
        if key not in self._stretches:
            self._stretches[key] = self._cut(*bounds, min(lead_s, bounds[0]))
        return self._stretches[key]

    def _cut(self, start_s: float, end_s: float, lead_s: float) -> Stretch:
        count = sum(len(between(block, start_s, end_s).arrival_s) for _, run in self.blocks for block in run.values())
        measurement = MeasurementSpec(warmup=WarmupSpec(time_s=lead_s))
        replays, busiest = [], 0
        for number, (seed, run) in enumerate(self.blocks):
            part = {name: between(block, start_s - lead_s, end_s) for name, block in run.items()}
            if requests := sum(len(block.arrival_s) for block in part.values()):
                busiest = max(busiest, requests)
                scenario = replayed(self.scenario, part).model_copy(update={"measurement": measurement})
                replays.append(Replay(number, seed, scenario))
        return Stretch(self.laboratory, self.pool, self.targets, replays, count, busiest)


def over_time(
    loaded: LoadedPlan,
    seed: int | None = None,
    window_s: float | None = None,
    replications: int | None = None,
    progress: Callable[[int], None] | None = None,
    workers: int = 1,
) -> dict[str, Any]:
    """Return the replicas needed in each window, as many for the worst, and perfect scaling, ready for JSON.

    Random arrivals have 95 % intervals over the runs: of each window the numbers of replicas that neither surely miss
    nor more than suffice (`Stretch.between`), of sums and savings by what runs need alone and with one left out
    (`over_runs`). Recorded requests have none: one recording does not say how another day would differ.

    Raises InputError for loads that depend on the system, and for too many windows.
    """
    scenario = loaded.scenario
    laboratory = Laboratory(scenario.seed if seed is None else seed, workers, progress)
    recorded = all(isinstance(one.arrivals, TraceArrivals) for one in scenario.workload.classes.values())
    number = replications or (1 if recorded else _REPLICATIONS)
    looked = OverTime(scenario, loaded.pool, targets_of(scenario, loaded.spec.attainment), laboratory, number)
    windows = _windows(looked.end_s, window_s)
    everything = list(range(number))
    needs = looked.needs(windows, everything)
    ranges: list[tuple[int, int | None] | None] = [None] * len(windows)
    alone: list[Needs] = []
    left_out: list[Needs] = []
    if number > 1 and not recorded:
        for index, (bounds, size) in enumerate(zip(windows, needs.windows, strict=True)):
            ranges[index] = looked.stretch(bounds).between(everything, size) if size else None
        alone = [looked.needs(windows, [run], needs) for run in everything]
        left_out = [looked.needs(windows, [run for run in everything if run != gone], needs) for gone in everything]
    sums = _sums(loaded, windows, needs, (alone, left_out))
    return {
        "schema_version": SCHEMA_VERSION,
        "scenario": scenario.name,
        "pool": loaded.pool,
        "seed": laboratory.seed,
        "recorded": recorded,
        "replications": number,
        "simulations": laboratory.simulations,
        "window_s": windows[0][1],
        **sums,
        "windows": [
            {
                "start_s": start_s,
                "end_s": end_s,
                "rate_rps": looked.stretch((start_s, end_s)).requests / number / (end_s - start_s),
                "gpus": None if size is None else size * sums["gpus_per_replica"],
                **_sized(size, found),
            }
            for (start_s, end_s), size, found in zip(windows, needs.windows, ranges, strict=True)
        ],
    }


def _windows(end_s: float, window_s: float | None) -> list[Bounds]:
    width_s = window_s or end_s / _WINDOWS
    if not width_s > 0:
        raise InputError("all requests come at one moment, so that there is nothing to follow over time")
    count = math.ceil(end_s / width_s * (1 - 1e-12))
    if count > _MOST_WINDOWS:
        raise InputError(f"--window {width_s:g}: makes {count:,} windows; at most {_MOST_WINDOWS:,}")
    return [(index * width_s, (index + 1) * width_s) for index in range(count)]


def _sized(size: int | None, found: tuple[int, int | None] | None) -> dict[str, Any]:
    low, high = found or (None, None)
    tie = None if found is None else not low == size == high
    return {"replicas": size, "replicas_low": low, "replicas_high": high, "tie": tie}


def _sums(
    loaded: LoadedPlan, windows: list[Bounds], needs: Needs, others: tuple[list[Needs], list[Needs]]
) -> dict[str, Any]:
    """Return the sums: mean replicas and GPUs, GPU-hours and USD, with the intervals of GPU-hours and saving.

    `others` are the needs of each run alone and with each left out. A saving is taken within each, so it is paired.
    """
    found = next(one for one in resolve(loaded.scenario).pools if one.name == loaded.pool)
    gpus = max(found.plan.gpus_per_replica, 1)
    price = found.usd_per_gpu_hour
    hours = sum(one is not None for one in needs.windows) * windows[0][1] / 3600

    def interval(of: Callable[[Needs], float | None]) -> tuple[float | None, float | None]:
        alone, left_out = others
        return over_runs(of(needs), [of(one) for one in alone], [of(one) for one in left_out])

    def sized(of: Callable[[Needs], float | None]) -> dict[str, float | None] | None:
        replicas = of(needs)
        if replicas is None:
            return None
        low, high = interval(of)
        gpu_hours = replicas * gpus * hours
        return {
            "replicas": replicas,
            "gpus": replicas * gpus,
            "gpu_hours": gpu_hours,
            "gpu_hours_low": None if low is None else max(0.0, low) * gpus * hours,
            "gpu_hours_high": None if high is None else high * gpus * hours,
            "usd": None if price is None else gpu_hours * price,
        }

    low, high = interval(lambda one: one.saving)
    return {
        "gpus_per_replica": gpus,
        "unit": "GPUs" if found.plan.gpus_per_replica else "replicas",
        "static": sized(lambda one: one.static),
        "perfect": sized(lambda one: one.mean),
        "whole_run": sized(lambda one: one.whole),
        "saving_at_most": needs.saving,
        "saving_low": low,
        "saving_high": high,
    }


def over_runs(
    value: float | None, alone: Sequence[float | None], left_out: Sequence[float | None]
) -> tuple[float | None, float | None]:
    """Return the 95 % interval of what all runs say together; None without values of each run `alone` and `left_out`.

    Whole numbers of replicas often do not move when one run is left out, as the jackknife would have it, and what runs
    need alone scatters little where each needs more than all together. So both are asked, and the wider interval is
    given (random groups and jackknife: K. M. Wolter, "Introduction to Variance Estimation", 2nd edition, Springer 2007,
    chapters 2 and 4), with Student's t.
    """
    from scipy.special import stdtrit  # type: ignore[import-untyped]  # takes long to load

    ones, others = ([one for one in values if one is not None] for values in (alone, left_out))
    count = len(alone)
    if value is None or count < 2 or len(ones) < count or len(others) < count:
        return None, None
    groups, jackknife = _squares(ones) / (count - 1) / count, _squares(others) * (count - 1) / count
    half = float(stdtrit(count - 1, 0.5 + CONFIDENCE / 2)) * math.sqrt(max(groups, jackknife))
    return value - half, value + half


def _squares(values: list[float]) -> float:
    mean = math.fsum(values) / len(values)
    return math.fsum((one - mean) ** 2 for one in values)
