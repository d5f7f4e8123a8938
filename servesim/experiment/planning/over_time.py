"""How many GPUs are needed when: the fewest in each window of a run, against as many all the time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from servesim.errors import InputError
from servesim.experiment.planning.candidates import with_pool
from servesim.experiment.planning.excerpt import between, offered, replayed
from servesim.experiment.planning.observe import Laboratory, Observation, Target, targets_of
from servesim.experiment.seeds import replication_seeds
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


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of the run: its mean rate, and the fewest replicas that meet the SLO (None: no number does)."""

    start_s: float
    end_s: float
    rate_rps: float
    replicas: int | None


Replays = list[tuple[int, Scenario]]


@dataclass
class OverTime:
    """The fewest replicas in each window, as if it began with nothing left over from before."""

    scenario: Scenario
    pool: str
    targets: tuple[Target, ...]
    laboratory: Laboratory
    replications: int
    runs: list[tuple[int, dict[str, Block]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        seeds = replication_seeds(self.laboratory.seed, self.replications)
        self.runs = [(seed, offered(self.scenario, seed)) for seed in seeds]

    @property
    def end_s(self) -> float:
        """When the last request of any run arrives."""
        last = (block.arrival_s[-1] for _, run in self.runs for block in run.values() if block.arrival_s)
        return max(last, default=0.0)

    def window(self, start_s: float, end_s: float, near: int) -> Window:
        """Return the fewest replicas for one window, looked for from `near` on."""
        replays, count, busiest = self._stretch(start_s, end_s, 0.0)
        if not count:
            return Window(start_s, end_s, 0.0, 0)
        fewest = self._fewest(lambda size: self._meets(replays, size), busiest, near)
        return Window(start_s, end_s, count / len(self.runs) / (end_s - start_s), fewest)

    def static(self, windows: list[Window]) -> int:
        """Return the fewest replicas that, always there, meet the SLO in each window that any number can serve.

        No fewer than the worst window needs by itself; what the time before a window leaves over counts here.
        """
        able = [one for one in windows if one.replicas]
        size = max((one.replicas or 0 for one in able), default=0)
        most = 2 * size
        for one in able:
            replays, _, _ = self._stretch(one.start_s, one.end_s, min(_LEAD_S, one.end_s - one.start_s))
            while size < most and not self._meets(replays, size):
                size += 1
        return size

    def whole(self, near: int) -> int | None:
        """Return the fewest replicas with which the run as a whole meets the SLO, bad windows and good together."""
        replays, _, busiest = self._stretch(0.0, math.inf, 0.0)
        return self._fewest(lambda size: self._meets(replays, size), busiest, near)

    def _stretch(self, start_s: float, end_s: float, lead_s: float) -> tuple[Replays, int, int]:
        """Return the replays of a stretch, the requests in it, and the most in one run.

        Requests of `lead_s` before it are there, too, but not judged.
        """
        lead_s = min(lead_s, start_s)
        count = sum(len(between(block, start_s, end_s).arrival_s) for _, run in self.runs for block in run.values())
        parts = [
            (seed, {name: between(block, start_s - lead_s, end_s) for name, block in run.items()})
            for seed, run in self.runs
        ]
        parts = [(seed, part) for seed, part in parts if any(block.arrival_s for block in part.values())]
        busiest = max((sum(len(block.arrival_s) for block in part.values()) for _, part in parts), default=0)
        measurement = MeasurementSpec(warmup=WarmupSpec(time_s=lead_s))
        replays = [
            (seed, replayed(self.scenario, part).model_copy(update={"measurement": measurement}))
            for seed, part in parts
        ]
        return replays, count, busiest

    @staticmethod
    def _fewest(meets: Callable[[int], bool], most: int, near: int) -> int | None:
        """Return the smallest size that meets the SLO: no more than one for each request can help."""
        low, high, step = 0, max(1, min(near, most)), 1
        while not meets(high):
            if high == most:
                return None
            low, high, step = high, min(most, high + step), 2 * step
        step = 1
        while low == 0 and high > 1:
            lower = max(1, high - step)
            if not meets(lower):
                low = lower
                break
            high, step = lower, 2 * step
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if meets(middle) else (middle, high)
        return high

    def _meets(self, replays: Replays, size: int) -> bool:
        seen = self.laboratory.run_each([(self._of_size(scenario, size), seed) for seed, scenario in replays])
        return all(_holds([one for one in seen if target.name in one.offered], target) for target in self.targets)

    def _of_size(self, scenario: Scenario, size: int) -> Scenario:
        return with_pool(scenario, self.pool, scenario.pools[self.pool].model_copy(update={"replicas": size}))


def _holds(seen: list[Observation], target: Target) -> bool:
    """Say whether a target is met by all requests together; one of which there are none is."""
    if target.attainment is None:
        assert target.itl_s is not None
        gaps = [gap for one in seen if not math.isnan(gap := one.itl_s[target.name])]
        return not gaps or math.fsum(gaps) / len(gaps) <= target.itl_s
    count = sum(one.offered[target.name] for one in seen)
    good = sum(one.good[target.name] for one in seen)
    return good >= target.attainment * count * (1 - 1e-12)


def over_time(
    loaded: LoadedPlan,
    seed: int | None = None,
    window_s: float | None = None,
    replications: int | None = None,
    progress: Callable[[int], None] | None = None,
    workers: int = 1,
) -> dict[str, Any]:
    """Return the replicas needed in each window, as many for the worst, and perfect scaling, ready for JSON.

    Raises InputError for loads that depend on the system, and for too many windows.
    """
    scenario = loaded.scenario
    laboratory = Laboratory(scenario.seed if seed is None else seed, workers, progress)
    traced = all(isinstance(one.arrivals, TraceArrivals) for one in scenario.workload.classes.values())
    number = replications or (1 if traced else _REPLICATIONS)
    looked = OverTime(scenario, loaded.pool, targets_of(scenario, loaded.spec.attainment), laboratory, number)
    end_s = looked.end_s
    width_s = window_s or end_s / _WINDOWS
    if not width_s > 0:
        raise InputError("all requests come at one moment, so that there is nothing to follow over time")
    count = math.ceil(end_s / width_s * (1 - 1e-12))
    if count > _MOST_WINDOWS:
        raise InputError(f"--window {width_s:g}: makes {count:,} windows; at most {_MOST_WINDOWS:,}")
    windows: list[Window] = []
    near = 1
    for index in range(count):
        bounds = index * width_s, (index + 1) * width_s
        windows.append(looked.window(*bounds, near))
        near = windows[-1].replicas or near
    static = looked.static(windows)
    whole = looked.whole(static) if static else None
    return _answer(loaded, windows, width_s, (static, whole), laboratory, number)


def _answer(
    loaded: LoadedPlan,
    windows: list[Window],
    width_s: float,
    always: tuple[int, int | None],
    laboratory: Laboratory,
    number: int,
) -> dict[str, Any]:
    found = next(one for one in resolve(loaded.scenario).pools if one.name == loaded.pool)
    gpus = max(found.plan.gpus_per_replica, 1)
    hours = width_s / 3600
    known = [one.replicas for one in windows if one.replicas is not None]
    peak, whole = always
    price = found.usd_per_gpu_hour

    def sized(mean_replicas: float) -> dict[str, float | None]:
        gpu_hours = mean_replicas * gpus * len(known) * hours
        return {
            "replicas": mean_replicas,
            "gpus": mean_replicas * gpus,
            "gpu_hours": gpu_hours,
            "usd": None if price is None else gpu_hours * price,
        }

    mean = math.fsum(known) / len(known) if known else 0.0
    return {
        "schema_version": SCHEMA_VERSION,
        "scenario": loaded.scenario.name,
        "pool": loaded.pool,
        "seed": laboratory.seed,
        "replications": number,
        "simulations": laboratory.simulations,
        "window_s": width_s,
        "gpus_per_replica": gpus,
        "unit": "GPUs" if found.plan.gpus_per_replica else "replicas",
        "windows": [
            {"start_s": one.start_s, "end_s": one.end_s, "rate_rps": one.rate_rps, "replicas": one.replicas,
             "gpus": None if one.replicas is None else one.replicas * gpus}
            for one in windows
        ],
        "static": sized(peak),
        "perfect": sized(mean),
        "whole_run": None if whole is None else sized(whole),
        "saving_at_most": None if not peak else 1 - mean / peak,
    }  # fmt: skip
