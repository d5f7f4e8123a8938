"""Iteration time estimated from GPU facts and the model's shape, where nothing was measured."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from pydantic import Field, PositiveFloat

from servesim.catalog import Gpu, Model
from servesim.catalog.precision import arithmetic
from servesim.errors import InputError
from servesim.registry import register
from servesim.service_time.base import Deployment, IterationTime, IterationTimeSpec, Origin


class _Line(NamedTuple):
    """Seconds as a line over the summed context."""

    base_s: float
    slope_s: float


class RooflineIterationTime(IterationTime):
    """The larger of memory time and compute time of a whole iteration, plus tensor-parallel communication."""

    def __init__(self, spec: Roofline, deployment: Deployment, gpu: Gpu, model: Model) -> None:
        tp = deployment.tensor_parallel_size
        bandwidth = gpu.memory_bandwidth_bytes_per_s * spec.bandwidth_efficiency
        dense_bytes, expert_bytes = model.bytes_per_weight(deployment.quantization)
        weights = model.weight_bytes_per_gpu(deployment.quantization, tp)
        one_expert = model.expert_parameters / model.experts * expert_bytes / tp if model.experts else 0.0
        flops = tp * spec.compute_efficiency
        self._model = model
        self._shared_s = (weights - model.experts * one_expert) / bandwidth
        self._expert_s = one_expert / bandwidth
        self._kv_layer_s = model.kv_bytes_per_token_and_layer(deployment.kv_cache_dtype, tp) / bandwidth
        woken = model.expert_parameters // model.experts * model.experts_per_token if model.experts else 0
        self._token_s = 2.0 * (model.active_parameters - woken) / (flops * _throughput(gpu, dense_bytes))
        self._token_s += 2.0 * woken / (flops * _throughput(gpu, expert_bytes))
        self._decode_pair_s = model.decode_flops_per_pair_and_layer() / (flops * gpu.flops("bf16"))
        self._prefill_pair_s = model.prefill_flops_per_pair_and_layer() / (flops * gpu.flops("bf16"))
        self._window = model.sliding_window_tokens or math.inf
        self._window_layers = model.sliding_window_layers if model.sliding_window_tokens else 0
        self._base_s = spec.overhead_s
        self._link_s = _all_reduce_s_per_token(spec, gpu, model, tp)
        self._decode: list[tuple[float, float]] = [
            self._dense(n) for n in range(min(deployment.max_num_seqs, 4096) + 1)
        ]
        self.origin = _origin(spec, gpu, model)

    def _dense(self, tokens: int) -> tuple[float, float]:
        """Return (memory, compute) seconds of `tokens` scheduled tokens, attention left out."""
        extra = self._base_s + self._link_s * tokens
        memory = self._shared_s + self._expert_s * self._model.expected_experts(tokens)
        return memory + extra, self._token_s * tokens + extra

    def decode_line(self, decode_seqs: int, context_tokens: int) -> tuple[float, float, float]:
        """Return the upper one of the memory and the compute line at `context_tokens`, up to where either bends.

        Both bend where the contexts, taken to be equal, fill the sliding window: those layers then read no more.
        """
        if decode_seqs >= len(self._decode):
            self._decode += [self._dense(n) for n in range(len(self._decode), decode_seqs + 1)]
        memory_s, compute_s = self._decode[decode_seqs]
        full, end = self._model.layers, self._window * decode_seqs
        if context_tokens <= end:
            memory, compute = _Line(memory_s, full * self._kv_layer_s), _Line(compute_s, full * self._decode_pair_s)
            return _upper(memory, compute, context_tokens, end)
        inside = self._window_layers * end
        full -= self._window_layers
        memory = _Line(memory_s + inside * self._kv_layer_s, full * self._kv_layer_s)
        compute = _Line(compute_s + inside * self._decode_pair_s, full * self._decode_pair_s)
        return _upper(memory, compute, context_tokens, math.inf)

    def _attended(self, pairs: float, queries: int) -> float:
        """Return (query, key) pairs summed over the layers; a layer with a window attends to no more than that."""
        if not self._window_layers:
            return self._model.layers * pairs
        full = self._model.layers - self._window_layers
        return full * pairs + self._window_layers * min(pairs, self._window * queries)

    def mixed_s(
        self, decode_seqs: int, context_tokens: int, prefill_seqs: int, prefill_tokens: int, prefill_pairs: int
    ) -> float:
        """Return the larger of memory and compute time, attention counted by context read and by pairs computed."""
        memory_s, compute_s = self._dense(decode_seqs + prefill_tokens)
        context = self._attended(context_tokens, decode_seqs)
        memory_s += self._kv_layer_s * context
        compute_s += self._decode_pair_s * context
        compute_s += self._prefill_pair_s * self._attended(prefill_pairs, prefill_tokens)
        return memory_s if memory_s > compute_s else compute_s


def _upper(memory: _Line, compute: _Line, context_tokens: int, end_tokens: float) -> tuple[float, float, float]:
    """Return the upper line at `context_tokens` and up to where it holds: they cross, or both end."""
    gap, closing = memory.base_s - compute.base_s, compute.slope_s - memory.slope_s
    above = gap - closing * context_tokens
    if above > 0.0 or (above == 0.0 and closing <= 0.0):
        return memory.base_s, memory.slope_s, min(end_tokens, gap / closing if closing > 0.0 else math.inf)
    return compute.base_s, compute.slope_s, min(end_tokens, gap / closing if closing < 0.0 else math.inf)


def _throughput(gpu: Gpu, bytes_per_weight: float) -> float:
    """Return the FLOP/s of the narrowest arithmetic the GPU has for weights this wide (wider ones are dequantized)."""
    for dtype in arithmetic(bytes_per_weight):
        value: float | None = getattr(gpu, f"{dtype}_flops")
        if value is not None:
            return value
    return gpu.flops("bf16")


def _origin(spec: Roofline, gpu: Gpu, model: Model) -> Origin:
    facts = {
        "gpu": gpu.name,
        "model": model.name,
        "model_source": model.sources.get("config", ""),
        "bandwidth_efficiency": spec.bandwidth_efficiency,
        "compute_efficiency": spec.compute_efficiency,
        "band": [spec.band_low, spec.band_high],
    }
    note = "estimate from peak bandwidth and throughput; see band"
    return Origin("roofline", measured=False, note=note, facts=facts)


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
class Roofline(IterationTimeSpec):
    """Roofline estimate: max(bytes moved / bandwidth, FLOPs / throughput) for the whole iteration. Not a measurement.

    Bytes: all weights once (of a mixture of experts only the experts expected to be woken), the KV cache of every
    decoding sequence, of layers with a sliding window no more than the window. FLOPs: 2 per active parameter and
    token, 4 * layers * heads * head_dim per query-key pair (latent attention: see `Model`).
    Williams, Waterman, Patterson, "Roofline: an insightful visual performance model for multicore architectures",
    CACM 52(4), 2009. Efficiencies say which part of the peak is reached. The defaults centre the estimate on the
    iteration grid that the catalog's calibrations are fitted to (median ratio 1.06 over 518 deployments), and the band
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
