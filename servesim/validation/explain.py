"""Which assumption explains the gap: the replay again with one thing changed at a time, ranked by what that closes.

Each candidate is tried at a few values, and the best one is kept. A number that closes a gap is a hint where to
measure, not a calibration: several candidates can close the same gap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from servesim.engine.spec import ContinuousBatching
from servesim.errors import InputError, LimitReached
from servesim.scenario.resolve import resolve
from servesim.scenario.schema import Scenario
from servesim.service_time.base import IterationTimeSpec
from servesim.service_time.stretched import Stretched
from servesim.validation.errors import gap, table
from servesim.validation.replay import replay
from servesim.validation.runs import Run

HOST_S = (0.0, 0.0005, 0.001, 0.002, 0.004, 0.008)
ADMISSION_S = (0.0, 0.002, 0.005, 0.01, 0.02, 0.05)
NETWORK_S = (0.001, 0.005, 0.02)
BLOCK_SHARES = (0.8, 0.9, 0.95, 1.05, 1.1, 1.25)
SPEED_FACTORS = (0.8, 0.9, 0.95, 0.98, 1.02, 1.05, 1.1, 1.25)


@dataclass(frozen=True, slots=True)
class Explanation:
    """One assumption at its best value: the gap that is left, and the share of the gap that it closes (or opens)."""

    assumption: str
    value: str
    left: float
    closed: float


@dataclass(frozen=True, slots=True)
class Trial:
    """A candidate: what is changed, to what, in which scenario."""

    assumption: str
    value: str
    scenario: Scenario


def explain(
    runs: Sequence[Run],
    simulated: Sequence[Run],
    scenario: Scenario,
    users: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Explanation]:
    """Return the assumptions by the share of the gap they close, the best first; those that close nothing last."""
    base, lost = gap(table(runs, simulated)), _lost(simulated)
    trials = list(candidates(scenario))
    best: dict[str, Explanation] = {}
    for done, trial in enumerate(trials, 1):
        try:
            changed = [replay(run, trial.scenario, users) for run in runs]
        except (InputError, LimitReached):
            continue  # such a deployment cannot be
        finally:
            if progress is not None:
                progress(done, len(trials))
        if _lost(changed) > lost:
            continue  # what it does not serve could only look better
        left = gap(table(runs, changed))
        known = best.get(trial.assumption)
        if known is None or left < known.left:
            best[trial.assumption] = Explanation(trial.assumption, trial.value, left, _closed(left, base))
    wave = _start_up(runs, simulated, base)
    found = [*best.values(), *([] if wave is None else [wave])]
    return sorted(found, key=lambda one: -one.closed)


def _lost(runs: Sequence[Run]) -> int:
    """Return how many requests have no latency at all."""
    return sum(int((np.isnan(run.ttft_s) & np.isnan(run.e2e_s)).sum()) for run in runs)


def candidates(scenario: Scenario) -> Iterator[Trial]:
    """Yield every change worth trying on the pool of the scenario's first class."""
    name = scenario.pool_of(next(iter(scenario.workload.classes)))
    pool = scenario.pools[name]
    if isinstance(pool.service_time, IterationTimeSpec):
        for factor in SPEED_FACTORS:
            times = Stretched(times=pool.service_time, factor=factor)
            changed = pool.model_copy(update={"service_time": times})
            yield Trial("service times", f"x {factor:g}", _with_pool(scenario, name, changed))
    for seconds in NETWORK_S:
        client = scenario.client.model_copy(
            update={"clock": "client", "request_network_s": seconds / 2, "response_network_s": seconds / 2}
        )
        changed_client = scenario.model_copy(update={"client": client})
        yield Trial("clock boundary", f"client, network {1e3 * seconds:g} ms", changed_client)
    filled = resolve(scenario).scenario.pools[name].engine
    if not (isinstance(pool.engine, ContinuousBatching) and isinstance(filled, ContinuousBatching)):
        return
    for assumption, field, value, words in _settings(filled):
        engine = pool.engine.model_copy(update={field: value})
        yield Trial(assumption, words, _with_pool(scenario, name, pool.model_copy(update={"engine": engine})))


def _settings(engine: ContinuousBatching) -> Iterator[tuple[str, str, object, str]]:
    """Yield (assumption, engine setting, value, words) for what differs from the engine as it is."""
    for seconds in HOST_S:
        if seconds != engine.host_time_s:
            yield "host time per iteration", "host_time_s", seconds, f"{1e3 * seconds:g} ms"
    for seconds in ADMISSION_S:
        if seconds != engine.admission_time_s:
            yield "admission time per request", "admission_time_s", seconds, f"{1e3 * seconds:g} ms"
    if isinstance(engine.num_gpu_blocks, int):
        for share in BLOCK_SHARES:
            blocks = max(2, round(share * engine.num_gpu_blocks))
            yield "KV blocks", "num_gpu_blocks", blocks, f"{blocks} ({100 * (share - 1):+.0f} %)"
    for assumption, field in (
        ("prefix-cache hits on resume", "resume_from_cache"),
        ("one-ahead scheduling", "async_scheduling"),
        ("admission by whole sequence", "scheduler_reserve_full_isl"),
    ):
        value = not getattr(engine, field)
        yield assumption, field, value, "on" if value else "off"


def _with_pool(scenario: Scenario, name: str, pool: object) -> Scenario:
    return scenario.model_copy(update={"pools": {**scenario.pools, name: pool}})


def _start_up(runs: Sequence[Run], simulated: Sequence[Run], base: float) -> Explanation | None:
    """Return how much smaller the gap is without the first requests: the wave of a start that the replay has not."""
    most = max(int(np.sum(run.arrival_s <= run.arrival_s[0] + 1.0)) for run in runs)
    first = max(most, min(len(run) for run in runs) // 20)
    if min(len(run) for run in runs) < 4 * first:
        return None
    left = gap(
        table([run.select(slice(first, None)) for run in runs], [s.select(slice(first, None)) for s in simulated])
    )
    return Explanation("start-up wave", f"without the first {first} requests", left, _closed(left, base))


def _closed(left: float, base: float) -> float:
    """Return the share of the gap that is closed; where there is none, a change can only open one."""
    return 1.0 - left / base if base > 0 else -left
