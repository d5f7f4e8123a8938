"""Real models on this processor: what is timed is what it should be, and every kind of model can be profiled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from servesim.calibrate.torch_measure import OutOfMemory
from servesim.calibrate.torch_points import IterationPoint
from servesim.calibrate.torch_subjects import subject_of
from servesim.catalog.batch_calibrations import read_batch_calibration
from servesim.catalog.calibrations import read_calibration
from servesim.cli import main

pytestmark = pytest.mark.slow
torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

_SMALL: dict[str, Any] = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 128, "vocab_size": 500, "max_position_embeddings": 512,
}  # fmt: skip
_LATENT = {
    "num_key_value_heads": 4, "q_lora_rank": None, "kv_lora_rank": 24, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8,
    "v_head_dim": 12, "n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2,
    "moe_intermediate_size": 32, "first_k_dense_replace": 1,
}  # fmt: skip
DECODERS: dict[str, dict[str, Any]] = {
    "LlamaForCausalLM": {"model_type": "llama"},
    "Qwen2ForCausalLM": {"model_type": "qwen2"},
    "Qwen3ForCausalLM": {"model_type": "qwen3", "head_dim": 16},
    "MistralForCausalLM": {"model_type": "mistral", "sliding_window": 12},
    "Qwen3MoeForCausalLM": {
        "model_type": "qwen3_moe", "head_dim": 16, "num_experts": 8, "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
    },
    "MixtralForCausalLM": {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2},
    "DeepseekV2ForCausalLM": {**_LATENT, "model_type": "deepseek_v2", "topk_method": "greedy"},
    "DeepseekV3ForCausalLM": {**_LATENT, "model_type": "deepseek_v3", "q_lora_rank": 40, "n_group": 2, "topk_group": 1},
}  # fmt: skip
_BERT = {"model_type": "bert", "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 2}
_VIT = {"model_type": "vit", "image_size": 64, "patch_size": 16, "num_hidden_layers": 2, "hidden_size": 64}
_UNET = {
    "_class_name": "UNet2DConditionModel", "sample_size": 16, "cross_attention_dim": 32, "attention_head_dim": 4,
    "block_out_channels": [32, 64], "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"], "layers_per_block": 1, "norm_num_groups": 8,
}  # fmt: skip
_DIT = {
    "_class_name": "DiTTransformer2DModel", "in_channels": 4, "out_channels": 8, "sample_size": 16, "patch_size": 2,
    "num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 16,
}  # fmt: skip
_WHISPER = {
    "model_type": "whisper", "num_mel_bins": 20, "max_source_positions": 50, "max_target_positions": 64,
    "encoder_layers": 2, "decoder_layers": 2, "d_model": 64, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128,
}  # fmt: skip
BATCHES = {
    "text encoder": {**_BERT, "intermediate_size": 128, "vocab_size": 500, "max_position_embeddings": 128},
    "image classification": {**_VIT, "num_attention_heads": 2, "intermediate_size": 128},
    "speech recognition": _WHISPER,
    "diffusion step": _UNET,
    "diffusion step, transformer": _DIT,
}


def written(tmp_path: Path, fields: dict[str, Any]) -> Path:
    path = tmp_path / "small.json"
    path.write_text(json.dumps(fields))
    return path


def decoder_of(tmp_path: Path, architecture: str, kv_tokens: int = 600) -> Any:
    from servesim.calibrate.torch_decoder import Decoder
    from servesim.calibrate.torch_device import device_of
    from servesim.calibrate.torch_latent import absorb

    path = written(tmp_path, {"architectures": [architecture], **_SMALL, **DECODERS[architecture]})
    decoder = Decoder(subject_of(str(path)), device_of("cpu", 1, "wall"), "fp32", None, False, kv_tokens)
    with torch.no_grad():
        for weight in decoder.model.parameters():
            if weight.ndim > 1:
                weight.mul_(8.0)  # with the usual small weights attention is nearly even, whatever its keys
    absorb(decoder.model)
    return decoder


def computed(decoder: Any, ids: Any, pieces: list[tuple[int, int]], others: bool = False) -> list[int]:
    """Return the greedy choice after each token of `ids`, computed in pieces (before, new) through the KV cache."""
    from servesim.calibrate.torch_decoder import FlatBatch, Group

    found = []
    for before, new in pieces:
        groups = [Group(100, 1, 60, before, new)]
        tokens, positions, first = ids[before : before + new], list(range(before, before + new)), 0
        if others:  # decoding neighbours in the same iteration
            groups.insert(0, Group(200, 3, 30, 10, 1))
            tokens, positions, first = torch.cat([ids[:3], tokens]), [10, 10, 10, *positions], 3
        rows = torch.arange(first, first + new)
        with torch.inference_mode():
            batch = FlatBatch(decoder.cache, groups)
            found += decoder.step(tokens[None], torch.tensor([positions]), rows, batch).tolist()
    return found


@pytest.mark.parametrize("architecture", DECODERS)
@pytest.mark.parametrize("others", [False, True])
def test_chunks_and_single_tokens_give_what_the_model_alone_gives(
    tmp_path: Path, architecture: str, others: bool
) -> None:
    from transformers import AutoModelForCausalLM

    decoder = decoder_of(tmp_path, architecture)
    ids = torch.randint(500, (40,))
    plain = AutoModelForCausalLM.from_config(decoder.model.config, attn_implementation="eager").eval()
    plain.load_state_dict(decoder.model.state_dict())
    with torch.inference_mode():
        expected = plain(input_ids=ids[None], use_cache=False).logits[0].argmax(-1).tolist()
    decoder.model.config._attn_implementation = "servesim_flat"
    pieces = [(0, 17), (17, 9), *((i, 1) for i in range(26, 40))]
    found = computed(decoder, ids, pieces, others)
    # Ties between random logits may fall either way by rounding; a wrong mask or position changes nearly all.
    assert sum(a == b for a, b in zip(found, expected, strict=True)) >= 39


def test_a_wrong_cache_would_be_noticed(tmp_path: Path) -> None:
    decoder = decoder_of(tmp_path, "LlamaForCausalLM")
    ids = torch.randint(500, (40,))
    right = computed(decoder, ids, [(0, 17), (17, 23)])
    computed(decoder, ids.flip(0), [(0, 17)])
    wrong = computed(decoder, ids, [(17, 23)])
    assert sum(a == b for a, b in zip(right[17:], wrong, strict=True)) < 15


def test_latent_attention_caches_one_vector_for_all_heads(tmp_path: Path) -> None:
    """DeepSeek-V2 (arXiv:2405.04434), table 1: (d_c + d_R) elements per token and layer, whatever the heads."""
    from servesim.calibrate.torch_decoder import DecoderBackend

    decoder = decoder_of(tmp_path, "DeepseekV3ForCausalLM")
    [kept] = decoder.cache.seen(0, 0, 2, 10)
    assert kept.shape == (2, 1, 10, 24 + 8)
    with torch.inference_mode():
        decoder.model.model.layers[0].self_attn.absorbed[0].zero_()  # decoding no longer sees keys' contents
        DecoderBackend(decoder).prepare(IterationPoint(2, 20))()
    ids = torch.randint(500, (40,))
    prefill, decode = [(0, 40)], [(0, 17), *((i, 1) for i in range(17, 40))]
    assert computed(decoder, ids, prefill) != computed(decoder, ids, decode)


def test_points_run_and_the_cache_is_the_limit(tmp_path: Path) -> None:
    from servesim.calibrate.torch_decoder import DecoderBackend

    backend = DecoderBackend(decoder_of(tmp_path, "LlamaForCausalLM"))
    for point in (IterationPoint(4, 50), IterationPoint(0, 0, 2, 30, 0), IterationPoint(3, 60, 1, 20, 50)):
        run = backend.prepare(point)
        assert 0 < run() < 10
        assert 0 < run() < 10
    with pytest.raises(OutOfMemory):
        backend.prepare(IterationPoint(6, 100))


def test_a_tiny_decoder_is_profiled_in_a_minute(tmp_path: Path) -> None:
    path = written(tmp_path, {"architectures": ["LlamaForCausalLM"], **_SMALL, **DECODERS["LlamaForCausalLM"]})
    output = tmp_path / "small.yaml"
    arguments = [
        "calibrate",
        "torch",
        str(path),
        "-o",
        str(output),
        "--dtype",
        "fp32",
        "--clock",
        "cpu",
        "--threads",
        "1",
    ]
    arguments += ["--budget", "40s", "--points", "60", "--max-point", "0.2", "--max-num-seqs", "8"]
    arguments += ["--max-context", "256", "--max-prefill-tokens", "128", "--picture", str(tmp_path / "fit.png")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "kind: calibrated" in result.output
    entry = read_calibration(output)
    assert entry.backend == "torch"
    assert entry.validity.max_decode_seqs == 8
    assert output.with_suffix(".points.csv").exists()
    again = CliRunner().invoke(main, [*arguments, "--resume", "--force", "--format", "json"])
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout)["provenance"]["rows"] == 60
    other = CliRunner().invoke(main, [*arguments, "--resume", "--force", "--seed", "3"])
    assert other.exit_code == 2
    assert "seed 0 there, 3 asked for" in other.output


@pytest.mark.parametrize("task", BATCHES)
def test_every_kind_of_model_gives_a_batch_calibration(tmp_path: Path, task: str) -> None:
    if task.startswith("diffusion"):
        pytest.importorskip("diffusers")
    path, output = written(tmp_path, BATCHES[task]), tmp_path / "out.yaml"
    arguments = [
        "calibrate",
        "torch",
        str(path),
        "-o",
        str(output),
        "--dtype",
        "fp32",
        "--clock",
        "cpu",
        "--threads",
        "1",
    ]
    arguments += ["--budget", "20s", "--max-batch-size", "4", "--max-point", "0.2"]
    arguments += ["--output-tokens", "3"] if task.startswith("speech") else []
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    entry = read_batch_calibration(output)
    assert (entry.task, entry.max_batch_size) == (task.partition(",")[0], 4)


@pytest.mark.parametrize(("arguments", "message"), [
    (["llama-3.1-8b", "--dtype", "fp16"], "--dtype fp16: processors compute it in emulation"),
    (["llama-3.1-8b", "--quantization", "fp8"], "--quantization fp8 has kernels for CUDA only"),
    (["llama-3.1-8b", "--clock", "cpu", "--threads", "2"], "--clock cpu counts one thread's processor time"),
    (["bert-base", "--max-context", "10"], "--max-context is not for bert-base"),
    (["llama-3.1-8b", "--max-batch-size", "10"], "--max-batch-size is not for llama-3.1-8b"),
])  # fmt: skip
def test_what_this_machine_cannot_do_is_refused(tmp_path: Path, arguments: list[str], message: str) -> None:
    options = ["-o", str(tmp_path / "x.yaml"), "--device", "cpu"]
    result = CliRunner().invoke(main, ["calibrate", "torch", *arguments, *options])
    assert result.exit_code == 2
    assert message in result.output
    assert list(tmp_path.iterdir()) == []
