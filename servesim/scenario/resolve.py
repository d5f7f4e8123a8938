"""From a scenario to plain numbers: every default filled in, every name looked up."""

from __future__ import annotations

from dataclasses import dataclass, field

from servesim import catalog
from servesim.engine.kv import UNLIMITED_BLOCKS
from servesim.engine.settings import EngineSettings
from servesim.engine.spec import SEMANTICS, ContinuousBatching
from servesim.errors import InputError, Problem
from servesim.scenario.resolve_checks import estimate_warnings, refuse_illegal, refuse_impossible_times
from servesim.scenario.schema import PoolSpec, Scenario
from servesim.service_time.base import Deployment, IterationTime

_GIB = 1 << 30
_UNBOUNDED_TOKENS = 1 << 40


@dataclass(slots=True)
class ResolvedPool:
    """A pool with nothing left to look up."""

    name: str
    spec: PoolSpec
    settings: EngineSettings
    times: IterationTime
    gpus_per_replica: int
    usd_per_gpu_hour: float | None
    warnings: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Resolved:
    """A scenario ready to run; `scenario` has the found values written in, so that it says exactly what ran."""

    scenario: Scenario
    pools: list[ResolvedPool]


def resolve(scenario: Scenario) -> Resolved:
    """Look up and fill in everything; raise InputError with all problems found."""
    pools: list[ResolvedPool] = []
    problems: list[Problem] = []
    for name, spec in scenario.pools.items():
        try:
            pools.append(_resolve_pool(name, spec))
        except InputError as error:
            problems += [
                Problem(p.message, p.path or f"pools.{name}", p.file, p.line, p.column) for p in error.problems
            ]
    if problems:
        raise InputError(problems)
    filled = {pool.name: pool.spec for pool in pools}
    return Resolved(scenario.model_copy(update={"pools": filled}), pools)


def _resolve_pool(name: str, spec: PoolSpec) -> ResolvedPool:
    engine = spec.engine
    if not isinstance(engine, ContinuousBatching):
        raise InputError(Problem(f"engine kind {engine.kind!r} cannot be run here", f"pools.{name}.engine.kind"))
    gpu = None if spec.gpu is None else catalog.gpu_of(spec.gpu)
    model = None if spec.model is None else catalog.model_of(spec.model)
    max_tokens, max_seqs = _batch_limits(engine, gpu)
    max_model_len = engine.max_model_len
    if max_model_len is None:
        max_model_len = model.max_context if model else _UNBOUNDED_TOKENS
    if not engine.enable_chunked_prefill:
        if engine.max_model_len is None:
            max_model_len = min(max_model_len, max_tokens)
        elif max_tokens < max_model_len:
            raise InputError(
                Problem(
                    f"max_num_batched_tokens ({max_tokens}) is below max_model_len ({max_model_len}) while chunked "
                    "prefill is off: a long prompt could never be scheduled",
                    f"pools.{name}.engine.max_num_batched_tokens",
                )
            )
    deployment = Deployment(
        gpu=gpu,
        model=model,
        backend=spec.backend,
        tensor_parallel_size=engine.tensor_parallel_size,
        quantization=engine.quantization,
        kv_cache_dtype=engine.kv_cache_dtype,
        max_num_batched_tokens=max_tokens,
        max_num_seqs=max_seqs,
    )
    refuse_illegal(deployment, name)
    num_gpu_blocks = _num_gpu_blocks(engine, deployment)
    times = spec.service_time.build(deployment)
    refuse_impossible_times(times, deployment, name)
    warnings = estimate_warnings(times, name)
    host_time_s = engine.host_time_s
    if host_time_s is None:
        host_time_s = float(times.origin.facts.get("host_iteration_s") or 0.0)
        if times.origin.measured and host_time_s == 0.0:
            warnings.append(
                f"pool {name}: the calibration holds no host time between iterations and engine.host_time_s is not "
                "given; it is taken as 0, so latencies are a lower bound"
            )
    settings = EngineSettings(
        max_num_seqs=max_seqs,
        max_num_batched_tokens=max_tokens,
        max_model_len=max_model_len,
        enable_chunked_prefill=engine.enable_chunked_prefill,
        scheduler_reserve_full_isl=engine.scheduler_reserve_full_isl,
        watermark=engine.watermark,
        async_scheduling=engine.async_scheduling,
        block_size=engine.block_size,
        num_gpu_blocks=num_gpu_blocks,
        host_time_s=host_time_s,
        host_time_per_seq_s=engine.host_time_per_seq_s,
        admission_time_s=engine.admission_time_s,
        admission_time_per_token_s=engine.admission_time_per_token_s,
    )
    found = {
        "max_num_seqs": max_seqs,
        "max_num_batched_tokens": max_tokens,
        "max_model_len": None if max_model_len == _UNBOUNDED_TOKENS else max_model_len,
        "num_gpu_blocks": "unlimited" if num_gpu_blocks == UNLIMITED_BLOCKS else num_gpu_blocks,
        "host_time_s": host_time_s,
    }
    price = spec.usd_per_gpu_hour
    if price is None and gpu is not None:
        price = gpu.usd_per_hour
    filled = spec.model_copy(update={"engine": engine.model_copy(update=found), "usd_per_gpu_hour": price})
    return ResolvedPool(name, filled, settings, times, engine.tensor_parallel_size, price, warnings)


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


def semantics() -> str:
    """Return which engine's rules are simulated, for provenance."""
    return SEMANTICS
