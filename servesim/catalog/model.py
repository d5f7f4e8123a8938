"""Model facts: shape, parameter counts, and the bytes of weights and of KV cache."""

from __future__ import annotations

from functools import cache
from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from servesim.catalog.entries import catalog_file, find, folded
from servesim.catalog.precision import kv_bytes, weight_bits
from servesim.registry import Spec

ModelKind = Literal["dense", "moe"]


class LatentAttention(Spec):
    """Multi-head latent attention: keys and values of all heads come from one short vector per token.

    DeepSeek-AI, "DeepSeek-V2: A Strong, Economical, and Efficient Mixture-of-Experts Language Model",
    arXiv:2405.04434, section 2.1. Names as in the checkpoints' config.json.
    """

    q_lora_rank: NonNegativeInt = Field(description="width of the compressed query; 0: queries are not compressed")
    kv_lora_rank: PositiveInt = Field(description="width of the latent vector that is cached")
    qk_nope_head_dim: PositiveInt
    qk_rope_head_dim: PositiveInt = Field(description="width of the rotary key, cached once for all heads")
    v_head_dim: PositiveInt

    def projections(self, hidden: int, heads: int) -> tuple[int, int]:
        """Return the parameters of one layer's projections: (split over GPUs, the same on every GPU)."""
        query = heads * (self.qk_nope_head_dim + self.qk_rope_head_dim)
        up = heads * (self.qk_nope_head_dim + self.v_head_dim) * self.kv_lora_rank + heads * self.v_head_dim * hidden
        down = hidden * (self.kv_lora_rank + self.qk_rope_head_dim)
        if self.q_lora_rank:
            return up + self.q_lora_rank * query, down + hidden * self.q_lora_rank
        return up + hidden * query, down


