"""Iteration time estimated from GPU facts and the model's shape, where nothing was measured."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, PositiveFloat

from servesim.catalog import Gpu, Model
from servesim.errors import InputError
from servesim.registry import register
from servesim.service_time.base import Deployment, IterationTime, Origin, ServiceTimeSpec

# Bytes per dense or expert weight at or below which the matching tensor throughput applies, best first.
_COMPUTE_DTYPES = ((0.6, "fp4"), (1.1, "fp8"), (1.1, "int8"), (math.inf, "bf16"))


class RooflineIterationTime(IterationTime):
    """The larger of memory time and compute time of a whole iteration, plus tensor-parallel communication."""

    def __init__(self, spec: Roofline, deployment: Deployment, gpu: Gpu, model: Model) -> None:
        tp = deployment.tensor_parallel_size
        bandwidth = gpu.memory_bandwidth_bytes_per_s * spec.bandwidth_efficiency
        dense_bytes, expert_bytes = model.bytes_per_weight(deployment.quantization)
        weights = model.weight_bytes_per_gpu(deployment.quantization, tp)
        one_expert = model.expert_parameters / model.experts * expert_bytes / tp if model.experts else 0.0
        flops = tp * spec.compute_efficiency * _throughput(gpu, expert_bytes if model.experts else dense_bytes)
        attention_flops = tp * spec.compute_efficiency * gpu.flops("bf16")
        self._model = model
        self._shared_s = (weights - model.experts * one_expert) / bandwidth
        self._expert_s = one_expert / bandwidth
        self._kv_s = model.kv_bytes_per_token(deployment.kv_cache_dtype, tp) / bandwidth
        self._token_s = 2.0 * model.active_parameters / flops
        self._pair_s = 4.0 * model.layers * model.heads * model.head_dim / attention_flops
        self._base_s = spec.overhead_s
        self._link_s = _all_reduce_s_per_token(spec, gpu, model, tp)
        self._decode: list[tuple[float, float]] = [self._dense(n) for n in range(deployment.max_num_seqs + 1)]
        self.origin = Origin(
            "roofline",
            measured=False,
            note="estimate from peak bandwidth and throughput; see band",
            facts={
                "gpu": gpu.name,
                "model": model.name,
                "bandwidth_efficiency": spec.bandwidth_efficiency,
                "compute_efficiency": spec.compute_efficiency,
                "band": [spec.band_low, spec.band_high],
            },
        )

    def _dense(self, tokens: int) -> tuple[float, float]:
        """Return (memory, compute) seconds of `tokens` scheduled tokens, attention left out."""
        extra = self._base_s + self._link_s * tokens
        memory = self._shared_s + self._expert_s * self._model.expected_experts(tokens)
        return memory + extra, self._token_s * tokens + extra

    def decode_line(self, decode_seqs: int, context_tokens: int) -> tuple[float, float, float]:
        """Return the upper one of the memory and the compute line at `context_tokens`, up to where they cross."""
        if decode_seqs >= len(self._decode):
            self._decode += [self._dense(n) for n in range(len(self._decode), decode_seqs + 1)]
        memory_s, compute_s = self._decode[decode_seqs]
        gap, closing = memory_s - compute_s, self._pair_s - self._kv_s
        above = gap - closing * context_tokens
        if above > 0.0 or (above == 0.0 and closing <= 0.0):
            return memory_s, self._kv_s, gap / closing if closing > 0.0 else math.inf
        return compute_s, self._pair_s, gap / closing if closing < 0.0 else math.inf

    def mixed_s(
        self, decode_seqs: int, context_tokens: int, prefill_seqs: int, prefill_tokens: int, prefill_pairs: int
    ) -> float:
        """Return the larger of memory and compute time, attention counted by context read and by pairs computed."""
        memory_s, compute_s = self._dense(decode_seqs + prefill_tokens)
        memory_s += self._kv_s * context_tokens
        compute_s += self._pair_s * (context_tokens + prefill_pairs)
        return memory_s if memory_s > compute_s else compute_s


def _throughput(gpu: Gpu, bytes_per_weight: float) -> float:
    """Return the FLOP/s of the narrowest arithmetic the GPU has for weights this wide (wider ones are dequantized)."""
    for limit, dtype in _COMPUTE_DTYPES:
        value: float | None = getattr(gpu, f"{dtype}_flops")
        if bytes_per_weight <= limit and value is not None:
            return value
    return gpu.flops("bf16")


def _all_reduce_s_per_token(spec: Roofline, gpu: Gpu, model: Model, tp: int) -> float:
    """Return seconds per token of two 16-bit ring all-reduces per layer: 2 (tp - 1) / tp of the data each way."""
    if tp == 1:
        return 0.0
    link = spec.link_bytes_per_s or gpu.nvlink_bytes_per_s
    if link is None:
        raise InputError(f"roofline: GPU {gpu.name!r} has no known link bandwidth for tensor_parallel_size {tp}; "
                         "set link_bytes_per_s")  # fmt: skip
    return 2 * model.layers * model.hidden * 2.0 * 2.0 * (tp - 1) / tp / (link * spec.bandwidth_efficiency)


@register("service_time")
class Roofline(ServiceTimeSpec):
    """Roofline estimate: max(bytes moved / bandwidth, FLOPs / throughput) for the whole iteration. Not a measurement.

    Bytes: all weights once (of a mixture of experts only the experts expected to be woken), the KV cache of every
    decoding sequence. FLOPs: 2 per active parameter and token, 4 * layers * heads * head_dim per query-key pair.
    Williams, Waterman, Patterson, "Roofline: an insightful visual performance model for multicore architectures",
    CACM 52(4), 2009. Efficiencies say which part of the peak is reached. The defaults centre the estimate on the
    iteration grid that the catalog's calibrations are fitted to (median ratio 1.07 over 500 deployments), and the band
    is the 10th and 90th percentile of measured / estimated there: it is wide because nothing here knows of the latency
    of single kernels and all-reduces, which rule small batches and high tensor parallelism.
    """

    kind: Literal["roofline"] = "roofline"
    bandwidth_efficiency: PositiveFloat = Field(0.6, le=1.0, description="reached part of peak bandwidth")
    compute_efficiency: PositiveFloat = Field(0.4, le=1.0, description="reached part of peak FLOP/s")
    overhead_s: float = Field(0.0, ge=0.0, description="seconds added to every iteration")
    link_bytes_per_s: PositiveFloat | None = Field(
        None, description="GPU-to-GPU bandwidth in one direction, bytes/s; default: the GPU's NVLink"
    )
    band_low: PositiveFloat = Field(0.7, description="measured / estimated time: 10th percentile over the catalog")
    band_high: PositiveFloat = Field(2.7, description="measured / estimated time: 90th percentile over the catalog")

    def build(self, deployment: Deployment) -> RooflineIterationTime:
        """Return the estimate for `deployment`, which must name a GPU and a model."""
        if deployment.gpu is None or deployment.model is None:
            raise InputError("roofline needs the pool's `gpu` and `model`")
        return RooflineIterationTime(self, deployment, deployment.gpu, deployment.model)
