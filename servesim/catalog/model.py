"""Model facts: shape, parameter counts, and the bytes of weights and of KV cache."""

from __future__ import annotations

from functools import cache
from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from servesim.catalog.entries import catalog_file, find, folded
from servesim.errors import InputError
from servesim.registry import Spec

# Bits per quantized weight with its scales. Groups of 128 with a 16-bit scale and a 4-bit zero (AWQ, GPTQ); blocks
# of 32 with an 8-bit scale (OCP Microscaling MXFP4 and MXFP8); blocks of 16 with an 8-bit scale (NVFP4); FP8 and
# INT8 scales per channel or per 128 x 128 block weigh less than 0.1 % and are left out.
_WEIGHT_BITS = {
    "bf16": 16.0,
    "fp16": 16.0,
    "fp8": 8.0,
    "int8": 8.0,
    "mxfp8": 8.25,
    "awq": 4.0 + 20.0 / 128.0,
    "gptq": 4.0 + 20.0 / 128.0,
    "int4": 4.0 + 20.0 / 128.0,
    "mxfp4": 4.25,
    "nvfp4": 4.5,
    "fp4": 4.5,
}
_KV_BYTES = {"auto": 2.0, "bf16": 2.0, "bfloat16": 2.0, "fp16": 2.0, "float16": 2.0}
_KV_BYTES |= dict.fromkeys(("fp8", "fp8_e4m3", "fp8_e5m2", "int8"), 1.0)


