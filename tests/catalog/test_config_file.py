"""Models from config.json files: published sizes, and every way a file can be wrong."""

import json
from pathlib import Path

import pytest

from servesim.catalog import Model, model
from servesim.catalog.config_file import read_config
from servesim.catalog.model import same_shape
from servesim.errors import InputError
from tests.catalog import configs


def read(folder: Path, config: object) -> Model:
    path = folder / "config.json"
    path.write_text(config if isinstance(config, str) else json.dumps(config))
    return read_config(path)


@pytest.mark.parametrize(
    ("config", "parameters"),
    [  # safetensors indexes of the checkpoints; Gemma: arXiv:2403.08295 and arXiv:2408.00118, embedding + rest
        (configs.LLAMA_2_7B, 6_738_415_616),
        (configs.LLAMA_31_8B, 8_030_261_248),
        (configs.LLAMA_32_1B, 1_235_814_400),
        (configs.MISTRAL_7B_V01, 7_241_732_096),
        (configs.MIXTRAL_8X7B, 46_702_792_704),
        (configs.QWEN_25_7B, 7_615_616_512),
        (configs.DEEPSEEK_V2, 235_741_434_880),
        (configs.DEEPSEEK_V2_LITE, 15_706_484_224),
        (configs.GEMMA_7B, 786_432_000 + 7_751_248_896),
        (configs.GEMMA_2_9B, 917_504_000 + 8_324_201_984),
    ],
)
def test_parameters_are_exactly_the_published_ones(config: configs.Config, parameters: int, tmp_path: Path) -> None:
    assert read(tmp_path, config).parameters == parameters


@pytest.mark.parametrize(
    ("config", "total", "active"),
    [  # as the model cards and reports round them
        (configs.MIXTRAL_8X7B, 46.7e9, 12.9e9),
        (configs.QWEN_2_57B_A14B, 57.4e9, 14.2e9),
        (configs.QWEN_3_8B, 8.19e9, 8.19e9),
        (configs.QWEN_3_30B_A3B, 30.5e9, 3.35e9),
        (configs.DEEPSEEK_V2, 236e9, 21.4e9),
        (configs.DEEPSEEK_V3, 671e9, 37.5e9),
        (configs.GPT_OSS_20B, 20.91e9, 4.19e9),
    ],
)
def test_total_and_active_parameters(config: configs.Config, total: float, active: float, tmp_path: Path) -> None:
    entry = read(tmp_path, config)
    assert entry.parameters == pytest.approx(total, rel=0.002)
    assert entry.active_parameters == pytest.approx(active, rel=0.005)


@pytest.mark.parametrize(("config", "rest"), [(configs.GEMMA_3_12B, 10_759e6), (configs.GEMMA_3_27B, 25_600e6)])
def test_gemma_3_fills_in_what_its_files_leave_out(config: configs.Config, rest: float, tmp_path: Path) -> None:
    entry = read(tmp_path, config)  # Gemma 3 technical report, arXiv:2503.19786, table 1: parameters but embeddings
    assert entry.parameters - entry.embedding_parameters == pytest.approx(rest, rel=1e-4)
    assert entry.sliding_window_layers == entry.layers - entry.layers // 6


def test_latent_attention_caches_one_short_vector_on_every_gpu(tmp_path: Path) -> None:
    deepseek = read(tmp_path, configs.DEEPSEEK_V3)
    # 70.272 KB: "Insights into DeepSeek-V3", arXiv:2505.09343, table 1.
    assert deepseek.kv_bytes_per_token() == 70_272 == deepseek.kv_bytes_per_token(tensor_parallel_size=8)
    assert deepseek.kv_bytes_per_token("fp8") == 35_136
    assert deepseek.native_quantization == "fp8"
    assert deepseek.weight_bytes() == pytest.approx(671e9, rel=0.005)
    eight = 8 * deepseek.weight_bytes_per_gpu(tensor_parallel_size=8)
    assert deepseek.weight_bytes() < eight < 1.03 * deepseek.weight_bytes()


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (configs.LLAMA_31_8B, "llama-3.1-8b"),
        (configs.QWEN_3_8B, "qwen3-8b"),
        (configs.QWEN_3_30B_A3B, "qwen3-30b-a3b"),
        (configs.GPT_OSS_20B, "gpt-oss-20b"),
    ],
)
def test_a_file_of_a_catalogued_model_has_its_shape(config: configs.Config, name: str, tmp_path: Path) -> None:
    assert same_shape(read(tmp_path, config)) is model(name)
    assert same_shape(read(tmp_path, config | {"num_hidden_layers": 3, "layer_types": None})) is None


