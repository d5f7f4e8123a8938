"""What can be said of a candidate before it is simulated: lower bounds on its size, upper bounds on its attainment.

A bound never removes a candidate that could meet its SLO: sampled quantities get a margin of MARGIN standard errors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from servesim.catalog import gpu_of, model_of
from servesim.engine.continuous_plan import ContinuousPlan
from servesim.engine.spec import ContinuousBatching
from servesim.engine.station_plan import StationPlan
from servesim.experiment.planning.candidates import Candidate
from servesim.experiment.planning.error_band import error_band
from servesim.experiment.planning.observe import Target
from servesim.experiment.simulate import lengths_of
from servesim.provenance import validated_near
from servesim.rng import stream
from servesim.scenario.schema import ClassSpec, Scenario
from servesim.service_time.base import Deployment, IterationTime
from servesim.service_time.law import IidLaw
from servesim.service_time.physical import TOLERANCE, LeastSeconds
from servesim.workload.base import TimedArrivals
from servesim.workload.load import ClassLoad
from servesim.workload.trace import TraceArrivals

MARGIN = 4.0
_SAMPLE = 20_000
_TIMED = 2_000


@dataclass(frozen=True, slots=True)
class Sample:
    """Requests of one class as they will be offered: rate in requests/s, and tokens of each, shape (n,)."""

    rate_rps: float
    rate_error: float
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Bound:
    """The fewest replicas (or servers) that might do, or that none can: `fewest` is infinite; with the reason."""

    fewest: float
    rule: str = ""
    reason: str = ""


def samples(scenario: Scenario, pool: str) -> dict[str, Sample]:
    """Return a sample of each class that a pool serves and whose requests come whatever the system does."""
    found = {}
    for name, spec in scenario.workload.classes.items():
        if scenario.pool_of(name) == pool and isinstance(spec.arrivals, TimedArrivals | TraceArrivals):
            found[name] = _sample(scenario, name, spec)
    return found


def _sample(scenario: Scenario, name: str, spec: ClassSpec) -> Sample:
    arrival_s: list[float] = []
    prompt: list[int] = []
    output: list[int] = []
    number = spec.num_requests or (None if spec.duration_s else scenario.workload.num_requests)
    duration_s = spec.duration_s or (None if spec.num_requests else scenario.workload.duration_s)
    load = ClassLoad(
        name, spec.arrivals, lengths_of(spec), seed=scenario.seed, num_requests=number, duration_s=duration_s
    )
    for block in load.blocks():
        arrival_s += block.arrival_s
        prompt += block.prompt_tokens
        output += block.output_tokens
        if len(arrival_s) >= _SAMPLE:
            break
    span_s = arrival_s[-1] if arrival_s else 0.0
    steady = spec.arrivals.is_stationary and span_s > 0
    rate = len(arrival_s) / span_s if steady else 0.0  # what has a beginning and an end may drain afterwards
    gaps = np.diff(np.array(arrival_s)) if len(arrival_s) > 2 else np.zeros(1)
    spread = float(gaps.std() / gaps.mean()) if gaps.mean() > 0 else 0.0
    error = spread / math.sqrt(max(len(arrival_s), 1))
    return Sample(rate, error, np.array(prompt, dtype=np.int64), np.array(output, dtype=np.int64))


def bound(candidate: Candidate, offered: dict[str, Sample], targets: tuple[Target, ...]) -> Bound:
    """Return what is known of a candidate before simulating it."""
    alone = _alone(candidate, offered, targets)
    return alone if alone is not None else _stability(candidate, offered, targets)


def _stability(candidate: Candidate, offered: dict[str, Sample], targets: tuple[Target, ...]) -> Bound:
    """Return the size below which the requests that must be good are more work than can ever be done.

    Only the least demanding ones of each class are counted, up to its attainment: a system may lose the others.
    """
    load = margin = 0.0
    asked = {target.name: target.attainment for target in targets if target.attainment is not None}
    for name, sample in offered.items():
        work_s, error = _work(candidate, name, sample, asked.get(name, 0.0))
        load += sample.rate_rps * work_s
        margin += sample.rate_rps * work_s * MARGIN * math.hypot(error, sample.rate_error)
    fewest = max(load - margin, 0.0)
    servers = candidate.of_size(1).pools[candidate.pool].engine
    per_unit = getattr(servers, "servers", 1) if candidate.sized_by == "replicas" else 1
    if not isinstance(per_unit, int):
        return Bound(1)
    needed = math.floor(fewest / per_unit) + 1
    what = candidate.sized_by
    reason = f"the work offered keeps {fewest / per_unit:.4g} {what} busy without a pause, {needed} are needed at least"
    return Bound(needed, "stability", reason)


def _work(candidate: Candidate, name: str, sample: Sample, share: float) -> tuple[float, float]:
    """Return the least seconds of a replica per request, `share` of them done, and its relative standard error."""
    pool = candidate.scenario.pools[candidate.pool]
    if isinstance(candidate.plan, StationPlan):
        if not isinstance(pool.service_time, IidLaw):
            return 0.0, 0.0
        work_s = pool.service_time.draw(stream(0, "plan", "work", name), _SAMPLE)
    elif isinstance(candidate.plan, ContinuousPlan) and pool.gpu is not None and pool.model is not None:
        limits = LeastSeconds(_deployment(candidate, candidate.plan))
        prompt, output = sample.prompt_tokens.astype(float), sample.output_tokens.astype(float)
        computed, read = limits.work_s(prompt, output)
        work_s = TOLERANCE * (computed if computed.mean() >= read.mean() else read)
    else:
        return 0.0, 0.0
    work_s = np.where(work_s <= np.quantile(work_s, share), work_s, 0.0) if len(work_s) else np.zeros(1)
    mean = float(work_s.mean())
    return mean, float(work_s.std()) / mean / math.sqrt(len(work_s)) if mean > 0 else 0.0


def _deployment(candidate: Candidate, plan: ContinuousPlan) -> Deployment:
    pool, engine = candidate.scenario.pools[candidate.pool], plan.engine
    assert isinstance(engine, ContinuousBatching)
    assert pool.gpu is not None
    assert pool.model is not None
    return Deployment(
        gpu_of(pool.gpu),
        model_of(pool.model),
        pool.backend,
        engine.tensor_parallel_size,
        engine.quantization,
        engine.kv_cache_dtype,
        plan.settings.max_num_batched_tokens,
        plan.settings.max_num_seqs,
    )


def _alone(candidate: Candidate, offered: dict[str, Sample], targets: tuple[Target, ...]) -> Bound | None:
    """Return that no size can do, if even requests that have a replica to themselves miss too often."""
    plan = candidate.plan
    if not isinstance(plan, ContinuousPlan):
        return None
    band = error_band(plan.origin.facts, validated_near(candidate.scenario.pools[candidate.pool], plan))
    fast = 1.0 if band is None else band[1]
    for target in targets:
        sample = offered.get(target.name)
        if target.attainment is None or sample is None or not len(sample.prompt_tokens):
            continue
        slo = candidate.scenario.workload.classes[target.name].slo
        good = {"fit max_model_len": sample.prompt_tokens + sample.output_tokens <= plan.settings.max_model_len}
        prompt, output = sample.prompt_tokens[:_TIMED].tolist(), sample.output_tokens[:_TIMED].tolist()
        if slo.ttft_s is not None:
            budget = plan.settings.max_num_batched_tokens
            good["have their first token in time"] = (
                fast * np.array([_prefill_s(plan.times, tokens, budget) for tokens in prompt]) <= slo.ttft_s
            )
        if slo.tpot_s is not None:
            paces = [
                _decode_s(plan.times, tokens) if out > 1 else 0.0 for tokens, out in zip(prompt, output, strict=True)
            ]
            good["get tokens fast enough"] = fast * np.array(paces) <= slo.tpot_s
        for what, each in good.items():
            share = float(each.mean())
            margin = MARGIN * math.sqrt(max(share * (1 - share), 1 / len(each)) / len(each))
            if share + margin < target.attainment:
                quick = "" if fast == 1.0 else f" and with times x {fast:.3g}"
                reason = (
                    f"even alone on a replica{quick}, only {100 * share:.1f} % of the requests of {target.name} "
                    f"{what}, {100 * target.attainment:g} % are asked for"
                )
                return Bound(math.inf, "roofline" if candidate.estimated else "alone", reason)
    return None


def _prefill_s(times: IterationTime, prompt_tokens: int, budget: int) -> float:
    """Return the device seconds of a prompt's prefill without company, in chunks of the budget."""
    done, seconds = 0, 0.0
    while done < prompt_tokens:
        chunk = min(budget, prompt_tokens - done)
        seconds += times.mixed_s(0, 0, 1, chunk, chunk * done + chunk * (chunk + 1) // 2)
        done += chunk
    return seconds


def _decode_s(times: IterationTime, context_tokens: int) -> float:
    base_s, slope_s, _ = times.decode_line(1, context_tokens)
    return base_s + slope_s * context_tokens


def busiest_rate_rps(scenario: Scenario, pool: str, window_s: float) -> tuple[float, float]:
    """Return (mean, highest) requests/s offered to a pool, the latter over windows of `window_s` of the run."""
    counts: dict[int, int] = {}
    total, last_s = 0, 0.0
    for name, spec in scenario.workload.classes.items():
        if scenario.pool_of(name) != pool or not isinstance(spec.arrivals, TimedArrivals | TraceArrivals):
            continue
        number = spec.num_requests or (None if spec.duration_s else scenario.workload.num_requests)
        duration_s = spec.duration_s or (None if spec.num_requests else scenario.workload.duration_s)
        load = ClassLoad(
            name, spec.arrivals, lengths_of(spec), seed=scenario.seed, num_requests=number, duration_s=duration_s
        )
        for block in islice(load.blocks(), 10_000):
            for at_s in block.arrival_s:
                counts[int(at_s // window_s)] = counts.get(int(at_s // window_s), 0) + 1
            total += len(block.arrival_s)
            last_s = max(last_s, block.arrival_s[-1])
    if not last_s:
        return math.nan, math.nan
    whole = max((count for window, count in counts.items() if (window + 1) * window_s <= last_s), default=0)
    mean = total / last_s
    return mean, max(whole / window_s, mean)
