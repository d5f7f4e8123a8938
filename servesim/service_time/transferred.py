"""Iteration time carried over from a calibrated deployment to one that nobody measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pydantic import Field

from servesim.catalog import Gpu, Model, gpu, model
from servesim.catalog.calibrations import Calibration, Key, calibrations, read_key
from servesim.catalog.iteration_form import Coefficients, PiecewiseLinear
from servesim.catalog.precision import arithmetic
from servesim.errors import InputError
from servesim.registry import register
from servesim.service_time.base import Deployment, IterationTime, IterationTimeSpec, Origin, Validity
from servesim.service_time.calibrated import FormIterationTime

READ_EFFICIENCY = 0.8  # of peak bandwidth, at which weights are taken to be read within a calibrated base term
COMPUTE_BOUND_TOKENS = 128  # a slope per token from here on is arithmetic, below it is what small kernels take


class Band(NamedTuple):
    """Measured / transferred iteration time: 10th and 90th percentile over the catalog, each left out in turn."""

    low: float
    high: float


BANDS = {
    "model": Band(0.89, 1.11),
    "gpu": Band(0.70, 1.32),
    "gpu and model": Band(0.70, 1.32),
}
"""By what differs, as `python -m servesim.calibrate.transfer_study` measures them; docs/calibrate.md has the table."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a deployment's terms are proportional to: seconds at peak speed, per GPU."""

    weights_s: float
    token_s: float
    kv_token_s: float
    pair_s: float
    expert_s: float
    layers: int


def work_of(gpu: Gpu, model: Model, tensor_parallel_size: int, quantization: str | None, kv_cache_dtype: str) -> Work:
    """Return the work of a model on so many GPUs; InputError where the GPU's throughput is not known."""
    bandwidth = gpu.memory_bandwidth_bytes_per_s
    dense_bytes, expert_bytes = model.bytes_per_weight(quantization)
    weights = model.weight_bytes_per_gpu(quantization, tensor_parallel_size)
    one_expert, woken = 0.0, 0.0
    if model.experts:
        one_expert = model.expert_parameters / model.experts * expert_bytes / tensor_parallel_size
        woken = model.expert_parameters / model.experts * model.experts_per_token
    return Work(
        (weights - model.experts * one_expert) / bandwidth,
        2.0
        * ((model.active_parameters - woken) / _peak(gpu, dense_bytes) + woken / _peak(gpu, expert_bytes))
        / tensor_parallel_size,
        model.kv_bytes_per_token(kv_cache_dtype, tensor_parallel_size) / bandwidth,
        model.layers * model.prefill_flops_per_pair_and_layer() / (gpu.flops("bf16") * tensor_parallel_size),
        one_expert / bandwidth,
        model.layers,
    )


def _peak(gpu: Gpu, bytes_per_weight: float) -> float:
    known = [value for name in arithmetic(bytes_per_weight) if (value := getattr(gpu, f"{name}_flops")) is not None]
    return known[0] if known else gpu.flops("bf16")


def carried_over(terms: Coefficients, source: Work, target: Work) -> Coefficients:
    """Return the coefficients of one deployment for another.

    Each term goes with its work: attention with bytes of KV cache, arithmetic with FLOPs, experts with their bytes. Of
    the base, what reading the weights takes goes with their bytes, and the rest, which is the latency of kernels, with
    the number of layers; so do slopes of small batches.
    """
    compute, kv = target.token_s / source.token_s, target.kv_token_s / source.kv_token_s
    layers = target.layers / source.layers
    read_s = min(terms.base_s, source.weights_s / READ_EFFICIENCY)
    base_s = read_s * target.weights_s / source.weights_s + (terms.base_s - read_s) * layers
    dense = PiecewiseLinear(
        knots_tokens=terms.dense.knots_tokens,
        s_per_token=[
            slope * (compute if knot >= COMPUTE_BOUND_TOKENS else layers)
            for knot, slope in zip(terms.dense.knots_tokens, terms.dense.s_per_token, strict=True)
        ],
    )
    changed: dict[str, object] = {
        "base_s": base_s,
        "per_seq_s": terms.per_seq_s * layers,
        "dense": dense,
        "context": _times(terms.context, kv),
        "sequence_context": [p.model_copy(update={"s_per_token": p.s_per_token * kv}) for p in terms.sequence_context],
        "per_prefill_pair_s": terms.per_prefill_pair_s * target.pair_s / source.pair_s,
        "prefill_start_s": terms.prefill_start_s * layers,
        "mixed": _times(terms.mixed, compute),
    }
    if terms.padded is not None:
        changed["padded"] = terms.padded.model_copy(update={"seconds": _times(terms.padded.seconds, compute)})
    if terms.experts is not None:
        per_expert_s = terms.experts.per_expert_s * target.expert_s / source.expert_s
        changed["experts"] = terms.experts.model_copy(update={"per_expert_s": per_expert_s})
    return terms.model_copy(update=changed)


def _times(line: PiecewiseLinear, factor: float) -> PiecewiseLinear:
    return PiecewiseLinear(knots_tokens=line.knots_tokens, s_per_token=[slope * factor for slope in line.s_per_token])


