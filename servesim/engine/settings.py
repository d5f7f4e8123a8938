"""What a continuous-batching engine needs to know, resolved to plain numbers."""

from __future__ import annotations

from dataclasses import dataclass

from servesim.engine.kv import UNLIMITED_BLOCKS
from servesim.errors import ServesimError
from servesim.request import Request


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Settings of one replica under vLLM's names; see `servesim.engine.continuous` for what they do.

    `max_model_len` counts prompt plus output. `num_gpu_blocks` includes the null block. `admission_*` is latency
    between arrival and the scheduler's queue that does not stall decoding (tokenisation, front end).
    `guaranteed_no_evict` admits a request only if it and all that run can finish in the blocks there are. While
    requests decode and fewer than `batch_wait_tokens` tokens would be scheduled (those of all waiting, up to the
    budget), prefill waits up to `batch_wait_timeout_iters` iterations for company; only without chunked prefill.
    """

    max_num_seqs: int = 1024
    max_num_batched_tokens: int = 8192
    max_model_len: int = 1 << 40
    enable_chunked_prefill: bool = True
    scheduler_reserve_full_isl: bool = True
    resume_from_cache: bool = False
    watermark: float = 0.0
    async_scheduling: bool = False
    block_size: int = 16
    num_gpu_blocks: int = UNLIMITED_BLOCKS
    host_time_s: float = 0.0
    host_time_per_seq_s: float = 0.0
    admission_time_s: float = 0.0
    admission_time_per_token_s: float = 0.0
    guaranteed_no_evict: bool = False
    batch_wait_timeout_iters: int = 0
    batch_wait_tokens: float = 0.0


def refuse_too_many(computed_tokens: int, request: Request) -> None:
    """Raise ServesimError unless some of the prompt is left to compute: its last token gives the first output token.

    vLLM caps a prefix-cache hit at one token less than the prompt for the same reason.
    """
    if not 0 <= computed_tokens < request.prompt_tokens:
        raise ServesimError(f"{computed_tokens} computed tokens of a prompt of {request.prompt_tokens}")
