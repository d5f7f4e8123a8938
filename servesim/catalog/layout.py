"""How a model lies on the GPUs of one replica: number formats and parallelism, under one name for each meaning."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import PositiveInt

from servesim.catalog.calibrations import SYNONYMS
from servesim.catalog.model import Model
from servesim.registry import Spec


class Layout(Spec):
    """Weight and KV formats, and how many GPUs split the model, repeat its attention, or hold whole experts."""

    precision: str
    kv_cache_dtype: str
    tensor_parallel_size: PositiveInt
    data_parallel_size: PositiveInt
    expert_parallel: bool


def layout_of(
    model: Model,
    quantization: str | None,
    kv_cache_dtype: str,
    tensor_parallel_size: int,
    data_parallel_size: int,
    expert_parallel: bool,
) -> Layout:
    """Return the layout that these engine settings mean: `quantization` None is the published checkpoint's format.

    Formats that are timed alike have one name (of 16 bits: bf16), and one GPU has nothing to split experts over.
    """
    precision = quantization or model.native_quantization or "bf16"
    return Layout(
        precision=SYNONYMS.get(precision, precision),
        kv_cache_dtype=SYNONYMS.get(kv_cache_dtype, kv_cache_dtype),
        tensor_parallel_size=tensor_parallel_size,
        data_parallel_size=data_parallel_size,
        expert_parallel=expert_parallel and tensor_parallel_size * data_parallel_size > 1,
    )


def in_order(layouts: Iterable[Layout]) -> list[Layout]:
    """Return each layout once, in the order that files list them."""
    return sorted(set(layouts), key=lambda layout: tuple(layout.model_dump().values()))
