"""How far a simulated run is from a measured one, and how far the measurement would be from itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from servesim.validation.runs import Floats, Ints, Run

LATENCIES = ("ttft_s", "tpot_s", "e2e_s")
RESAMPLES = 200
BLOCKS = 20
"""A run's requests are resampled in blocks of a twentieth of it: long enough to keep a queue's ups and downs."""

LEAST_REQUESTS = 10
"""Of fewer values resampling says nothing: one value would have no noise at all."""


@dataclass(frozen=True, slots=True)
class Row:
    """One statistic: both values, error = simulated / measured - 1, and the measurement's own noise (a share)."""

    metric: str
    measured: float
    simulated: float
    noise: float | None

    @property
    def error(self) -> float:
        """Simulated / measured - 1."""
        return self.simulated / self.measured - 1.0 if self.measured else math.nan


def statistics(run: Run) -> dict[str, float]:
    """Return mean, p50, p90 and p99 of the run's latencies and its throughputs; what it cannot say is left out."""
    return _latencies(run) | _throughputs(run)


def _latencies(run: Run) -> dict[str, float]:
    found: dict[str, float] = {}
    for name in LATENCIES:
        values = getattr(run, name)
        if not len(values := values[~np.isnan(values)]):
            continue
        found |= {
            f"{name}.mean": float(values.mean()),
            **{f"{name}.p{q}": float(np.quantile(values, q / 100)) for q in (50, 90, 99)},
        }
    if run.itl is not None:
        found |= {f"itl_s.{name}": value for name, value in run.itl.items()}
    return found


def _throughputs(run: Run) -> dict[str, float]:
    """Return what was served per second: the requests of which a latency is known."""
    if np.isnan(run.e2e_s).all():
        return {}
    span_s, served = run.makespan_s, ~(np.isnan(run.ttft_s) & np.isnan(run.e2e_s))
    return {
        "requests_per_s": float(served.sum()) / span_s,
        "output_tokens_per_s": float(run.output_tokens[served].sum()) / span_s,
    }


def per_request(measured: Run, simulated: Run) -> dict[str, float]:
    """Return the median of |simulated / measured - 1| over the requests, each against itself."""
    found = {}
    for name in ("ttft_s", "tpot_s", "e2e_s"):
        ours, theirs = getattr(simulated, name), getattr(measured, name)
        valid = ~np.isnan(ours) & ~np.isnan(theirs) & (theirs > 0)
        if valid.any():
            found[name] = float(np.median(np.abs(ours[valid] / theirs[valid] - 1.0)))
    return found


def noise(runs: Sequence[Run], seed: int = 0) -> dict[str, float]:
    """Return how far each statistic scatters by itself, as a share of its value (one standard deviation).

    Repeats of the same run show it directly. Of one run it is the standard error of a circular block bootstrap over its
    requests (Politis and Romano, 1992), which sees no drift between runs, so that it is rather too small. Token gaps
    and throughput of one run are not resampled: requests cannot be put together to another run.
    """
    if len(runs) > 1:
        tables = [statistics(run) for run in runs]
        return {
            name: float(np.std(values, ddof=1) / np.mean(values))
            for name in tables[0]
            if len(values := [table[name] for table in tables if name in table]) == len(tables)
        }
    run = runs[0]
    rng = np.random.default_rng(seed)
    base = statistics(run)
    draws = [statistics(run.select(_resampled(len(run), rng))) for _ in range(RESAMPLES)]
    return {
        name: float(np.std([draw[name] for draw in draws if name in draw]) / value)
        for name, value in base.items()
        if value > 0 and _values(run, name.split(".")[0]) >= LEAST_REQUESTS
    }


def _values(run: Run, name: str) -> int:
    """Return of how many requests a latency is known; 0 for what is no latency of single requests."""
    return int(np.isfinite(getattr(run, name)).sum()) if name in LATENCIES else 0


def _resampled(count: int, rng: np.random.Generator) -> Ints:
    length = max(1, count // BLOCKS)
    starts = rng.integers(0, count, size=-(-count // length))
    return np.asarray((starts[:, None] + np.arange(length)).ravel()[:count] % count, dtype=np.int64)


def table(measured: Sequence[Run], simulated: Sequence[Run]) -> list[Row]:
    """Return one row per statistic; of several repeats the means of both sides.

    A latency is compared over the requests of which both sides have it: measured, and served in the simulation.
    """
    own_noise = noise(measured)
    pairs = list(zip(measured, simulated, strict=True))
    theirs = _means([_latencies(_known_to(ours, run)) | _throughputs(run) for run, ours in pairs])
    ours = _means([_latencies(_known_to(run, ours)) | _throughputs(ours) for run, ours in pairs])
    return [Row(name, theirs[name], ours[name], own_noise.get(name)) for name in theirs if name in ours]


def _known_to(other: Run, run: Run) -> Run:
    """Return `run` without the latencies that `other` does not have."""
    ttft_s = np.where(np.isnan(other.ttft_s), np.nan, run.ttft_s)
    return replace(run, ttft_s=ttft_s, e2e_s=np.where(np.isnan(other.e2e_s), np.nan, run.e2e_s))


def _means(tables: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([one[name] for one in tables])) for name in tables[0] if all(name in t for t in tables)}


def gap(rows: Sequence[Row]) -> float:
    """Return the mean of |log(simulated / measured)| over the latencies: one number for how far off a replay is."""
    ratios = [row.simulated / row.measured for row in rows if row.metric.split(".")[0] in LATENCIES]
    logs: Floats = np.abs(np.log(np.maximum(ratios, 1e-9)))
    return float(logs.mean()) if len(ratios) else math.nan
