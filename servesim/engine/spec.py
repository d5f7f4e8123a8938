"""The `engine:` part of a pool: vLLM's own names and defaults."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from servesim.catalog.precision import KvCacheDtype, Quantization
from servesim.engine.base import EngineSpec, Site
from servesim.engine.continuous_plan import ContinuousPlan, plan_of
from servesim.policies.scheduling.base import Scheduler
from servesim.policies.scheduling.fcfs import Fcfs
from servesim.registry import Kind, Named, register

Seconds = Annotated[float, Field(ge=0)]


@register("engine")
class ContinuousBatching(EngineSpec):
    """Continuous batching with the semantics of vLLM's V1 scheduler; keys have vLLM's names, meanings and defaults.

    Left out (null) values are resolved as vLLM does: batch limits by the GPU's memory, `num_gpu_blocks` from what
    weights and overhead leave of `gpu_memory_utilization`, `max_model_len` from the model. With `backend: trtllm` they
    are TensorRT-LLM's: no chunked prefill, no eviction, blocks of 32 tokens (docs/engine.md). Host time, admission and
    prefill corrections left out are those fitted to measured runs of the deployment, where there are any.
    """

    kind: Literal["continuous"] = "continuous"
    tensor_parallel_size: int = Field(1, ge=1, le=1024, description="GPUs that share one replica")
    data_parallel_size: int = Field(
        1,
        ge=1,
        le=1024,
        description="groups of tensor_parallel_size GPUs that compute attention apart and share the experts",
    )
    enable_expert_parallel: bool = Field(False, description="experts lie whole on GPUs, not split over them")
    quantization: Quantization | None = Field(
        None, description="weight format such as fp8; null: as the model is published"
    )
    kv_cache_dtype: KvCacheDtype = Field("auto", description="auto (as the model computes) or fp8")
    max_num_seqs: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="sequences in a batch (of each data-parallel group); null: 1024, or 256 below 70 GiB",
    )
    max_num_batched_tokens: int | None = Field(
        None,
        ge=1,
        le=100_000_000,
        description="tokens scheduled per iteration; null: 8192 (16384 from 160 GiB, 2048 below 70 GiB)",
    )
    max_model_len: int | None = Field(None, ge=2, description="prompt + output tokens; null: what the model allows")
    enable_chunked_prefill: bool | None = Field(
        None, description="split prompts that exceed what is left of the budget; null: true, for trtllm false"
    )
    scheduler: Annotated[Scheduler, Kind("scheduler"), Named] = Field(
        default_factory=Fcfs, description="order of the waiting queue (vLLM: --scheduling-policy)"
    )
    scheduler_reserve_full_isl: bool = Field(
        True, description="admit a request only if its whole sequence fits the free blocks, not just its first chunk"
    )
    resume_from_cache: bool = Field(
        False,
        description="a preempted request finds those of its blocks again that nobody took meanwhile (prefix caching)",
    )
    async_scheduling: bool = Field(True, description="schedule one iteration ahead, hiding host time behind the device")
    capacity_scheduler_policy: Literal["max_utilization", "guaranteed_no_evict"] | None = Field(
        None,
        description="guaranteed_no_evict: admit only what can finish without preempting anyone; null: for trtllm that",
    )
    batch_wait_timeout_iters: int = Field(
        0, ge=0, le=1_000_000, description="iterations that prefill waits for company while others decode (trtllm)"
    )
    batch_wait_max_tokens_ratio: float = Field(
        0.0, ge=0, le=1, description="it waits only while fewer than this share of max_num_batched_tokens is scheduled"
    )
    watermark: float = Field(0.0, ge=0, lt=1, description="fraction of blocks kept free when admitting")
    block_size: int | None = Field(None, ge=1, le=4096, description="tokens per KV block; null: 16, for trtllm 32")
    num_gpu_blocks: int | Literal["unlimited"] | None = Field(
        None, description="KV blocks including vLLM's null block; null: derived from memory"
    )
    gpu_memory_utilization: float | None = Field(
        None,
        gt=0,
        le=1,
        description="share of GPU memory the engine may use (trtllm: of what weights leave, for KV); null: 0.92, 0.9",
    )
    non_kv_overhead_bytes: int | None = Field(
        None,
        ge=0,
        description="per GPU: activations, CUDA graphs, communication, sampling; null: 3 GiB and 20 bytes per logit",
    )
    host_time_s: Seconds | None = Field(None, description="host time per iteration; null: the calibration's, else 0")
    corrections: Literal["fitted", "none"] = Field(
        "fitted", description="what the corrections below are if left out: as measured runs say, or none at all"
    )
    iteration_time_per_layer_s: float | None = Field(
        None,
        ge=-0.01,
        le=0.01,
        description="added to every iteration per layer: launch gaps, or fusion if negative; null: as of the engine",
    )
    communication_time_per_layer_s: float | None = Field(
        None,
        ge=-0.01,
        le=0.01,
        description="the same for every further GPU of a replica: communication beyond the calibration's, or less",
    )
    prefill_factor: float | None = Field(
        None, gt=0, le=10, description="factor on what prefill adds to an iteration; null: as fitted to runs, else 1"
    )
    prefill_floor_per_layer_s: Seconds | None = Field(
        None,
        description="least time per layer of an iteration with prefill (launching kernels); null: as fitted, else 0",
    )
    context_factor: float | None = Field(
        None, gt=0, le=10, description="factor on what the context adds to an iteration; null: as of the engine, else 1"
    )
    batch_factor: float | None = Field(
        None,
        gt=0,
        le=10,
        description="factor on what decoding sequences after the first add to an iteration, their context apart; null: "
        "as of the engine, else 1",
    )
    host_time_per_seq_s: Seconds = Field(0.0, description="host time per sequence in the batch and iteration")
    admission_time_s: Seconds = Field(
        0.0, description="latency per request before it is queued (front end, tokenisation), decoding goes on"
    )
    admission_time_per_token_s: Seconds | None = Field(
        None, description="the same per prompt token; null: as of the engine, else 0"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        tokens, seqs = self.max_num_batched_tokens, self.max_num_seqs
        if tokens is not None and seqs is not None and tokens < seqs:
            raise ValueError(
                f"max_num_batched_tokens ({tokens}) is below max_num_seqs ({seqs}): a full batch could not decode"
            )
        if self.batch_wait_timeout_iters and self.enable_chunked_prefill:
            raise ValueError("batch_wait_timeout_iters: needs enable_chunked_prefill: false; chunks are not held back")
        if isinstance(self.num_gpu_blocks, int) and self.num_gpu_blocks < 2:
            raise ValueError("num_gpu_blocks must be at least 2: one block is vLLM's null block")
        return self

    def resolve(self, site: Site) -> ContinuousPlan:
        """Return the plan: vLLM's defaults filled in, memory and iteration times looked up."""
        return plan_of(self, site)
