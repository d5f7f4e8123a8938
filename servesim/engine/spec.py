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
    weights and overhead leave of `gpu_memory_utilization`, `max_model_len` from the model.
    """

    kind: Literal["continuous"] = "continuous"
    tensor_parallel_size: int = Field(1, ge=1, le=1024, description="GPUs that share one replica")
    quantization: Quantization | None = Field(
        None, description="weight format such as fp8; null: as the model is published"
    )
    kv_cache_dtype: KvCacheDtype = Field("auto", description="auto (as the model computes) or fp8")
    max_num_seqs: int | None = Field(
        None, ge=1, le=1_000_000, description="sequences in a batch; null: 1024, or 256 below 70 GiB"
    )
    max_num_batched_tokens: int | None = Field(
        None,
        ge=1,
        le=100_000_000,
        description="tokens scheduled per iteration; null: 8192 (16384 from 160 GiB, 2048 below 70 GiB)",
    )
    max_model_len: int | None = Field(None, ge=2, description="prompt + output tokens; null: what the model allows")
    enable_chunked_prefill: bool = Field(True, description="split prompts that exceed what is left of the budget")
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
    watermark: float = Field(0.0, ge=0, lt=1, description="fraction of blocks kept free when admitting")
    block_size: int = Field(16, ge=1, le=4096, description="tokens per KV block")
    num_gpu_blocks: int | Literal["unlimited"] | None = Field(
        None, description="KV blocks including vLLM's null block; null: derived from memory"
    )
    gpu_memory_utilization: float = Field(0.92, gt=0, le=1, description="share of GPU memory the engine may use")
    non_kv_overhead_bytes: int = Field(
        5 << 30, ge=0, description="per GPU: activations, CUDA graphs, communication buffers"
    )
    host_time_s: Seconds | None = Field(None, description="host time per iteration; null: the calibration's, else 0")
    host_time_per_seq_s: Seconds = Field(0.0, description="host time per sequence in the batch and iteration")
    admission_time_s: Seconds = Field(
        0.0, description="latency per request before it is queued (front end, tokenisation); does not stall decoding"
    )
    admission_time_per_token_s: Seconds = Field(0.0, description="the same per prompt token")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        tokens, seqs = self.max_num_batched_tokens, self.max_num_seqs
        if tokens is not None and seqs is not None and tokens < seqs:
            raise ValueError(
                f"max_num_batched_tokens ({tokens}) is below max_num_seqs ({seqs}): a full batch could not decode"
            )
        if isinstance(self.num_gpu_blocks, int) and self.num_gpu_blocks < 2:
            raise ValueError("num_gpu_blocks must be at least 2: one block is vLLM's null block")
        return self

    def resolve(self, site: Site) -> ContinuousPlan:
        """Return the plan: vLLM's defaults filled in, memory and iteration times looked up."""
        return plan_of(self, site)
