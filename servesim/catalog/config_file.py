"""A model from the config.json of its Hugging Face repository."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from servesim.catalog.config_families import ARCHITECTURES
from servesim.catalog.config_fields import ConfigFields
from servesim.catalog.entries import find, folded
from servesim.catalog.model import Model
from servesim.catalog.precision import quantizations
from servesim.errors import InputError, Problem, unreadable

_MAX_BYTES = 4_000_000
_METHODS = {"fp8": "fp8", "fbgemm_fp8": "fp8", "mxfp4": "mxfp4"}
_BY_BITS = {"awq": {4: "awq"}, "gptq": {4: "gptq"}}
_AWQ_BITS = 4  # what Transformers takes where an AWQ file says nothing; for GPTQ a file has to say
_MODELOPT = {"FP8": "fp8", "NVFP4": "nvfp4"}


def read_config(path: Path, name: str | None = None) -> Model:
    """Return the model that the config file `path` describes.

    It is called `name`, or as the file says, or as the file's folder. Raises InputError for a file that cannot be
    read, an architecture that is not supported (listing those that are) and a missing field (naming it).
    """
    data = _bytes(path)
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(Problem(f"is not JSON: {error}"[:200], file=str(path))) from None
    if not isinstance(fields, dict):
        raise InputError(Problem("is not a model's config: expected a JSON object", file=str(path)))
    config = ConfigFields(fields, str(path))
    architecture = _architecture(config)
    shape = ARCHITECTURES[architecture](config)
    if shape["heads"] % shape["kv_heads"]:  # latent attention has as many of both
        raise config.wrong(
            f"field 'num_key_value_heads': {shape['kv_heads']} does not divide the {shape['heads']} attention heads"
        )
    source = f"{path.name} ({architecture}), sha256 {hashlib.sha256(data).hexdigest()}"
    try:
        return Model(
            name=name or _own_name(fields, path),
            native_quantization=_quantization(config),
            sources={"config": source},
            **shape,
        )
    except ValidationError as error:
        raise config.wrong(f"describes no possible model: {error.errors()[0]['msg']}") from error


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise unreadable(error, str(path)) from error
    if len(data) > _MAX_BYTES:
        raise InputError(Problem(f"is larger than {_MAX_BYTES:,} bytes: not a model's config", file=str(path)))
    return data


def _architecture(config: ConfigFields) -> str:
    names = config.texts("architectures")
    if not names:
        raise config.wrong(f"missing field 'architectures'; supported: {', '.join(sorted(ARCHITECTURES))}")
    try:
        return find(names[0][:100], "architecture", {folded(name): name for name in ARCHITECTURES}, ARCHITECTURES)
    except InputError as error:
        raise config.wrong(error.problems[0].message.replace("Known:", "Supported:")) from None


def _own_name(fields: dict[str, Any], path: Path) -> str:
    name = fields.get("_name_or_path")
    return name if isinstance(name, str) and name.strip() else path.resolve().parent.name or path.stem


def _quantization(config: ConfigFields) -> str | None:
    """Return how the checkpoint's weights are stored, under the names of `engine.quantization`; None is 16 bits."""
    if config.get("quantization_config") is None:
        return None
    quantized = config.part("quantization_config")
    method = str(quantized.get("quant_method"))
    found, what = _METHODS.get(method), f"method {method!r}"
    if method in _BY_BITS:
        bits = quantized.count("bits", _AWQ_BITS if method == "awq" else None)
        found, what = _BY_BITS[method].get(bits), f"method {method!r} with {bits} bits"
    elif method == "modelopt" or quantized.get("quant_algo"):
        found = _MODELOPT.get(str(quantized.get("quant_algo")))
    elif method == "compressed-tensors":
        found = _compressed(quantized)
    if found is None:
        known = ", ".join(quantizations())
        raise config.wrong(
            f"field 'quantization_config': {what} is not understood; take it out of the file and set the "
            f"pool's engine.quantization to one of {known}"
        )
    return found


def _compressed(quantized: ConfigFields) -> str | None:
    """Return the format of the first group of a compressed-tensors checkpoint: by type and bits of its weights."""
    groups = quantized.get("config_groups")
    first = next(iter(groups.values()), None) if isinstance(groups, dict) else None
    weights = first.get("weights") if isinstance(first, dict) else None
    if not isinstance(weights, dict) or not isinstance(weights.get("num_bits"), int):
        return None
    return {("float", 8): "fp8", ("int", 8): "int8", ("int", 4): "int4", ("float", 4): "nvfp4"}.get(
        (str(weights.get("type")), weights["num_bits"])
    )