class Model(Spec):
    """A decoder-only transformer with grouped-query attention, dense or mixture of experts.

    Parameter counts follow from the shape alone and are exact. `experts == 0` means dense. Every layer of a
    mixture-of-experts model here is one (no dense prefix layers, no shared expert).
    """

    name: str
    aliases: tuple[str, ...] = ()
    layers: PositiveInt
    hidden: PositiveInt = Field(description="width of the residual stream")
    heads: PositiveInt = Field(description="query heads")
    kv_heads: PositiveInt
    head_dim: PositiveInt
    intermediate: NonNegativeInt = Field(description="width of the dense feed-forward; 0 if every layer has experts")
    vocab: PositiveInt
    max_context: PositiveInt = Field(description="longest context in tokens that the checkpoint's config allows")
    tie_embeddings: bool = False
    experts: NonNegativeInt = Field(0, description="routed experts per layer")
    experts_per_token: NonNegativeInt = 0
    moe_intermediate: NonNegativeInt = Field(0, description="width of one expert's feed-forward")
    sliding_window_tokens: PositiveInt | None = None
    sliding_window_layers: NonNegativeInt = Field(0, description="layers whose attention is limited to the window")
    attention_bias: bool = Field(False, description="biases on the q, k, v and o projections")
    attention_sinks: bool = Field(False, description="one learned sink per query head")
    mlp_bias: bool = Field(False, description="biases on the router and in the experts")
    router_correction_bias: bool = Field(False, description="a bias per expert used for choosing only")
    qk_norm: Literal["none", "per_head", "per_layer"] = "none"
    native_quantization: str | None = Field(None, description="how the published checkpoint is stored; None is bf16")
    sources: dict[str, str] = Field(description="where the numbers come from")

    def expected_experts(self, tokens: float) -> float:
        """Return how many experts of a layer `tokens` tokens wake, routed uniformly: E (1 - (1 - k/E)^n)."""
        if self.experts == 0:
            return 0.0
        miss = 1.0 - self.experts_per_token / self.experts
        return float(self.experts * (1.0 - miss**tokens))

    @property
    def expert_parameters(self) -> int:
        """Parameters in all expert matrices, biases left out."""
        return self.layers * self.experts * 3 * self.hidden * self.moe_intermediate

    @property
    def attention_parameters(self) -> int:
        """Parameters in the q, k, v and o matrices of all layers."""
        return self.layers * self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)

    @property
    def dense_parameters(self) -> int:
        """Parameters in the matrices every token passes, without embedding and output head."""
        feed_forward = 0 if self.experts else 3 * self.hidden * self.intermediate
        return self.attention_parameters + self.layers * feed_forward

    @property
    def embedding_parameters(self) -> int:
        """Parameters of the input embedding and, if not tied, of the output head."""
        return self.vocab * self.hidden * (1 if self.tie_embeddings else 2)

    @property
    def small_parameters(self) -> int:
        """Norms, biases, routers and sinks: what no quantization touches."""
        per_layer = 2 * self.hidden + self.experts * self.hidden
        if self.qk_norm == "per_head":
            per_layer += 2 * self.head_dim
        elif self.qk_norm == "per_layer":
            per_layer += (self.heads + self.kv_heads) * self.head_dim
        if self.attention_bias:
            per_layer += (self.heads + 2 * self.kv_heads) * self.head_dim + self.hidden
        if self.attention_sinks:
            per_layer += self.heads
        if self.mlp_bias:
            per_layer += self.experts * (1 + 2 * self.moe_intermediate + self.hidden)
        if self.router_correction_bias:
            per_layer += self.experts
        return self.layers * per_layer + self.hidden

    @property
    def parameters(self) -> int:
        """All parameters."""
        return self.dense_parameters + self.expert_parameters + self.embedding_parameters + self.small_parameters

    @property
    def active_parameters(self) -> int:
        """Parameters one token uses: `parameters` with `experts_per_token` experts per layer instead of all."""
        if not self.experts:
            return self.parameters
        idle = self.expert_parameters // self.experts * (self.experts - self.experts_per_token)
        if self.mlp_bias:
            idle += self.layers * (self.experts - self.experts_per_token) * (2 * self.moe_intermediate + self.hidden)
        return self.parameters - idle

    def bytes_per_weight(self, quantization: str | None = None) -> tuple[float, float]:
        """Return bytes per weight of (the dense matrices, the expert matrices) under `quantization`.

        None is the published checkpoint: bf16 unless the model has a `native_quantization`. Microscaling FP4 is
        applied to experts only, as published checkpoints do. Raises InputError for an unknown name.
        """
        name = quantization or self.native_quantization or "bf16"
        bits = _WEIGHT_BITS.get(name)
        if bits is None:
            raise InputError(f"unknown quantization {name!r}; known: {', '.join(sorted(_WEIGHT_BITS))}")
        dense_bits = 16.0 if name == "mxfp4" and self.experts else bits
        return dense_bits / 8.0, bits / 8.0

    def weight_bytes(self, quantization: str | None = None) -> float:
        """Return the bytes of all weights; embedding, output head, norms, biases and routers stay in 16 bits."""
        dense, expert = self.bytes_per_weight(quantization)
        kept = self.embedding_parameters + self.small_parameters
        return self.dense_parameters * dense + self.expert_parameters * expert + 2.0 * kept

    def weight_bytes_per_gpu(self, quantization: str | None = None, tensor_parallel_size: int = 1) -> float:
        """Return the weight bytes on each of `tensor_parallel_size` GPUs; norms, routers and such are on every one."""
        whole = 2.0 * self.small_parameters
        replicas = max(1, tensor_parallel_size // self.kv_heads)
        kv = 2 * self.layers * self.hidden * self.head_dim * self.kv_heads * self.bytes_per_weight(quantization)[0]
        split = self.weight_bytes(quantization) - whole + (replicas - 1) * kv
        return whole + split / tensor_parallel_size

    def kv_bytes_per_token(self, kv_cache_dtype: str = "auto", tensor_parallel_size: int = 1) -> float:
        """Return KV-cache bytes per token on one GPU: 2 * layers * kv_heads * head_dim * bytes.

        Tensor parallelism divides the KV heads; with more GPUs than KV heads each GPU keeps one (a replica). Layers
        with a sliding window count like the others: a paged cache reserves the same block for every layer.
        """
        width = _KV_BYTES.get(kv_cache_dtype)
        if width is None:
            raise InputError(f"unknown kv_cache_dtype {kv_cache_dtype!r}; known: {', '.join(sorted(_KV_BYTES))}")
        heads = max(1.0, self.kv_heads / tensor_parallel_size)
        return 2.0 * self.layers * heads * self.head_dim * width


@cache
def _entries() -> dict[str, Model]:
    found: dict[str, Model] = {}
    for name, fields in catalog_file("models.yaml").items():
        entry = Model(name=name, **{**fields, "aliases": tuple(fields.get("aliases", ()))})
        for alias in (name, *entry.aliases):
            found[folded(alias)] = entry
    return found


def models() -> tuple[str, ...]:
    """Return the names of all catalogued models, sorted."""
    return tuple(sorted(catalog_file("models.yaml")))


def model(name: str) -> Model:
    """Return the model called `name` (catalog name or alias such as its Hugging Face id).

    Raises InputError naming the nearest known one.
    """
    return find(name, "model", _entries(), models())
