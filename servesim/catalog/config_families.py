"""How each family of models writes its shape into config.json: one function per family, by architecture name.

The names, and the values that stand for a missing field, are those of the `configuration_*.py` modules of Hugging
Face Transformers 4.57 and of the engines that read the same files.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from servesim.catalog.config_fields import ConfigFields
from servesim.catalog.model import LatentAttention

Shape = dict[str, Any]
_GEMMA3_DEFAULTS = {
    "vocab_size": 262_208,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "max_position_embeddings": 131_072,
    "sliding_window": 4096,
}


def _common(config: ConfigFields) -> Shape:
    """Return what all families name alike."""
    heads, hidden = config.count("num_attention_heads"), config.count("hidden_size")
    return {
        "layers": config.count("num_hidden_layers"),
        "hidden": hidden,
        "heads": heads,
        "kv_heads": config.count("num_key_value_heads", heads),
        "head_dim": config.count("head_dim", hidden // heads),
        "intermediate": config.count("intermediate_size"),
        "vocab": config.count("vocab_size"),
        "max_context": config.count("max_position_embeddings"),
        "tie_embeddings": config.flag("tie_word_embeddings"),
    }


def _window(config: ConfigFields, layers: int) -> Shape:
    """Return the sliding window of `layers` layers, or of those that `layer_types` says have one."""
    types = config.texts("layer_types")
    count = layers if types is None else types.count("sliding_attention")
    tokens = config.count_or_zero("sliding_window")
    return {"sliding_window_tokens": tokens, "sliding_window_layers": count} if tokens and count else {}


def _llama(config: ConfigFields) -> Shape:
    bias = config.flag("attention_bias")
    return {**_common(config), "qkv_bias": bias, "output_bias": bias, "mlp_bias": config.flag("mlp_bias")}


def _mistral(config: ConfigFields) -> Shape:
    shape = _common(config)
    return {**shape, **_window(config, shape["layers"])}


def _mixtral(config: ConfigFields) -> Shape:
    experts = {
        "experts": config.count("num_local_experts"),
        "experts_per_token": config.count("num_experts_per_tok"),
        "moe_intermediate": config.count("intermediate_size"),
        "intermediate": 0,
    }
    return {**_mistral(config), **experts}


def _qwen2(config: ConfigFields) -> Shape:
    shape = {**_common(config), "qkv_bias": True}
    if not config.flag("use_sliding_window"):
        return shape
    return {**shape, **_window(config, max(0, shape["layers"] - config.count_or_zero("max_window_layers")))}


def _qwen3(config: ConfigFields) -> Shape:
    bias = config.flag("attention_bias")
    head_dim = config.count("head_dim", 128)
    return {**_qwen2(config), "qk_norm": "per_head", "head_dim": head_dim, "qkv_bias": bias, "output_bias": bias}


def _qwen_experts(config: ConfigFields, layers: int) -> Shape:
    """Return the experts of Qwen2-MoE and Qwen3-MoE: in every `decoder_sparse_step`-th layer, but for some."""
    step = config.count("decoder_sparse_step", 1)
    dense_only = config.get("mlp_only_layers") or []
    dense = sum(1 for i in range(layers) if i in dense_only or (i + 1) % step)
    shape: Shape = {
        "experts": config.count("num_experts"),
        "experts_per_token": config.count("num_experts_per_tok"),
        "moe_intermediate": config.count("moe_intermediate_size"),
        "dense_layers": dense,
    }
    return shape if dense else {**shape, "intermediate": 0}


def _qwen2_moe(config: ConfigFields) -> Shape:
    shape = _qwen2(config)
    shared = {"shared_intermediate": config.count("shared_expert_intermediate_size"), "shared_gate": True}
    return {**shape, **_qwen_experts(config, shape["layers"]), **shared}


def _qwen3_moe(config: ConfigFields) -> Shape:
    shape = _qwen3(config)
    return {**shape, **_qwen_experts(config, shape["layers"])}


def _deepseek(config: ConfigFields) -> Shape:
    latent = LatentAttention(
        q_lora_rank=config.count_or_zero("q_lora_rank"),
        kv_lora_rank=config.count("kv_lora_rank"),
        qk_nope_head_dim=config.count("qk_nope_head_dim"),
        qk_rope_head_dim=config.count("qk_rope_head_dim"),
        v_head_dim=config.count("v_head_dim"),
    )
    # Latent attention reads these two nowhere; set so that every file about one shape gives one shape.
    heads = {"kv_heads": config.count("num_attention_heads"), "head_dim": latent.qk_nope_head_dim}
    shape = {**_common(config), **heads, "latent": latent}
    if not config.count_or_zero("n_routed_experts"):
        return shape
    step, first = config.count("moe_layer_freq", 1), config.count_or_zero("first_k_dense_replace")
    width = config.count("moe_intermediate_size")
    experts = {
        "experts": config.count("n_routed_experts"),
        "experts_per_token": config.count("num_experts_per_tok"),
        "moe_intermediate": width,
        "shared_intermediate": config.count_or_zero("n_shared_experts") * width,
        "dense_layers": sum(1 for i in range(shape["layers"]) if i < first or i % step),
        "router_correction_bias": config.get("topk_method") == "noaux_tc",
    }
    return {**shape, **experts}


def _gpt_oss(config: ConfigFields) -> Shape:
    shape = _common(config)
    experts = {
        "experts": config.count("num_local_experts"),
        "experts_per_token": config.count("num_experts_per_tok"),
        "moe_intermediate": config.count("intermediate_size"),
        "intermediate": 0,
        "expert_bias": True,
        "attention_sinks": True,
    }
    bias = config.flag("attention_bias", True)
    window = _window(config, (shape["layers"] + 1) // 2)
    return {**shape, **experts, **window, "qkv_bias": bias, "output_bias": bias}


def _gemma(config: ConfigFields) -> Shape:
    return {**_common(config), "tie_embeddings": config.flag("tie_word_embeddings", True)}


def _gemma2(config: ConfigFields) -> Shape:
    shape = _gemma(config)
    return {**shape, "norms_per_layer": 4, **_window(config, (shape["layers"] + 1) // 2)}


def _gemma3(config: ConfigFields) -> Shape:
    # The files of the larger sizes leave out what equals the library's default.
    filled = config.with_defaults(_GEMMA3_DEFAULTS)
    shape = {**_gemma(filled), "norms_per_layer": 4, "qk_norm": "per_head"}
    full = shape["layers"] // config.count("sliding_window_pattern", 6)
    return {**shape, **_window(filled, shape["layers"] - full)}


def _gemma3_with_vision(config: ConfigFields) -> Shape:
    return _gemma3(config.part("text_config"))


def _minimax_m2(config: ConfigFields) -> Shape:
    shape = {**_mixtral(config), "router_correction_bias": config.flag("use_routing_bias", True)}
    return {**shape, "qk_norm": "per_layer" if config.flag("use_qk_norm", True) else "none"}


ARCHITECTURES: dict[str, Callable[[ConfigFields], Shape]] = {
    "LlamaForCausalLM": _llama,
    "MistralForCausalLM": _mistral,
    "MixtralForCausalLM": _mixtral,
    "Qwen2ForCausalLM": _qwen2,
    "Qwen2MoeForCausalLM": _qwen2_moe,
    "Qwen3ForCausalLM": _qwen3,
    "Qwen3MoeForCausalLM": _qwen3_moe,
    "DeepseekV2ForCausalLM": _deepseek,
    "DeepseekV3ForCausalLM": _deepseek,
    "GptOssForCausalLM": _gpt_oss,
    "GemmaForCausalLM": _gemma,
    "Gemma2ForCausalLM": _gemma2,
    "Gemma3ForCausalLM": _gemma3,
    "Gemma3ForConditionalGeneration": _gemma3_with_vision,
    "MiniMaxM2ForCausalLM": _minimax_m2,
}
"""Architecture name in config.json -> what reads its shape."""
