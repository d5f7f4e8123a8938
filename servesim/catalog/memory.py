"""How many KV blocks fit on a GPU."""

from __future__ import annotations

import math

from servesim.errors import InputError


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
