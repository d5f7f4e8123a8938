"""GPU facts: memory, bandwidth, arithmetic throughput, links, power and price."""

from __future__ import annotations

from functools import cache

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from servesim.catalog.entries import catalog_file, find, folded
from servesim.errors import InputError
from servesim.registry import Spec


class Gpu(Spec):
    """One accelerator as a serving engine sees it.

    `memory_bytes` is what the CUDA (or HIP) runtime reports as the device's total, the number engines multiply by
    `gpu_memory_utilization`; `memory_nominal_bytes` is the vendor's label (80 GB = 80e9) and is never used in a
    computation. Throughputs are dense (no structured sparsity). A field is None where no source was found or the
    hardware has no such unit. `sources` names the origin of every number.
    """

    name: str
    aliases: tuple[str, ...] = ()
    memory_bytes: PositiveInt = Field(description="total device memory that the runtime reports, bytes")
    memory_nominal_bytes: PositiveInt = Field(description="memory on the vendor's label, bytes")
    memory_bandwidth_bytes_per_s: PositiveFloat = Field(description="peak device memory bandwidth, bytes/s")
    bf16_flops: PositiveFloat | None = Field(None, description="dense BF16/FP16 tensor throughput, FLOP/s")
    fp8_flops: PositiveFloat | None = Field(None, description="dense FP8 tensor throughput, FLOP/s")
    fp4_flops: PositiveFloat | None = Field(None, description="dense FP4 tensor throughput, FLOP/s")
    int8_flops: PositiveFloat | None = Field(None, description="dense INT8 tensor throughput, OP/s")
    nvlink_bytes_per_s: PositiveFloat | None = Field(
        None, description="GPU-to-GPU link (NVLink, xGMI) in one direction, all links together, bytes/s"
    )
    tdp_w: PositiveFloat | None = Field(None, description="board power limit, watts")
    usd_per_hour: NonNegativeFloat | None = Field(None, description="rental price of one GPU, USD per hour")
    sources: dict[str, str] = Field(description="field name -> where its number comes from")

    def flops(self, dtype: str = "bf16") -> float:
        """Return the dense FLOP/s for `dtype` (bf16, fp16, fp8, fp4, int8); InputError if unknown."""
        value = {
            "bf16": self.bf16_flops,
            "fp16": self.bf16_flops,
            "fp8": self.fp8_flops,
            "fp4": self.fp4_flops,
            "int8": self.int8_flops,
        }.get(dtype)
        if value is None:
            raise InputError(f"GPU {self.name!r} has no known {dtype} throughput")
        return value


_ADVICE = (
    "; for another give its numbers (gpu: {name: ..., memory_bytes: ...}); how many is engine.tensor_parallel_size"
)


@cache
def _entries() -> dict[str, Gpu]:
    found: dict[str, Gpu] = {}
    for name, fields in catalog_file("gpus.yaml").items():
        entry = Gpu(name=name, **{**fields, "aliases": tuple(fields.get("aliases", ()))})
        for alias in (name, *entry.aliases):
            found[folded(alias)] = entry
    return found


def gpus() -> tuple[str, ...]:
    """Return the names of all catalogued GPUs, sorted."""
    return tuple(sorted(catalog_file("gpus.yaml")))


def gpu(name: str) -> Gpu:
    """Return the GPU called `name` (catalog name or alias); InputError names the nearest known one."""
    return find(name, "GPU", _entries(), gpus(), _ADVICE)


_SPEEDS = ("memory_bandwidth_bytes_per_s", "bf16_flops", "fp8_flops", "fp4_flops", "int8_flops", "nvlink_bytes_per_s")


def same_speed(entry: Gpu) -> Gpu | None:
    """Return the catalogued GPU that computes, reads and communicates just as fast; memory and price may differ."""
    speeds = [getattr(entry, name) for name in _SPEEDS]
    return next((known for known in map(gpu, gpus()) if [getattr(known, name) for name in _SPEEDS] == speeds), None)
