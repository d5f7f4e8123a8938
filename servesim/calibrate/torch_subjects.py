"""What can be profiled: models by name or config file, and what one item of a batch is."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from servesim.catalog import Model
from servesim.catalog.config_file import read_config
from servesim.catalog.entries import find, folded
from servesim.catalog.model import model, models
from servesim.errors import InputError, Problem, unreadable

DECODER, ENCODER, VISION, SPEECH, DIFFUSION = (
    "decoder", "text encoder", "image classification", "speech recognition", "diffusion step",
)  # fmt: skip
_BERT = {"model_type": "bert", "vocab_size": 30522, "max_position_embeddings": 512}
_VIT = {"model_type": "vit", "image_size": 224, "patch_size": 16, "num_channels": 3}
_WHISPER = {"model_type": "whisper", "num_mel_bins": 80, "max_source_positions": 1500, "max_target_positions": 448}
_DIT = {"_class_name": "DiTTransformer2DModel", "in_channels": 4, "out_channels": 8, "sample_size": 32, "patch_size": 2}


def _sized(base: dict[str, Any], layers: int, hidden: int, heads: int) -> dict[str, Any]:
    shape = {"num_hidden_layers": layers, "hidden_size": hidden, "num_attention_heads": heads}
    return {**base, **shape, "intermediate_size": 4 * hidden}


def _whisper(layers: int, hidden: int, heads: int, **more: Any) -> dict[str, Any]:
    parts = {f"{part}_{name}": value for part in ("encoder", "decoder")
             for name, value in (("layers", layers), ("attention_heads", heads), ("ffn_dim", 4 * hidden))}  # fmt: skip
    return {**_WHISPER, "d_model": hidden, **parts, **more}


SHAPES: dict[str, dict[str, Any]] = {
    "minilm-l6": _sized(_BERT, 6, 384, 12),
    "bert-base": _sized(_BERT, 12, 768, 12),
    "bert-large": _sized(_BERT, 24, 1024, 16),
    "deit-tiny": _sized(_VIT, 12, 192, 3),
    "vit-base": _sized(_VIT, 12, 768, 12),
    "vit-large": _sized(_VIT, 24, 1024, 16),
    "whisper-tiny": _whisper(4, 384, 6),
    "whisper-small": _whisper(12, 768, 12),
    "whisper-large-v3": _whisper(32, 1280, 20, num_mel_bins=128),
    "sd15-unet": {
        "_class_name": "UNet2DConditionModel", "sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8,
    },
    "dit-s-2": {**_DIT, "num_layers": 12, "num_attention_heads": 6, "attention_head_dim": 64},
    "dit-xl-2": {**_DIT, "num_layers": 28, "num_attention_heads": 16, "attention_head_dim": 72},
}  # fmt: skip
"""Published shapes of models that serve whole requests, as in their config.json on Hugging Face: all-MiniLM-L6-v2,
bert-*-uncased, deit-tiny-patch16-224, vit-*-patch16-224, whisper-*, stable-diffusion-v1-5 (unet), DiT-XL-2-256; dit-s-2
as in Peebles and Xie, "Scalable Diffusion Models with Transformers", arXiv:2212.09748."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A model to be built with random weights.

    `task` says what one run is; `fields` are those of its config.json (for a decoder of the catalog those that
    Transformers needs); `entry` is a decoder's shape. `item` says what one request of a batch is, in words of the
    options that set it.
    """

    name: str
    task: str
    fields: dict[str, Any]
    entry: Model | None = None
    item: dict[str, int] = field(default_factory=dict)


_SMALL = Model(
    name="llama-5m", layers=4, hidden=256, heads=8, kv_heads=4, head_dim=32, intermediate=688, vocab=4096,
    max_context=2048, tie_embeddings=True, sources={"shape": "made up: a Llama small enough for any machine"},
)  # fmt: skip


def subject_of(source: str, prompt_tokens: int | None = None, output_tokens: int | None = None) -> Subject:
    """Return the model called `source` (catalog name, name in SHAPES, or path of a config.json).

    `prompt_tokens` is the length of a text encoder's items, `output_tokens` what a speech model writes for each item.
    Raises InputError for what is unknown or cannot be profiled.
    """
    if source.endswith(".json") or ("/" in source and Path(source).exists()):
        found = _from_file(Path(source))
    elif folded(source) in {folded(name) for name in SHAPES}:
        name = find(source, "model", {folded(one): one for one in SHAPES})
        found = Subject(name, _task(SHAPES[name]), SHAPES[name])
    else:
        entry = _catalogued(source[:200])
        found = Subject(entry.name, DECODER, fields_of(entry), entry)
    return _with_items(found, prompt_tokens, output_tokens)


def _catalogued(name: str) -> Model:
    try:
        return model(name)
    except InputError:
        known = {folded(one): one for one in (*models(), *SHAPES)}
        find(name, "model", known, known.values(), "; or the path of a config.json")
        raise


def _from_file(path: Path) -> Subject:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise unreadable(error, str(path)) from error
    except ValueError as error:
        raise InputError(Problem(f"is not JSON: {error}"[:200], file=str(path))) from None
    if not isinstance(fields, dict):
        raise InputError(Problem("is not a model's config: expected a JSON object", file=str(path)))
    name = path.stem if path.stem != "config" else path.resolve().parent.name
    if any(str(one).endswith("ForCausalLM") for one in fields.get("architectures") or ()):
        entry = read_config(path, name)
        return Subject(name, DECODER, fields, entry)
    try:
        return Subject(name, _task(fields), fields)
    except InputError as error:
        raise InputError(Problem(str(error), file=str(path))) from None


def _task(fields: dict[str, Any]) -> str:
    """Return what the model does: by its class in diffusers, or what its fields say it reads."""
    if "_class_name" in fields:
        if fields["_class_name"] in ("UNet2DConditionModel", "DiTTransformer2DModel"):
            return DIFFUSION
        raise InputError(
            f"{str(fields['_class_name'])[:80]} is not profiled; of diffusers UNet2DConditionModel and "
            "DiTTransformer2DModel are"
        )
    if "num_mel_bins" in fields:
        return SPEECH
    if "image_size" in fields:
        return VISION
    if "model_type" in fields:
        return ENCODER
    raise InputError("names neither `architectures` nor `model_type` nor `_class_name`: not a model's config")


def _with_items(found: Subject, prompt_tokens: int | None, output_tokens: int | None) -> Subject:
    item: dict[str, int] = {}
    if found.task == ENCODER:
        most = int(found.fields.get("max_position_embeddings", 1 << 30))
        item["prompt_tokens"] = min(128, most) if prompt_tokens is None else prompt_tokens
        if item["prompt_tokens"] > most:
            raise InputError(f"--prompt-tokens ({prompt_tokens}) is above the {most} positions of {found.name}")
    elif prompt_tokens is not None:
        raise InputError(f"--prompt-tokens is for text encoders; {found.name} is: {found.task}")
    if found.task == SPEECH:
        item["output_tokens"] = 32 if output_tokens is None else output_tokens
        most = int(found.fields.get("max_target_positions", 448))
        if item["output_tokens"] > most:
            raise InputError(f"--output-tokens ({output_tokens}) is above the {most} positions of {found.name}")
    elif output_tokens is not None:
        raise InputError(f"--output-tokens is for speech models; {found.name} is: {found.task}")
    return Subject(found.name, found.task, found.fields, found.entry, item)


def fields_of(entry: Model) -> dict[str, Any]:
    """Return the config.json fields of a catalogued decoder; InputError for a shape that no such family has."""
    fields: dict[str, Any] = {
        "num_hidden_layers": entry.layers, "hidden_size": entry.hidden, "num_attention_heads": entry.heads,
        "num_key_value_heads": entry.kv_heads, "head_dim": entry.head_dim, "vocab_size": entry.vocab,
        "intermediate_size": entry.intermediate or entry.moe_intermediate,
        "max_position_embeddings": entry.max_context, "tie_word_embeddings": entry.tie_embeddings,
    }  # fmt: skip
    per_token = {"num_experts_per_tok": entry.experts_per_token}
    if entry.attention_sinks and entry.experts:
        return {
            **fields, **per_token, "model_type": "gpt_oss", "num_local_experts": entry.experts,
            "intermediate_size": entry.moe_intermediate, "sliding_window": entry.sliding_window_tokens,
        }  # fmt: skip
    plain = not (entry.shared_intermediate or entry.dense_layers or entry.sliding_window_tokens or entry.mlp_bias)
    if plain and entry.norms_per_layer == 2 and entry.qk_norm == "per_head":
        if not entry.experts:
            return {**fields, "model_type": "qwen3"}
        moe = {"num_experts": entry.experts, "moe_intermediate_size": entry.moe_intermediate}
        return {**fields, **per_token, **moe, "model_type": "qwen3_moe"}
    if plain and entry.norms_per_layer == 2 and entry.qk_norm == "none" and not entry.output_bias:
        if not entry.experts:
            return {**fields, "model_type": "qwen2" if entry.qkv_bias else "llama"}
        if not entry.qkv_bias:
            return {**fields, **per_token, "model_type": "mixtral", "num_local_experts": entry.experts}
    raise InputError(f"{entry.name}: its catalog entry does not name its family; give its config.json instead")


SMALL_DECODER = Subject(_SMALL.name, DECODER, fields_of(_SMALL), _SMALL)
"""A decoder that any machine runs in milliseconds."""