class Model(Spec):
    """A decoder-only transformer: grouped-query or latent attention; dense, or a mixture of experts.

    Parameter counts follow from the shape alone and are exact for the text model: no vision tower, no modules for
    multi-token prediction. `experts == 0` means dense.
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
    dense_layers: NonNegativeInt = Field(0, description="layers of a mixture of experts that have none")
    shared_intermediate: NonNegativeInt = Field(0, description="width of all shared experts of a layer together")
    shared_gate: bool = Field(False, description="a gate on the shared expert")
    latent: LatentAttention | None = Field(None, description="multi-head latent attention instead of grouped queries")
    sliding_window_tokens: PositiveInt | None = None
    sliding_window_layers: NonNegativeInt = Field(0, description="layers whose attention is limited to the window")
    qkv_bias: bool = Field(False, description="biases on the q, k and v projections")
    output_bias: bool = Field(False, description="biases on the o projection")
    attention_sinks: bool = Field(False, description="one learned sink per query head")
    mlp_bias: bool = Field(False, description="biases in the dense feed-forward")
    expert_bias: bool = Field(False, description="biases on the router and in the experts")
    router_correction_bias: bool = Field(False, description="a bias per expert used for choosing only")
    qk_norm: Literal["none", "per_head", "per_layer"] = "none"
    norms_per_layer: PositiveInt = Field(2, description="norms of the residual stream's width in each layer")
    native_quantization: str | None = Field(None, description="how the published checkpoint is stored; None is bf16")
    sources: dict[str, str] = Field(description="where the numbers come from")

    def expected_experts(self, tokens: float) -> float:
        """Return how many experts of a layer `tokens` tokens wake, routed uniformly: E (1 - (1 - k/E)^n)."""
        if self.experts == 0:
            return 0.0
        miss = 1.0 - self.experts_per_token / self.experts
        return float(self.experts * (1.0 - miss**tokens))

    @property
    def kind(self) -> ModelKind:
        """Whether every token passes all weights, or each layer sends it to some of its experts."""
        return "moe" if self.experts else "dense"

    @property
    def moe_layers(self) -> int:
        """Layers with experts."""
        return self.layers - self.dense_layers if self.experts else 0

    @property
    def expert_parameters(self) -> int:
        """Parameters in all routed expert matrices, biases left out."""
        return self.moe_layers * self.experts * 3 * self.hidden * self.moe_intermediate

    @property
    def attention_parameters(self) -> int:
        """Parameters in the attention projections of all layers."""
        if self.latent is not None:
            return self.layers * sum(self.latent.projections(self.hidden, self.heads))
        return self.layers * self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)

    @property
    def dense_parameters(self) -> int:
        """Parameters in the matrices every token passes, without embedding and output head."""
        feed_forward = (self.layers - self.moe_layers) * self.intermediate + self.moe_layers * self.shared_intermediate
        return self.attention_parameters + 3 * self.hidden * feed_forward

    @property
    def embedding_parameters(self) -> int:
        """Parameters of the input embedding and, if not tied, of the output head."""
        return self.vocab * self.hidden * (1 if self.tie_embeddings else 2)

    @property
    def small_parameters(self) -> int:
        """Norms, biases, routers and sinks: what no quantization touches."""
        return self.layers * self._small_per_layer() + self.moe_layers * self._small_per_moe_layer() + self.hidden

    def _small_per_layer(self) -> int:
        count = self.norms_per_layer * self.hidden
        if self.latent is not None:
            count += self.latent.q_lora_rank + self.latent.kv_lora_rank
        if self.qk_norm == "per_head":
            count += 2 * self.head_dim
        elif self.qk_norm == "per_layer":
            count += (self.heads + self.kv_heads) * self.head_dim
        if self.qkv_bias:
            count += (self.heads + 2 * self.kv_heads) * self.head_dim
        if self.mlp_bias:
            count += 2 * self.intermediate + self.hidden
        return count + self.output_bias * self.hidden + self.attention_sinks * self.heads

    def _small_per_moe_layer(self) -> int:
        count = self.experts * self.hidden + self.shared_gate * self.hidden
        if self.expert_bias:
            count += self.experts * (1 + 2 * self.moe_intermediate + self.hidden)
        return count + self.router_correction_bias * self.experts

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
        if self.expert_bias:
            idle += (
                self.moe_layers * (self.experts - self.experts_per_token) * (2 * self.moe_intermediate + self.hidden)
            )
        return self.parameters - idle

    def bytes_per_weight(self, quantization: str | None = None) -> tuple[float, float]:
        """Return bytes per weight of (the dense matrices, the expert matrices) under `quantization`.

        None is the published checkpoint: bf16 unless the model has a `native_quantization`. Microscaling FP4 is
        applied to experts only, as published checkpoints do. Raises InputError for an unknown name.
        """
        name = quantization or self.native_quantization or "bf16"
        bits = weight_bits(name)
        dense_bits = 16.0 if name == "mxfp4" and self.experts else bits
        return dense_bits / 8.0, bits / 8.0

    def weight_bytes(self, quantization: str | None = None) -> float:
        """Return the bytes of all weights; embedding, output head, norms, biases and routers stay in 16 bits."""
        dense, expert = self.bytes_per_weight(quantization)
        kept = self.embedding_parameters + self.small_parameters
        return self.dense_parameters * dense + self.expert_parameters * expert + 2.0 * kept

    def weight_bytes_per_gpu(
        self, quantization: str | None = None, tensor_parallel_size: int = 1, data_parallel_size: int = 1
    ) -> float:
        """Return the weight bytes on each of `tensor_parallel_size` * `data_parallel_size` GPUs.

        Norms, routers and such are on every one, and so are the down-projections of latent attention; key and value
        projections are repeated where there are more GPUs than key-value heads. Data parallelism repeats everything but
        the routed experts.
        """
        dense = self.bytes_per_weight(quantization)[0]
        if self.latent is not None:
            on_all, repeated = self.layers * self.latent.projections(self.hidden, self.heads)[1] * dense, 0.0
        else:
            copies = max(1, tensor_parallel_size // self.kv_heads)
            kv = 2 * self.layers * self.hidden * self.head_dim * self.kv_heads * dense
            on_all, repeated = 0.0, (copies - 1) * kv
        on_all += 2.0 * self.small_parameters
        whole = on_all + (self.weight_bytes(quantization) - on_all + repeated) / tensor_parallel_size
        experts = self.expert_parameters * self.bytes_per_weight(quantization)[1] / tensor_parallel_size
        return whole - experts * (1.0 - 1.0 / data_parallel_size)

    def kv_bytes_per_token(self, kv_cache_dtype: str = "auto", tensor_parallel_size: int = 1) -> float:
        """Return KV-cache bytes per token on one GPU: 2 * layers * kv_heads * head_dim * bytes.

        Tensor parallelism divides the KV heads; with more GPUs than KV heads each GPU keeps one (a replica). Latent
        attention keeps (kv_lora_rank + qk_rope_head_dim) * layers * bytes on every GPU. Layers with a sliding window
        count like the others: a paged cache reserves the same block for every layer.
        """
        return self.layers * self.kv_bytes_per_token_and_layer(kv_cache_dtype, tensor_parallel_size)

    def kv_bytes_per_token_and_layer(self, kv_cache_dtype: str = "auto", tensor_parallel_size: int = 1) -> float:
        """Return one layer's part of `kv_bytes_per_token`."""
        width = kv_bytes(kv_cache_dtype)
        if self.latent is not None:
            return (self.latent.kv_lora_rank + self.latent.qk_rope_head_dim) * width
        return 2.0 * max(1.0, self.kv_heads / tensor_parallel_size) * self.head_dim * width

    def prefill_flops_per_pair_and_layer(self) -> float:
        """Return FLOPs per (query, key) pair of one layer's attention in a prefill: 2 for q k and 2 for its value."""
        if self.latent is not None:
            latent = self.latent
            return 2.0 * self.heads * (latent.qk_nope_head_dim + latent.qk_rope_head_dim + latent.v_head_dim)
        return 4.0 * self.heads * self.head_dim

    def decode_flops_per_pair_and_layer(self) -> float:
        """Return the same for decoding: latent attention then works on the latent vectors themselves."""
        if self.latent is not None:
            return 2.0 * self.heads * (2 * self.latent.kv_lora_rank + self.latent.qk_rope_head_dim)
        return 4.0 * self.heads * self.head_dim


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
    advice = "; for another give its config.json (model: {config: PATH})"
    return find(name, "model", _entries(), models(), advice)


_NOT_SHAPE = {"name", "aliases", "sources", "max_context", "native_quantization"}


def same_shape(entry: Model) -> Model | None:
    """Return the catalogued model whose iterations cost the same: all but name, context and storage are equal."""
    shape = entry.model_dump(exclude=_NOT_SHAPE)
    return next((known for known in map(model, models()) if known.model_dump(exclude=_NOT_SHAPE) == shape), None)
