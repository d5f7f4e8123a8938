"""Models and GPUs that a scenario describes itself, beside those it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from servesim.catalog.config_file import read_config
from servesim.catalog.gpu import Gpu, gpu
from servesim.catalog.model import Model, model
from servesim.registry import Spec

_GIVEN = "the scenario"
_LONGEST_NAME = 200
_NEEDED = ("name", "memory_bytes", "memory_bandwidth_bytes_per_s", "bf16_flops")
_FLOPS = ("bf16_flops", "fp8_flops", "fp4_flops", "int8_flops")


class ModelFile(Spec):
    """A model described by the `config.json` of its Hugging Face repository."""

    config: str = Field(description="path of the config.json, relative to the scenario")
    name: str | None = Field(None, min_length=1, max_length=_LONGEST_NAME, description="what the model is called")

    def build(self) -> Model:
        """Return the model; InputError if the file cannot be read or understood."""
        return read_config(Path(self.config), self.name)


class GpuScale(Spec):
    """Factors on the numbers of the base GPU: 1.2 is 20 % more."""

    memory_bytes: PositiveFloat = Field(1.0, le=1000, description="factor on the memory")
    memory_bandwidth: PositiveFloat = Field(1.0, le=1000, description="factor on the memory bandwidth")
    flops: PositiveFloat = Field(1.0, le=1000, description="factor on all arithmetic throughputs")
    nvlink: PositiveFloat = Field(1.0, le=1000, description="factor on the GPU-to-GPU bandwidth")


class InlineGpu(Spec):
    """A GPU with numbers of its own: all of them, or those in which it differs from a GPU of the catalog.

    Without `base`, the name, memory, bandwidth and BF16 throughput are needed; a throughput left out means that the
    GPU has no such unit. With `base`, what is left out is the base's, times its factor in `scale`.
    """

    base: str | None = Field(None, description="catalog name of the GPU that the rest is taken from")
    scale: GpuScale = Field(default_factory=GpuScale, description="factors on the base's numbers")
    name: str | None = Field(None, min_length=1, max_length=_LONGEST_NAME, description="what the GPU is called")
    memory_bytes: PositiveInt | None = Field(None, description="total device memory that the runtime reports, bytes")
    memory_bandwidth_bytes_per_s: PositiveFloat | None = Field(None, description="peak memory bandwidth, bytes/s")
    bf16_flops: PositiveFloat | None = Field(None, description="dense BF16/FP16 tensor throughput, FLOP/s")
    fp8_flops: PositiveFloat | None = Field(None, description="dense FP8 tensor throughput, FLOP/s")
    fp4_flops: PositiveFloat | None = Field(None, description="dense FP4 tensor throughput, FLOP/s")
    int8_flops: PositiveFloat | None = Field(None, description="dense INT8 tensor throughput, OP/s")
    nvlink_bytes_per_s: PositiveFloat | None = Field(None, description="GPU-to-GPU bandwidth in one direction, bytes/s")
    tdp_w: PositiveFloat | None = Field(None, description="board power limit, watts")
    usd_per_hour: NonNegativeFloat | None = Field(None, description="price of one GPU, USD per hour")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.base is None:
            missing = [name for name in _NEEDED if getattr(self, name) is None]
            if missing:
                raise ValueError(f"give {', '.join(missing)}; or base, a GPU of the catalog to start from")
            if self.scale != GpuScale():
                raise ValueError("scale: there is no base to scale")
        return self

    def build(self) -> Gpu:
        """Return the GPU; InputError if the base is not in the catalog."""
        given = self.model_dump(exclude={"base", "scale", "name"}, exclude_none=True)
        if self.base is None:
            nominal = {"memory_nominal_bytes": self.memory_bytes}
            return Gpu.model_validate({"name": self.name, **nominal, **given, "sources": dict.fromkeys(given, _GIVEN)})
        base = gpu(self.base[:_LONGEST_NAME])
        changed = {**_scaled(base, self.scale), **given}
        if not changed:
            return base
        sources = base.sources | dict.fromkeys(changed, _GIVEN)
        same = not set(changed) - {"usd_per_hour", "tdp_w"}
        name = self.name or (base.name if same else f"{base.name}-modified")
        named = {"name": name, "aliases": (), "sources": sources}
        return Gpu.model_validate({**base.model_dump(), **changed, **named})


def _scaled(base: Gpu, scale: GpuScale) -> dict[str, Any]:
    """Return the base's numbers that a factor changes."""
    factors = {"memory_bandwidth_bytes_per_s": scale.memory_bandwidth, "nvlink_bytes_per_s": scale.nvlink}
    factors |= dict.fromkeys(_FLOPS, scale.flops)
    known = {name: getattr(base, name) for name in factors}
    found: dict[str, Any] = {
        name: known[name] * factor for name, factor in factors.items() if factor != 1.0 and known[name] is not None
    }
    if scale.memory_bytes != 1.0:
        found["memory_bytes"] = round(base.memory_bytes * scale.memory_bytes)
    return found


def model_of(source: str | ModelFile) -> Model:
    """Return the model that a scenario names or describes; InputError if there is none."""
    return model(source[:_LONGEST_NAME]) if isinstance(source, str) else source.build()


def gpu_of(source: str | InlineGpu) -> Gpu:
    """Return the GPU that a scenario names or describes; InputError if there is none."""
    return gpu(source[:_LONGEST_NAME]) if isinstance(source, str) else source.build()
