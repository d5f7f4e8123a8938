"""What no service-time model may promise: more bytes per second, or more FLOP/s, than the GPUs have."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from servesim.catalog import Gpu, Model
from servesim.catalog.calibrations import FASTER_THAN_THE_GPU
from servesim.catalog.precision import arithmetic
from servesim.errors import InputError
from servesim.service_time.base import Deployment, IterationTime

# Part of the bound that a time must reach: peaks are rounded on datasheets, and clocks boost.
TOLERANCE = 0.9
Floats = npt.NDArray[np.float64]
_BATCHES = (1, 4, 16, 64, 256)
_MEAN_CONTEXTS_TOKENS = (128, 1024, 8192)
_PREFILLS_TOKENS = (128, 512, 2048, 8192, 32_768)


@dataclass(frozen=True, slots=True)
class Bound:
    """The least seconds of one iteration, and why."""

    seconds: float
    reason: str


def refuse_impossible(times: IterationTime, deployment: Deployment) -> None:
    """Raise InputError if `times` lie below the bounds of the deployment's GPU at some batch of a grid.

    Nothing is checked without a GPU and a model. The worst offence is reported.
    """
    if deployment.gpu is None or deployment.model is None:
        return
    worst = min(offences(times, deployment), default=None)
    if worst is not None:
        known = "; its weights were probably measured in the cache" if times.origin.name in FASTER_THAN_THE_GPU else ""
        advice = f"{known}; for an estimate write service_time: roofline" if times.origin.measured else ""
        raise InputError(f"service_time {times.origin.name!r} is faster than the GPU can be: {worst[1]}{advice}")


def offences(times: IterationTime, deployment: Deployment) -> list[tuple[float, str]]:
    """Return (predicted / bound, sentence) for every batch of the grid where that is too small."""
    found = []
    for what, seconds, bound in _compared(times, deployment):
        if seconds < TOLERANCE * bound.seconds:
            sentence = f"{what} in {1e3 * seconds:.3g} ms, but {bound.reason} takes {1e3 * bound.seconds:.3g} ms"
            found.append((seconds / bound.seconds, sentence))
    return found


def _compared(times: IterationTime, deployment: Deployment) -> Iterator[tuple[str, float, Bound]]:
    limits = LeastSeconds(deployment)
    for seqs, context in itertools.product(_BATCHES, _MEAN_CONTEXTS_TOKENS):
        if seqs <= deployment.max_num_seqs:
            base_s, slope_s, _ = times.decode_line(seqs, seqs * context)
            what = f"one iteration decodes {seqs} sequences of {context} tokens"
            yield what, base_s + slope_s * seqs * context, limits.decode(seqs, seqs * context)
    for tokens in _PREFILLS_TOKENS:
        if tokens <= deployment.max_num_batched_tokens:
            pairs = tokens * (tokens + 1) // 2
            what = f"one iteration prefills {tokens} tokens"
            yield what, times.mixed_s(0, 0, 1, tokens, pairs), limits.prefill(tokens, pairs)


class LeastSeconds:
    """Lower bounds from peak bandwidth and peak throughput of all GPUs of a replica.

    Read at least once: every dense weight but the input embedding, the experts that one token wakes (every further
    token may choose the same), the KV cache of the decoding sequences. Computed: two FLOPs per weight and token, the
    output head once per sequence, attention; in the fastest arithmetic that the GPU has for weights of this width.
    """

    def __init__(self, deployment: Deployment) -> None:
        gpu, model = deployment.gpu, deployment.model
        assert gpu is not None
        assert model is not None
        self._model, self._gpu, tp = model, gpu, deployment.tensor_parallel_size
        dense_width, expert_width = model.bytes_per_weight(deployment.quantization)
        head = model.vocab * model.hidden
        looked_up = 0 if model.tie_embeddings else head
        idle = model.expert_parameters * (1.0 - model.experts_per_token / model.experts) if model.experts else 0.0
        whole = model.weight_bytes_per_gpu(deployment.quantization, tp, deployment.data_parallel_size)
        self._weight_bytes = whole - 2.0 * looked_up / tp - idle * expert_width / deployment.gpus
        self._kv_bytes = model.kv_bytes_per_token_and_layer(deployment.kv_cache_dtype, tp)
        expert_flops = 2.0 * (model.expert_parameters - idle)
        self._token_s = expert_flops / _peak(gpu, expert_width, deployment.gpus)
        self._token_s += 2.0 * model.dense_parameters / _peak(gpu, dense_width, tp)
        self._head_s = 2.0 * head / _peak(gpu, 2.0, tp)
        self._attention_flops = _peak(gpu, 1.0 if "fp8" in deployment.kv_cache_dtype else 2.0, tp)

    def decode(self, seqs: int, context_tokens: int) -> Bound:
        """Return the bound of an iteration that decodes `seqs` sequences with so many tokens of context together."""
        tokens = _attended(self._model, context_tokens, seqs)
        flops_per_pair = min(self._model.decode_flops_per_pair_and_layer(), _prefill_flops(self._model))
        compute_s = (self._token_s + self._head_s) * seqs + tokens * flops_per_pair / self._attention_flops
        return self._slower(self._kv_bytes * tokens, compute_s)

    def prefill(self, tokens: int, pairs: int) -> Bound:
        """Return the bound of an iteration that prefills one chunk with so many (query, key) pairs."""
        attended = _attended(self._model, pairs, tokens)
        compute_s = (
            self._token_s * tokens + self._head_s + attended * _prefill_flops(self._model) / self._attention_flops
        )
        return self._slower(0.0, compute_s)

    def work_s(self, prompt_tokens: Floats, output_tokens: Floats) -> tuple[Floats, Floats]:
        """Return (computing, reading KV) seconds that requests take of a replica in whatever company, shape (n,) each.

        Their arithmetic at peak throughput, without attention; and their own context, read once for every output token
        after the first, by layers without a window. Weights are left out: others share that reading.
        """
        steps = np.maximum(output_tokens - 1, 0)
        computed_s = self._token_s * (prompt_tokens + steps) + self._head_s * output_tokens
        context = prompt_tokens * steps + steps * (steps - 1) / 2
        windowed = self._model.sliding_window_layers if self._model.sliding_window_tokens else 0
        full = self._model.layers - windowed
        read = self._kv_bytes * context * full
        return computed_s, read / self._gpu.memory_bandwidth_bytes_per_s

    def _slower(self, kv_bytes: float, compute_s: float) -> Bound:
        read = self._weight_bytes + kv_bytes
        memory_s = read / self._gpu.memory_bandwidth_bytes_per_s
        if memory_s >= compute_s:
            speed = self._gpu.memory_bandwidth_bytes_per_s / 1e12
            return Bound(memory_s, f"reading {read / 1e9:.3g} GB per GPU at the {speed:.3g} TB/s of {self._gpu.name}")
        return Bound(compute_s, f"its arithmetic at the peak throughput of {self._gpu.name}")


def _attended(model: Model, pairs: float, queries: int) -> float:
    """Return (query, key) pairs summed over the layers; those with a window attend to no more than that."""
    windowed = model.sliding_window_layers
    window_pairs = min(pairs, queries * model.sliding_window_tokens) if model.sliding_window_tokens else pairs
    return (model.layers - windowed) * pairs + windowed * window_pairs


def _prefill_flops(model: Model) -> float:
    return model.prefill_flops_per_pair_and_layer()


def _peak(gpu: Gpu, bytes_per_weight: float, tensor_parallel_size: int) -> float:
    """Return the FLOP/s of all GPUs in the fastest arithmetic for this width; infinite where none is known."""
    known = [value for dtype in arithmetic(bytes_per_weight) if (value := getattr(gpu, f"{dtype}_flops")) is not None]
    return tensor_parallel_size * max(known, default=float("inf"))
