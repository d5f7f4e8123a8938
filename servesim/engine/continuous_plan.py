"""From a continuous engine's specification to a plan: vLLM's defaults filled in, memory and times looked up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from servesim import catalog
from servesim.catalog.deployments import FittedDeployment
from servesim.engine.base import HostTime, Plan, Replica, Site, Surroundings
from servesim.engine.continuous import ContinuousEngine
from servesim.engine.deployment_checks import refuse_illegal, refuse_impossible_times, time_warnings
from servesim.engine.fitted import PER_LAYER, fitted
from servesim.engine.kv import UNLIMITED_BLOCKS
from servesim.engine.reference import ReferenceEngine
from servesim.engine.settings import EngineSettings
from servesim.errors import InputError, Problem
from servesim.metrics.alone import AloneInPool
from servesim.metrics.record import OwnCompute, PoolRecord
from servesim.service_time.adjusted import AdjustedIterationTime, Adjustment, LargestRank
from servesim.service_time.base import Deployment, IterationTime, IterationTimeSpec
from servesim.service_time.noise import IterationNoise

if TYPE_CHECKING:
    from servesim.engine.spec import ContinuousBatching

SEMANTICS = "vLLM 0.33 V1 scheduler (identical batches checked against 0.32 logs)"
_GIB = 1 << 30
# Activations, CUDA graphs and communication; and the copies of the logits that sampling makes (float32, sorted values
# and 8-byte indices, softmax) in the profiling run. From where two measured runs began to wait for KV blocks.
_FIXED_OVERHEAD_BYTES = 3 * _GIB
_BYTES_PER_LOGIT = 20
_UNBOUNDED_TOKENS = 1 << 40


class ContinuousPlan(Plan):
    """Continuous batching, ready to be built; `settings` and `times` are what its replicas need."""

    semantics = SEMANTICS

    def __init__(
        self,
        engine: ContinuousBatching,
        settings: EngineSettings,
        times: IterationTime,
        warnings: list[str],
        known: FittedDeployment | None = None,
    ) -> None:
        self.engine = engine
        self._scheduler = engine.scheduler
        self.settings = settings
        self.times = times
        fitted_to = {} if known is None else {"fitted": known.name, "fitted_runs": len(known.runs)}
        self.origin = replace(times.origin, facts={**times.origin.facts, **fitted_to})
        self.validity = times.validity
        self.gpus_per_replica = engine.tensor_parallel_size * engine.data_parallel_size
        self.deployment = known
        self.warnings = tuple(warnings)

    @property
    def host_time(self) -> HostTime:
        """How the time between iterations is known: "calibrated", "assumed" (from the scenario) or "left out"."""
        seconds = self.settings.host_time_s
        if seconds <= 0 and self.settings.host_time_per_seq_s <= 0:
            if self.deployment is not None or self.origin.facts.get("host_iteration_s") == 0.0:
                return HostTime("included", seconds)
            return HostTime("left out", seconds)
        known = seconds == self.origin.facts.get("host_iteration_s")
        return HostTime("calibrated" if known else "assumed", seconds)

    def builder(self, around: Surroundings, reference: bool) -> Callable[[int], Replica]:
        """Return what makes replicas: span engines, or step-by-step reference engines."""
        kind = ReferenceEngine if reference else ContinuousEngine
        settings, times, record = self.settings, self.times, around.record

        def build(index: int) -> Replica:
            law = times.noise
            noise = None if law is None else IterationNoise(law, around.stream("iteration_noise", index))
            return kind(around.clock, index, settings, self._scheduler.live(), times, record, noise)

        return build

    def own_compute(self, pool: PoolRecord) -> OwnCompute:
        """Return each request's prefill in chunks of the whole token budget, then every step as a batch of one."""
        return AloneInPool(self.times, self.settings.max_num_batched_tokens, pool)


