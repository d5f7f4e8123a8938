"""Published models as their config.json states them, cut down to what decides their shape: public facts, retyped."""

from typing import Any

Config = dict[str, Any]


def _config(architecture: str, layers: int, hidden: int, heads: int, kv_heads: int | None, **more: Any) -> Config:
    fields = {
        "architectures": [architecture],
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "torch_dtype": "bfloat16",
    }
    return {name: value for name, value in {**fields, **more}.items() if value is not None}


LLAMA_31_8B = _config(
    "LlamaForCausalLM", 32, 4096, 32, 8, intermediate_size=14336, vocab_size=128256, max_position_embeddings=131072,
    attention_bias=False, mlp_bias=False, tie_word_embeddings=False, rope_theta=500000.0,
)  # fmt: skip
LLAMA_32_1B = _config(
    "LlamaForCausalLM", 16, 2048, 32, 8, intermediate_size=8192, vocab_size=128256, max_position_embeddings=131072,
    head_dim=64, tie_word_embeddings=True,
)  # fmt: skip
LLAMA_2_7B = _config(
    "LlamaForCausalLM", 32, 4096, 32, None, intermediate_size=11008, vocab_size=32000, max_position_embeddings=4096
)
MISTRAL_7B_V01 = _config(
    "MistralForCausalLM", 32, 4096, 32, 8, intermediate_size=14336, vocab_size=32000, max_position_embeddings=32768,
    sliding_window=4096, tie_word_embeddings=False,
)  # fmt: skip
MIXTRAL_8X7B = _config(
    "MixtralForCausalLM", 32, 4096, 32, 8, intermediate_size=14336, vocab_size=32000, max_position_embeddings=32768,
    num_local_experts=8, num_experts_per_tok=2, sliding_window=None,
)  # fmt: skip
QWEN_25_7B = _config(
    "Qwen2ForCausalLM", 28, 3584, 28, 4, intermediate_size=18944, vocab_size=152064, max_position_embeddings=131072,
    use_sliding_window=False, sliding_window=131072, max_window_layers=28, tie_word_embeddings=False,
)  # fmt: skip
QWEN_2_57B_A14B = _config(
    "Qwen2MoeForCausalLM", 28, 3584, 28, 4, intermediate_size=18944, vocab_size=151936, max_position_embeddings=131072,
    num_experts=64, num_experts_per_tok=8, moe_intermediate_size=2560, shared_expert_intermediate_size=20480,
    decoder_sparse_step=1, use_sliding_window=False, sliding_window=65536, max_window_layers=28,
)  # fmt: skip
QWEN_3_8B = _config(
    "Qwen3ForCausalLM", 36, 4096, 32, 8, intermediate_size=12288, vocab_size=151936, max_position_embeddings=40960,
    head_dim=128, attention_bias=False, use_sliding_window=False, sliding_window=None, tie_word_embeddings=False,
)  # fmt: skip
QWEN_3_30B_A3B = _config(
    "Qwen3MoeForCausalLM", 48, 2048, 32, 4, intermediate_size=6144, vocab_size=151936, max_position_embeddings=40960,
    head_dim=128, attention_bias=False, num_experts=128, num_experts_per_tok=8, moe_intermediate_size=768,
    decoder_sparse_step=1, mlp_only_layers=[], use_sliding_window=False, tie_word_embeddings=False,
)  # fmt: skip
DEEPSEEK_V2 = _config(
    "DeepseekV2ForCausalLM", 60, 5120, 128, 128, intermediate_size=12288, vocab_size=102400,
    max_position_embeddings=163840, q_lora_rank=1536, kv_lora_rank=512, qk_nope_head_dim=128, qk_rope_head_dim=64,
    v_head_dim=128, n_routed_experts=160, n_shared_experts=2, num_experts_per_tok=6, moe_intermediate_size=1536,
    first_k_dense_replace=1, moe_layer_freq=1, topk_method="group_limited_greedy",
)  # fmt: skip
DEEPSEEK_V2_LITE = _config(
    "DeepseekV2ForCausalLM", 27, 2048, 16, 16, intermediate_size=10944, vocab_size=102400,
    max_position_embeddings=163840, q_lora_rank=None, kv_lora_rank=512, qk_nope_head_dim=128, qk_rope_head_dim=64,
    v_head_dim=128, n_routed_experts=64, n_shared_experts=2, num_experts_per_tok=6, moe_intermediate_size=1408,
    first_k_dense_replace=1, moe_layer_freq=1, topk_method="greedy",
)  # fmt: skip
DEEPSEEK_V3 = _config(
    "DeepseekV3ForCausalLM", 61, 7168, 128, 128, intermediate_size=18432, vocab_size=129280,
    max_position_embeddings=163840, q_lora_rank=1536, kv_lora_rank=512, qk_nope_head_dim=128, qk_rope_head_dim=64,
    v_head_dim=128, n_routed_experts=256, n_shared_experts=1, num_experts_per_tok=8, moe_intermediate_size=2048,
    first_k_dense_replace=3, moe_layer_freq=1, topk_method="noaux_tc", num_nextn_predict_layers=1,
    quantization_config={"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]},
)  # fmt: skip
GPT_OSS_20B = _config(
    "GptOssForCausalLM", 24, 2880, 64, 8, intermediate_size=2880, vocab_size=201088, max_position_embeddings=131072,
    head_dim=64, attention_bias=True, num_local_experts=32, num_experts_per_tok=4, sliding_window=128,
    layer_types=["sliding_attention", "full_attention"] * 12, tie_word_embeddings=False,
    quantization_config={"quant_method": "mxfp4"},
)  # fmt: skip
GEMMA_7B = _config(
    "GemmaForCausalLM", 28, 3072, 16, 16, intermediate_size=24576, vocab_size=256000, max_position_embeddings=8192,
    head_dim=256,
)  # fmt: skip
GEMMA_2_9B = _config(
    "Gemma2ForCausalLM", 42, 3584, 16, 8, intermediate_size=14336, vocab_size=256000, max_position_embeddings=8192,
    head_dim=256, sliding_window=4096,
)  # fmt: skip
GEMMA_3_27B: Config = {
    "architectures": ["Gemma3ForConditionalGeneration"],
    "text_config": {
        "head_dim": 128, "hidden_size": 5376, "intermediate_size": 21504, "num_attention_heads": 32,
        "num_hidden_layers": 62, "num_key_value_heads": 16, "sliding_window": 1024,
    },
}  # fmt: skip
GEMMA_3_12B: Config = {
    "architectures": ["Gemma3ForConditionalGeneration"],
    "text_config": {
        "hidden_size": 3840, "intermediate_size": 15360, "num_attention_heads": 16, "num_hidden_layers": 48,
        "num_key_value_heads": 8, "sliding_window": 1024,
    },
}  # fmt: skip
