"""Plans of request-level batching: how long batches take, checked and looked up."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING

import numpy as np

from servesim.engine.base import HostTime, Plan, Replica, Site, Surroundings
from servesim.engine.deployment_checks import refuse_illegal, refuse_impossible_times, time_warnings
from servesim.engine.request_batching_replica import BatchingReplica, Seconds
from servesim.errors import InputError, Problem
from servesim.metrics.chunks import Columns
from servesim.metrics.record import Own, OwnCompute, PoolRecord
from servesim.service_time.base import BatchTime, BatchTimeSpec, Deployment, IterationTimeSpec, ServiceTimeSpec
from servesim.service_time.law import IidLaw
from servesim.service_time.whole_batch import WholeBatch

if TYPE_CHECKING:
    from servesim.engine.request_batching import RequestBatching

_MOST_SEQS = 1024


class RequestBatchingPlan(Plan):
    """Request-level batching, ready to be built: `law` draws the time of a batch, or `times` knows it."""

    semantics = "whole requests in batches, one batch per instance"
    request_level = True
    forms_batches = True

    def __init__(
        self, engine: RequestBatching, law: IidLaw | None, times: BatchTime | None, warnings: list[str]
    ) -> None:
        self.engine = engine
        self._spec = engine
        self._law = law
        self._times = times
        known = times or law
        assert known is not None
        self.origin = known.origin
        if times is not None:
            self.validity = times.validity
        self.gpus_per_replica = engine.tensor_parallel_size
        self.warnings = tuple(warnings)

    @property
    def host_time(self) -> HostTime:
        """Iteration times leave the host out; batch times are measured or given with it."""
        return HostTime("left out" if isinstance(self._times, WholeBatch) else "included", 0.0)

    def builder(self, around: Surroundings, reference: bool) -> Callable[[int], Replica]:
        """Return what makes replicas; the engine is its own definition, so `reference` changes nothing."""
        seconds = self._seconds(around)
        return lambda index: BatchingReplica(self._spec, around, index, seconds, self._times)

    def _seconds(self, around: Surroundings) -> Seconds:
        if self._times is not None:
            return self._times.batch_s
        assert self._law is not None
        draw = self._law.draws(around.stream("service", "batches")).__next__
        return lambda batch_size, prompt_tokens, output_tokens: draw()

    def own_compute(self, pool: PoolRecord) -> OwnCompute:
        """Return the time of a batch of one; of a batch that takes a random time, whatever its size, all of it."""
        times = self._times
        if times is None:
            return _time_in_batch
        return lambda done: _alone(times, done)


def _time_in_batch(done: Columns) -> Own:
    seconds = done["finish_s"] - done["first_scheduled_s"]
    return Own(seconds, np.zeros(len(seconds)))


def _alone(times: BatchTime, done: Columns) -> Own:
    """Ask once for each pair of lengths that occurs."""
    prompt, output = (done[name].astype(np.int64) for name in ("prompt_tokens", "output_tokens"))
    base = int(output.max(initial=0)) + 1
    pairs, which = np.unique(prompt * base + output, return_inverse=True)
    seconds = np.array([times.batch_s(1, *divmod(pair, base)) for pair in pairs.tolist()], dtype=np.float64)
    return Own(seconds[which], np.zeros(len(which)))


def plan_of(engine: RequestBatching, site: Site) -> RequestBatchingPlan:
    """Return the plan; raise InputError with all problems found."""
    spec: ServiceTimeSpec = site.times(IidLaw, BatchTimeSpec, IterationTimeSpec)
    if isinstance(spec, IidLaw):
        if engine.batcher.needs_prediction:
            message = f"batcher {engine.batcher.kind!r} predicts how long batches take; {spec.kind!r} is random"
            raise InputError(Problem(message, f"pools.{site.pool}.engine.batcher.kind"))
        return RequestBatchingPlan(engine, spec, None, [])
    largest = engine.batcher.largest
    deployment = Deployment(
        gpu=site.gpu,
        model=site.model,
        backend=site.backend,
        tensor_parallel_size=engine.tensor_parallel_size,
        quantization=engine.quantization,
        kv_cache_dtype=engine.kv_cache_dtype,
        max_num_seqs=_MOST_SEQS if largest == inf else int(largest),
    )
    refuse_illegal(deployment, site.pool)
    if isinstance(spec, BatchTimeSpec):
        return RequestBatchingPlan(engine, None, spec.build(deployment), [])
    assert isinstance(spec, IterationTimeSpec)
    iterations = spec.build(deployment)
    refuse_impossible_times(iterations, deployment, site.pool)
    warnings = time_warnings(iterations, site.pool)
    return RequestBatchingPlan(engine, None, WholeBatch(iterations), warnings)