def test_the_name_comes_from_the_caller_the_file_or_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    assert read(folder, configs.LLAMA_31_8B).name == "my-model"
    assert read(folder, configs.LLAMA_31_8B | {"_name_or_path": "org/own"}).name == "org/own"
    assert read_config(folder / "config.json", "mine").name == "mine"


def test_layers_without_experts_are_counted(tmp_path: Path) -> None:
    entry = read(tmp_path, configs.QWEN_3_30B_A3B | {"mlp_only_layers": [0, 5], "decoder_sparse_step": 2})
    assert entry.dense_layers == 25  # every second one, of which layer 5 is dense as well
    whole = read(tmp_path, configs.QWEN_3_30B_A3B)
    dense = entry.dense_parameters - whole.dense_parameters
    assert dense == 25 * 3 * 2048 * 6144
    assert entry.expert_parameters * 48 == whole.expert_parameters * 23


def test_sliding_windows(tmp_path: Path) -> None:
    assert read(tmp_path, configs.MISTRAL_7B_V01).sliding_window_layers == 32
    assert read(tmp_path, configs.QWEN_25_7B).sliding_window_tokens is None
    upper = configs.QWEN_25_7B | {"use_sliding_window": True, "max_window_layers": 20}
    assert read(tmp_path, upper).sliding_window_layers == 8
    assert read(tmp_path, configs.GEMMA_2_9B).sliding_window_layers == 21


@pytest.mark.parametrize(
    ("quantization", "expected"),
    [
        ({"quant_method": "awq", "bits": 4}, "awq"),
        ({"quant_method": "awq"}, "awq"),
        ({"quant_method": "gptq", "bits": 4}, "gptq"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4"),
        ({"quant_method": "compressed-tensors",
          "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float"}}}}, "fp8"),
        ({"quant_method": "compressed-tensors",
          "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int"}}}}, "int4"),
    ],
)  # fmt: skip
def test_stored_precision(quantization: dict[str, object], expected: str, tmp_path: Path) -> None:
    entry = read(tmp_path, configs.LLAMA_31_8B | {"quantization_config": quantization})
    assert entry.native_quantization == expected


@pytest.mark.parametrize("name", ["num_hidden_layers", "hidden_size", "vocab_size", "intermediate_size"])
def test_a_missing_field_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"config\.json: missing field '{name}'"):
        read(tmp_path, {key: value for key, value in configs.LLAMA_31_8B.items() if key != name})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (configs.LLAMA_31_8B | {"architectures": ["MambaForCausalLM"]},
         r"unknown architecture 'MambaForCausalLM'.* Supported: DeepseekV2ForCausalLM, .*Qwen3MoeForCausalLM"),
        ({"model_type": "llama"}, "missing field 'architectures'; supported: "),
        (configs.LLAMA_31_8B | {"num_hidden_layers": "32"}, "'num_hidden_layers': expected a positive whole number"),
        (configs.LLAMA_31_8B | {"hidden_size": 0}, "'hidden_size': expected a positive whole number"),
        (configs.LLAMA_31_8B | {"num_attention_heads": True}, "'num_attention_heads': expected"),
        (configs.LLAMA_31_8B | {"attention_bias": "no"}, "'attention_bias': expected true or false"),
        (configs.GPT_OSS_20B | {"layer_types": "all"}, "'layer_types': expected a list"),
        (configs.LLAMA_31_8B | {"quantization_config": {"quant_method": "hqq"}}, "'hqq' is not understood"),
        (configs.LLAMA_31_8B | {"num_key_value_heads": 7}, "'num_key_value_heads': 7 does not divide the 32 attention"),
        ({"architectures": ["Gemma3ForConditionalGeneration"]}, "missing field 'text_config'"),
        ("{", "is not JSON"),
        ("[1]", "expected a JSON object"),
        ("[" * 100_000, "is not JSON"),
    ],
)  # fmt: skip
def test_what_a_file_can_be_wrong_about(config: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, config)


@pytest.mark.parametrize(
    ("quantization", "message"),
    [
        ({"quant_method": "gptq", "bits": 8}, "'gptq' with 8 bits is not understood"),
        ({"quant_method": "awq", "bits": 3}, "'awq' with 3 bits is not understood"),
        ({"quant_method": "gptq"}, "missing field 'bits'"),
        ({"quant_method": "gptq", "bits": "4"}, "'bits': expected a positive whole number"),
        ({"quant_method": "compressed-tensors",
          "config_groups": {"group_0": {"weights": {"num_bits": "eight", "type": "int"}}}}, "is not understood"),
    ],
)  # fmt: skip
def test_bits_that_are_not_understood(quantization: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, configs.LLAMA_31_8B | {"quantization_config": quantization})


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_config(tmp_path / "config.json")
