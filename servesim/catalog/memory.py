"""How many KV blocks fit on a GPU, and how far a count of whole contexts is from an engine that frees windows."""

from __future__ import annotations

import math

from servesim.catalog.model import Model
from servesim.errors import InputError

_EXAMPLE_TOKENS = 8192


def kv_blocks(
    gpu_memory_bytes: float,
    gpu_memory_utilization: float,
    weight_bytes_per_gpu: float,
    kv_bytes_per_token_per_gpu: float,
    block_size: int,
    non_kv_overhead_bytes: float = 0.0,
) -> int:
    """Return the number of KV blocks of `block_size` tokens that fit on one GPU.

    floor((memory * utilization - weights - overhead) / (bytes per token * block size)): what vLLM computes after its
    profiling run (`determine_available_memory`), the overhead standing for activations, CUDA graphs and the
    communication buffers it measures there. Raises InputError, saying how many bytes are missing, if not even one
    block fits.
    """
    budget = gpu_memory_bytes * gpu_memory_utilization
    free = budget - weight_bytes_per_gpu - non_kv_overhead_bytes
    per_block = kv_bytes_per_token_per_gpu * block_size
    if free < per_block:
        raise InputError(
            f"the model does not fit: {(per_block - free) / 1e9:.2f} GB short of one KV block per GPU "
            f"({budget / 1e9:.2f} GB usable = {gpu_memory_bytes / 1e9:.2f} GB * {gpu_memory_utilization}, "
            f"{weight_bytes_per_gpu / 1e9:.2f} GB weights, {non_kv_overhead_bytes / 1e9:.2f} GB other); "
            "use more GPUs, a quantization, or a higher gpu_memory_utilization"
        )
    return math.floor(free / per_block)


def window_share(model: Model, tokens: int, block_size: int) -> float:
    """Return the KV memory of a sequence of `tokens` tokens in vLLM, as a fraction of what full layers would take.

    vLLM gives layers with a sliding window a block table of their own, in which only the blocks that overlap the
    window stay: window / block size + 1 at most. Source: vLLM documentation, "Hybrid KV Cache Manager",
    https://docs.vllm.ai/en/latest/design/hybrid_kv_cache_manager/ (padding of unequal groups of layers left out).
    """
    if not model.sliding_window_tokens:
        return 1.0
    blocks = math.ceil(tokens / block_size)
    kept = min(blocks, math.ceil(model.sliding_window_tokens / block_size) + 1)
    windowed = model.sliding_window_layers
    return ((model.layers - windowed) * blocks + windowed * kept) / (model.layers * blocks)


def window_warning(model: Model, block_size: int, max_model_len: int) -> str | None:
    """Return what counting windowed layers like full ones does to a run, or None where it does nothing."""
    window = model.sliding_window_tokens
    tokens = min(_EXAMPLE_TOKENS, max_model_len)
    share = window_share(model, tokens, block_size)
    if window is None or share == 1.0:
        return None
    return (
        f"KV blocks count all {model.layers} layers of {model.name} in full, also the {model.sliding_window_layers} "
        f"with a window of {window} tokens; where the engine frees what lies outside the window (vLLM does by "
        f"default), a sequence of {tokens} tokens takes {share:.2f} of that: KV use and preemptions are upper bounds"
    )