def plan_of(engine: ContinuousBatching, site: Site) -> ContinuousPlan:
    """Return the plan of a continuous engine; raise InputError with all problems found."""
    gpu, model = site.gpu, site.model
    spec = site.times(IterationTimeSpec)
    max_tokens, max_seqs = _batch_limits(engine, gpu)
    engine = engine.model_copy(update=_engine_defaults(engine, site, max_seqs))
    max_model_len = _max_model_len(engine, site, max_tokens)
    deployment = Deployment(
        gpu=gpu,
        model=model,
        backend=site.backend,
        tensor_parallel_size=engine.tensor_parallel_size,
        quantization=engine.quantization,
        kv_cache_dtype=engine.kv_cache_dtype,
        max_num_batched_tokens=max_tokens,
        max_num_seqs=max_seqs,
        data_parallel_size=engine.data_parallel_size,
        expert_parallel=engine.enable_expert_parallel,
    )
    refuse_illegal(deployment, site.pool)
    num_gpu_blocks = _num_gpu_blocks(engine, deployment)
    times = spec.build(deployment)
    refuse_impossible_times(times, deployment, site.pool)
    warnings = []
    known, found = fitted(engine, site, times.origin)
    engine = engine.model_copy(update=found)
    host_unknown = known is None and times.origin.facts.get("host_iteration_s") is None
    if times.origin.measured and host_unknown and not _says_host_time(engine):
        warnings.append(
            f"pool {site.pool}: the calibration holds no host time between iterations and engine.host_time_s is "
            "not given; it is taken as 0, so latencies are a lower bound"
        )
    if model is not None and num_gpu_blocks != UNLIMITED_BLOCKS:
        window = catalog.window_warning(model, engine.block_size or 1, max_model_len)
        warnings += [] if window is None else [f"pool {site.pool}: {window}"]
    settings = _settings(engine, max_tokens, max_seqs, max_model_len, num_gpu_blocks)
    written = {
        "max_num_seqs": max_seqs,
        "max_num_batched_tokens": max_tokens,
        "max_model_len": None if max_model_len == _UNBOUNDED_TOKENS else max_model_len,
        "num_gpu_blocks": "unlimited" if num_gpu_blocks == UNLIMITED_BLOCKS else num_gpu_blocks,
    }
    times = _as_run(times, engine, model, site.pool)
    warnings = [*time_warnings(times, site.pool), *warnings]
    return ContinuousPlan(engine.model_copy(update=written), settings, times, warnings, known)


def _engine_defaults(engine: ContinuousBatching, site: Site, max_seqs: int) -> dict[str, Any]:
    """Return the values left out that depend on the engine's maker; sources in docs/engine.md."""
    trtllm = site.backend == "trtllm"
    logits = 0 if site.model is None else max_seqs * site.model.vocab
    defaults = {
        "enable_chunked_prefill": not (trtllm or engine.batch_wait_timeout_iters),
        "capacity_scheduler_policy": "guaranteed_no_evict" if trtllm else "max_utilization",
        "block_size": 32 if trtllm else 16,
        "gpu_memory_utilization": 0.9 if trtllm else 0.92,
        "non_kv_overhead_bytes": _FIXED_OVERHEAD_BYTES + _BYTES_PER_LOGIT * logits,
    }
    return {name: value for name, value in defaults.items() if getattr(engine, name) is None}


def _max_model_len(engine: ContinuousBatching, site: Site, max_tokens: int) -> int:
    """Return the longest sequence: given, or what the model and, with whole prompts, the token budget allow."""
    model, max_model_len = site.model, engine.max_model_len
    if max_model_len is None:
        max_model_len = model.max_context if model else _UNBOUNDED_TOKENS
    elif model is not None and max_model_len > model.max_context:
        raise InputError(
            Problem(
                f"max_model_len ({max_model_len}) is above the {model.max_context} tokens that {model.name} was made "
                "for; vLLM refuses this too",
                f"pools.{site.pool}.engine.max_model_len",
            )
        )
    if not engine.enable_chunked_prefill:
        if engine.max_model_len is None:
            max_model_len = min(max_model_len, max_tokens)
        elif max_tokens < max_model_len:
            raise InputError(
                Problem(
                    f"max_num_batched_tokens ({max_tokens}) is below max_model_len ({max_model_len}) while chunked "
                    "prefill is off: a long prompt could never be scheduled",
                    f"pools.{site.pool}.engine.max_num_batched_tokens",
                )
            )
    return max_model_len


