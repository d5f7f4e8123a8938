"""Bytes per stored number, and the arithmetic a weight format needs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from servesim.errors import InputError

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
# Formats that multiply in their own width. The others (and MXFP4, which engines unpack to 16 bits where there are no
# FP4 units) only store weights narrowly.
_NEEDS = {"fp8": "fp8", "mxfp8": "fp8", "nvfp4": "fp4", "fp4": "fp4", "int8": "int8"}
# What weights of so many bytes may be multiplied in: the narrowest arithmetic first.
_ARITHMETIC = ((0.6, "fp4"), (1.1, "fp8"), (1.1, "int8"))


def weight_bits(quantization: str) -> float:
    """Return the bits of one weight with its scales; InputError for an unknown name."""
    bits = _WEIGHT_BITS.get(quantization)
    if bits is None:
        raise InputError(f"unknown quantization {quantization!r}; known: {', '.join(sorted(_WEIGHT_BITS))}")
    return bits


def quantizations() -> tuple[str, ...]:
    """Return the names of all weight formats, sorted."""
    return tuple(sorted(_WEIGHT_BITS))


def kv_bytes(kv_cache_dtype: str) -> float:
    """Return the bytes of one number in the KV cache; InputError for an unknown name."""
    width = _KV_BYTES.get(kv_cache_dtype)
    if width is None:
        raise InputError(f"unknown kv_cache_dtype {kv_cache_dtype!r}; known: {', '.join(sorted(_KV_BYTES))}")
    return width


def units_needed(quantization: str) -> str | None:
    """Return the arithmetic (fp8, fp4, int8) that `quantization` cannot run without, or None if any GPU will do."""
    return _NEEDS.get(quantization)


def arithmetic(bytes_per_weight: float) -> tuple[str, ...]:
    """Return what weights of so many bytes may be multiplied in, the fastest first."""
    return (*(dtype for limit, dtype in _ARITHMETIC if bytes_per_weight <= limit), "bf16")


class _OneOf:
    """Field annotation: one of the names of a table, which the JSON Schema then lists."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = sorted(names)

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.literal_schema(self._names)


Quantization = Annotated[str, _OneOf(_WEIGHT_BITS)]
"""The name of a weight format."""
KvCacheDtype = Annotated[str, _OneOf(_KV_BYTES)]
"""The name of a number format of the KV cache; `auto` is the model's own 16 bits."""