def candidates(deployment: Deployment, backend: str | None = None) -> list[Key]:
    """Return the calibrations that could be carried over to a deployment, the nearest first.

    Of the same engine, weights, KV precision and number of GPUs, both dense or both mixtures of experts. Same GPU other
    model comes before same model other GPU, and both before neither; then by likeness of weights and bandwidth.
    """
    to_model, to_gpu = deployment.model, deployment.gpu
    if to_model is None or to_gpu is None:
        return []
    precision = deployment.quantization or to_model.native_quantization or "bf16"
    kv = "bf16" if deployment.kv_cache_dtype == "auto" else deployment.kv_cache_dtype
    found = []
    for key in calibrations():
        alike = (key.backend, key.tensor_parallel_size, key.precision, key.kv_cache_dtype) == (
            backend or deployment.backend,
            deployment.tensor_parallel_size,
            precision,
            kv,
        )
        if not alike or bool(model(key.model).experts) != bool(to_model.experts):
            continue
        if (key.model, key.gpu) != (to_model.name, to_gpu.name):
            found.append(key)
    return sorted(found, key=lambda key: (_order(key, deployment), _unlike(key, deployment), key))


def _order(key: Key, deployment: Deployment) -> int:
    assert deployment.model is not None
    assert deployment.gpu is not None
    return ("model", "gpu", "gpu and model").index(step(key, deployment))


def step(key: Key, deployment: Deployment) -> str:
    """Return what differs between a calibration and a deployment: model, gpu, or gpu and model."""
    assert deployment.model is not None
    assert deployment.gpu is not None
    other_model, other_gpu = key.model != deployment.model.name, key.gpu != deployment.gpu.name
    return "gpu and model" if other_model and other_gpu else "model" if other_model else "gpu"


def _unlike(key: Key, deployment: Deployment) -> float:
    assert deployment.model is not None
    assert deployment.gpu is not None
    source, device = model(key.model), gpu(key.gpu)
    ratios = (
        source.active_parameters / deployment.model.active_parameters,
        device.memory_bandwidth_bytes_per_s / deployment.gpu.memory_bandwidth_bytes_per_s,
        (device.bf16_flops or 1.0) / (deployment.gpu.bf16_flops or 1.0),
    )
    return sum(abs(math.log(ratio)) for ratio in ratios)


class TransferredIterationTime(FormIterationTime):
    """The form of a calibration with its coefficients carried over."""

    def __init__(self, entry: Calibration, deployment: Deployment) -> None:
        assert deployment.model is not None
        assert deployment.gpu is not None
        assert entry.coefficients is not None
        tp = deployment.tensor_parallel_size
        source = work_of(gpu(entry.gpu), model(entry.model), tp, entry.precision, entry.kv_cache_dtype)
        kv = entry.kv_cache_dtype
        target = work_of(deployment.gpu, deployment.model, tp, entry.precision, kv)
        coefficients = carried_over(entry.coefficients, source, target)
        super().__init__(coefficients, deployment.max_num_batched_tokens, deployment.max_num_seqs)
        what = step(Key(entry.model, entry.gpu, entry.backend, tp, entry.precision, kv), deployment)
        facts = {**entry.facts(), "from": entry.name, "carried_over": what, "band": list(BANDS[what])}
        note = f"carried over from {entry.name} to another {what}; see band"
        self.validity = Validity(**entry.validity.model_dump())
        self.origin = Origin("transferred", measured=False, note=note, facts=facts)


_LISTED = 8  # names in an error, the nearest first


@register("service_time")
class Transferred(IterationTimeSpec):
    """A calibration of another model, another GPU or both, carried over term by term. An estimate, with a band.

    Attention goes with the bytes of the KV cache, arithmetic with FLOPs, reading with the weights' bytes, latency with
    the layers; the ratios are those of a roofline. The nearest calibration of the same engine, precision and number of
    GPUs is taken, on the same GPU if there is one, or the one that `source` names (MODEL/GPU, as `servesim list
    calibrations` shows them). The band is the 10th and 90th percentile of measured / transferred over the catalog, each
    deployment predicted from others; it is wider than a calibration's error and narrower than a roofline's.
    """

    kind: Literal["transferred"] = "transferred"
    source: str | None = Field(None, description="MODEL/GPU to start from; default: the nearest calibrated")

    def build(self, deployment: Deployment) -> IterationTime:
        """Return the model; InputError where no calibration is near enough to start from."""
        if deployment.gpu is None or deployment.model is None:
            raise InputError("transferred needs the pool's `gpu` and `model`")
        found = candidates(deployment)
        for key in found:
            entry = read_key(key) if self.source in (None, f"{key.model}/{key.gpu}") else None
            if entry is not None and entry.coefficients is not None:
                return TransferredIterationTime(entry, deployment)
        raise InputError(self._nothing(deployment, found))

    def _nothing(self, deployment: Deployment, found: list[Key]) -> str:
        """Return why no calibration can be carried over, and what could be."""
        assert deployment.gpu is not None
        assert deployment.model is not None
        if self.source == f"{deployment.model.name}/{deployment.gpu.name}":
            return f"source {self.source!r} is this pool's own deployment: write service_time: {{kind: calibrated}}"
        wanted = f"{deployment.backend}, tensor_parallel_size {deployment.tensor_parallel_size}, these precisions"
        where = "" if self.source is None else f" called {self.source!r}"
        names = list(dict.fromkeys(f"{key.model}/{key.gpu}" for key in found))
        more = f", and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
        there = f"there are {', '.join(names[:_LISTED])}{more}" if names else "write service_time: {kind: roofline}"
        return f"no calibration{where} to carry over ({wanted}); {there}"