def _settings(
    engine: ContinuousBatching, max_tokens: int, max_seqs: int, max_model_len: int, num_gpu_blocks: int
) -> EngineSettings:
    """Return what a replica is built from. Its data-parallel groups work as one with the sum of their limits."""
    ranks = engine.data_parallel_size
    return EngineSettings(
        max_num_seqs=max_seqs * ranks,
        max_num_batched_tokens=max_tokens * ranks,
        max_model_len=max_model_len,
        enable_chunked_prefill=bool(engine.enable_chunked_prefill),
        scheduler_reserve_full_isl=engine.scheduler_reserve_full_isl,
        resume_from_cache=engine.resume_from_cache,
        watermark=engine.watermark,
        async_scheduling=engine.async_scheduling,
        block_size=engine.block_size or 1,
        num_gpu_blocks=num_gpu_blocks if num_gpu_blocks == UNLIMITED_BLOCKS else num_gpu_blocks * ranks,
        host_time_s=engine.host_time_s or 0.0,
        host_time_per_seq_s=engine.host_time_per_seq_s,
        admission_time_s=engine.admission_time_s,
        admission_time_per_token_s=engine.admission_time_per_token_s or 0.0,
        guaranteed_no_evict=engine.capacity_scheduler_policy == "guaranteed_no_evict",
        batch_wait_timeout_iters=engine.batch_wait_timeout_iters,
        batch_wait_tokens=engine.batch_wait_max_tokens_ratio * max_tokens * ranks,
    )


def _as_run(times: IterationTime, engine: ContinuousBatching, model: catalog.Model | None, pool: str) -> IterationTime:
    """Return the times of a whole replica: of its largest data-parallel group, with the corrections of `engine`."""
    given = {name: getattr(engine, name) or 0.0 for name in PER_LAYER}
    for name, seconds in given.items():
        if seconds and model is None:
            raise InputError(Problem("needs the pool's `model`: how many layers?", f"pools.{pool}.engine.{name}"))
    if engine.data_parallel_size > 1:
        times = LargestRank(times, engine.data_parallel_size)
    layers = 0 if model is None else model.layers
    gpus = engine.tensor_parallel_size * engine.data_parallel_size
    every_s, further_s, floor_s = (layers * seconds for seconds in given.values())
    adjustment = Adjustment(
        iteration_s=every_s + (gpus - 1) * further_s,
        prefill_factor=engine.prefill_factor or 1.0,
        prefill_floor_s=floor_s,
        context_factor=engine.context_factor or 1.0,
        batch_factor=engine.batch_factor or 1.0,
    )
    return times if adjustment == Adjustment() else AdjustedIterationTime(times, adjustment)


def _says_host_time(engine: ContinuousBatching) -> bool:
    return bool(engine.host_time_s or engine.host_time_per_seq_s or engine.iteration_time_per_layer_s)


def _batch_limits(engine: ContinuousBatching, gpu: catalog.Gpu | None) -> tuple[int, int]:
    """Return (max_num_batched_tokens, max_num_seqs): given, or what `vllm serve` takes for this GPU.

    Source: vLLM 0.33, EngineArgs._set_default_max_num_seqs_and_batched_tokens_args: by device memory, and an A100
    counts as a small GPU whatever its memory.
    """
    memory = 0 if gpu is None else gpu.memory_bytes
    if gpu is None or (memory >= 70 * _GIB and not gpu.name.startswith("a100")):
        tokens, seqs = (16384 if memory >= 160 * _GIB else 8192), 1024
    else:
        tokens, seqs = 2048, 256
    if engine.max_num_batched_tokens is not None:
        tokens = engine.max_num_batched_tokens
    elif engine.max_num_seqs is not None:
        tokens = max(tokens, engine.max_num_seqs)
    return tokens, engine.max_num_seqs if engine.max_num_seqs is not None else min(seqs, tokens)


def _num_gpu_blocks(engine: ContinuousBatching, deployment: Deployment) -> int:
    if isinstance(engine.num_gpu_blocks, int):
        return engine.num_gpu_blocks
    gpu, model = deployment.gpu, deployment.model
    if engine.num_gpu_blocks == "unlimited" or gpu is None or model is None:
        return UNLIMITED_BLOCKS
    parallel = engine.tensor_parallel_size
    weights = model.weight_bytes_per_gpu(engine.quantization, parallel, engine.data_parallel_size)
    overhead, share = float(engine.non_kv_overhead_bytes or 0), engine.gpu_memory_utilization or 1.0
    if deployment.backend == "trtllm":  # the share is of what weights and activations leave
        overhead += (1.0 - share) * max(gpu.memory_bytes - weights - overhead, 0.0)
        share = 1.0
    per_token = model.kv_bytes_per_token(engine.kv_cache_dtype, parallel)
    return catalog.kv_blocks(gpu.memory_bytes, share, weights, per_token, engine.block_size or 1, overhead)
