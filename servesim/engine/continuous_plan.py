"""From a continuous engine's specification to a plan: vLLM's defaults filled in, memory and times looked up."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from servesim import catalog
from servesim.engine.base import HostTime, Plan, Replica, Site, Surroundings
from servesim.engine.continuous import ContinuousEngine
from servesim.engine.deployment_checks import estimate_warnings, refuse_illegal, refuse_impossible_times
from servesim.engine.kv import UNLIMITED_BLOCKS
from servesim.engine.reference import ReferenceEngine
from servesim.engine.settings import EngineSettings
from servesim.errors import InputError, Problem
from servesim.metrics.alone import AloneInPool
from servesim.metrics.record import OwnCompute, PoolRecord
from servesim.service_time.base import Deployment, IterationTime, IterationTimeSpec

if TYPE_CHECKING:
    from servesim.engine.spec import ContinuousBatching

SEMANTICS = "vLLM 0.33 V1 scheduler (identical batches checked against 0.32 logs)"
_GIB = 1 << 30
_UNBOUNDED_TOKENS = 1 << 40


class ContinuousPlan(Plan):
    """Continuous batching, ready to be built; `settings` and `times` are what its replicas need."""

    semantics = SEMANTICS

    def __init__(
        self, engine: ContinuousBatching, settings: EngineSettings, times: IterationTime, warnings: list[str]
    ) -> None:
        self.engine = engine
        self._scheduler = engine.scheduler
        self.settings = settings
        self.times = times
        self.origin = times.origin
        self.validity = times.validity
        self.gpus_per_replica = engine.tensor_parallel_size
        self.warnings = tuple(warnings)

    @property
    def host_time(self) -> HostTime:
        """How the time between iterations is known: "calibrated", "assumed" (from the scenario) or "left out"."""
        seconds = self.settings.host_time_s
        if seconds <= 0 and self.settings.host_time_per_seq_s <= 0:
            return HostTime("left out", seconds)
        known = seconds == self.origin.facts.get("host_iteration_s")
        return HostTime("calibrated" if known else "assumed", seconds)

    def builder(self, around: Surroundings, reference: bool) -> Callable[[int], Replica]:
        """Return what makes replicas: span engines, or step-by-step reference engines."""
        kind = ReferenceEngine if reference else ContinuousEngine
        settings, times, record = self.settings, self.times, around.record

        def build(index: int) -> Replica:
            return kind(around.clock, index, settings, self._scheduler.live(), times, record)

        return build

    def own_compute(self, pool: PoolRecord) -> OwnCompute:
        """Return each request's prefill in chunks of the whole token budget, then every step as a batch of one."""
        return AloneInPool(self.times, self.settings.max_num_batched_tokens, pool)


def plan_of(engine: ContinuousBatching, site: Site) -> ContinuousPlan:
    """Return the plan of a continuous engine; raise InputError with all problems found."""
    gpu, model = site.gpu, site.model
    spec = site.times(IterationTimeSpec)
    max_tokens, max_seqs = _batch_limits(engine, gpu)
    max_model_len = engine.max_model_len
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
    deployment = Deployment(
        gpu=gpu,
        model=model,
        backend=site.backend,
        tensor_parallel_size=engine.tensor_parallel_size,
        quantization=engine.quantization,
        kv_cache_dtype=engine.kv_cache_dtype,
        max_num_batched_tokens=max_tokens,
        max_num_seqs=max_seqs,
    )
    refuse_illegal(deployment, site.pool)
    num_gpu_blocks = _num_gpu_blocks(engine, deployment)
    times = spec.build(deployment)
    refuse_impossible_times(times, deployment, site.pool)
    warnings = estimate_warnings(times, site.pool)
    host_time_s = engine.host_time_s
    if host_time_s is None:
        host_time_s = float(times.origin.facts.get("host_iteration_s") or 0.0)
        if times.origin.measured and host_time_s == 0.0:
            warnings.append(
                f"pool {site.pool}: the calibration holds no host time between iterations and engine.host_time_s is "
                "not given; it is taken as 0, so latencies are a lower bound"
            )
    if model is not None and num_gpu_blocks != UNLIMITED_BLOCKS:
        found = catalog.window_warning(model, engine.block_size, max_model_len)
        warnings += [] if found is None else [f"pool {site.pool}: {found}"]
    settings = EngineSettings(
        max_num_seqs=max_seqs,
        max_num_batched_tokens=max_tokens,
        max_model_len=max_model_len,
        enable_chunked_prefill=engine.enable_chunked_prefill,
        scheduler_reserve_full_isl=engine.scheduler_reserve_full_isl,
        resume_from_cache=engine.resume_from_cache,
        watermark=engine.watermark,
        async_scheduling=engine.async_scheduling,
        block_size=engine.block_size,
        num_gpu_blocks=num_gpu_blocks,
        host_time_s=host_time_s,
        host_time_per_seq_s=engine.host_time_per_seq_s,
        admission_time_s=engine.admission_time_s,
        admission_time_per_token_s=engine.admission_time_per_token_s,
    )
    written = {
        "max_num_seqs": max_seqs,
        "max_num_batched_tokens": max_tokens,
        "max_model_len": None if max_model_len == _UNBOUNDED_TOKENS else max_model_len,
        "num_gpu_blocks": "unlimited" if num_gpu_blocks == UNLIMITED_BLOCKS else num_gpu_blocks,
        "host_time_s": host_time_s,
    }
    return ContinuousPlan(engine.model_copy(update=written), settings, times, warnings)


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
    return catalog.kv_blocks(
        gpu.memory_bytes,
        engine.gpu_memory_utilization,
        model.weight_bytes_per_gpu(engine.quantization, parallel),
        model.kv_bytes_per_token(engine.kv_cache_dtype, parallel),
        engine.block_size,
        engine.non_kv_overhead_bytes,
    )
