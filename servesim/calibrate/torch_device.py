"""The device that is measured: choosing it, its clock, what it says of itself, and number formats it can compute."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from servesim.calibrate.torch_measure import OutOfMemory
from servesim.catalog.entries import folded
from servesim.catalog.gpu import gpu, gpus
from servesim.errors import InputError

DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
QUANTIZATIONS = {
    "int8": "Int8WeightOnlyConfig",
    "int4": "Int4WeightOnlyConfig",
    "fp8": "Float8DynamicActivationFloat8WeightConfig",
}
_ON_CUDA_ONLY = ("int4", "fp8")
_SMI_FIELDS = {"clocks.sm": "sm_clock_mhz", "power.draw": "power_w", "temperature.gpu": "temperature_c"}
_INSTALL = "pip install 'servesim[torch]'"

Clock = Literal["wall", "cpu"]


def require(*modules: str) -> None:
    """Raise InputError unless the optional packages are installed."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"{', '.join(missing)} not installed: {_INSTALL}")


@dataclass(frozen=True, slots=True)
class Device:
    """A CUDA device, or this machine's processor with some threads.

    `clock`: "wall" is real time, on CUDA between two events on the stream; "cpu" is the time that the one computing
    thread had the processor, so that other programs on a busy machine do not count.
    """

    kind: Literal["cuda", "cpu"]
    threads: int
    clock: Clock

    @property
    def is_cuda(self) -> bool:
        """Whether this is a GPU."""
        return self.kind == "cuda"

    def name(self) -> str:
        """Return the GPU's name in the catalog, or what the device calls itself in that style."""
        import torch

        if not self.is_cuda:
            return f"cpu_{_slug(_processor())}_{self.threads}t"
        reported = torch.cuda.get_device_name()
        known = {folded(alias): one for one in gpus() for alias in (one, *gpu(one).aliases)}
        return known.get(folded(reported), _slug(reported))

    def use(self) -> None:
        """Set this process up to compute on it."""
        import torch

        torch.set_num_threads(self.threads)

    def memory_for_kv(self, processes: int = 1) -> int:
        """Return the bytes a KV cache may take now: 85 % of a GPU's free memory, or half of this machine's.

        The machine's memory is shared by `processes` alike; each of them has a GPU of its own.
        """
        import torch

        if self.is_cuda:
            torch.cuda.empty_cache()
            return int(0.85 * torch.cuda.mem_get_info()[0])
        return _available_bytes() // (2 * processes)

    def timer(self) -> Callable[[Callable[[], Any]], float]:
        """Return what runs a function once and returns the seconds it took on this device."""
        if self.is_cuda:
            return _between_events
        read = time.perf_counter if self.clock == "wall" else time.thread_time

        def timed(run: Callable[[], Any]) -> float:
            start_s = read()
            run()
            return read() - start_s

        return timed

    def state(self) -> dict[str, float]:
        """Return clock, power and temperature as far as they can be read."""
        return _smi() if self.is_cuda else _cpu_mhz()

    def software(self) -> str:
        """Return the versions that matter, as text."""
        import torch
        import transformers

        cuda = f", CUDA {torch.version.cuda}" if self.is_cuda else ""
        return f"torch {torch.__version__}{cuda}, transformers {transformers.__version__}"


def device_of(kind: str, threads: int | None, clock: Clock, ranks: int = 1) -> Device:
    """Return the device asked for (auto, cuda, cpu); InputError where it is not there or cannot be timed so.

    `ranks` processes have one each: a GPU, or their part of the processor's threads.
    """
    require("torch", "transformers")
    import torch

    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: PyTorch finds no CUDA device here; --device cpu measures this processor")
    on_cuda = kind != "cpu" and torch.cuda.is_available()
    if clock == "cpu" and (on_cuda or (threads or 1) != 1):
        raise InputError("--clock cpu counts one thread's processor time: it needs --device cpu and --threads 1")
    if clock == "cpu" and ranks > 1:
        raise InputError("--clock cpu counts no time in which one rank waits for another: --tp needs --clock wall")
    needed = int(os.environ.get("LOCAL_WORLD_SIZE", ranks))  # torchrun may have started the others elsewhere
    if on_cuda and ranks > 1 and needed > torch.cuda.device_count():
        here = torch.cuda.device_count()
        raise InputError(f"--tp {ranks}: PyTorch finds {here} GPU(s) here, and every rank needs one of its own")
    count = 1 if clock == "cpu" else threads or max(1, torch.get_num_threads() // ranks)
    found = Device("cuda" if on_cuda else "cpu", count, clock)
    found.use()
    return found


def check_precision(device: Device, dtype: str, quantization: str | None) -> None:
    """Raise InputError for a number format that this device or the installed libraries cannot compute in."""
    import torch

    if dtype == "fp16" and not device.is_cuda:
        raise InputError("--dtype fp16: processors compute it in emulation; use bf16 or fp32 on the CPU")
    if dtype == "bf16" and device.is_cuda and not torch.cuda.is_bf16_supported():
        raise InputError("--dtype bf16: this GPU has no BF16; use fp16")
    if quantization is None:
        return
    if quantization in _ON_CUDA_ONLY and not device.is_cuda:
        raise InputError(f"--quantization {quantization} has kernels for CUDA only; on the CPU there is int8")
    if importlib.util.find_spec("torchao") is None:
        raise InputError(f"--quantization {quantization} needs torchao, which is not installed: pip install torchao")
    if quantization == "fp8" and torch.cuda.get_device_capability() < (8, 9):
        raise InputError("--quantization fp8: this GPU has no FP8 units (compute capability 8.9 or later)")


def quantize(model: Any, quantization: str) -> None:
    """Quantize the model's matrices in place with torchao; InputError where this version cannot."""
    from torchao import quantization as torchao

    name = QUANTIZATIONS[quantization]
    make = getattr(torchao, name, None)
    if make is None:
        raise InputError(f"--quantization {quantization}: the installed torchao has no {name}")
    try:
        torchao.quantize_(model, make())
    except (ImportError, NotImplementedError, AssertionError, RuntimeError) as error:
        raise InputError(
            f"--quantization {quantization}: torchao refuses: {str(error).splitlines()[0][:200]}"
        ) from error


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turn what PyTorch raises when memory runs out into OutOfMemory, with the cache emptied."""
    import torch

    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        raise OutOfMemory from error
    except MemoryError as error:
        raise OutOfMemory from error
    except RuntimeError as error:
        if "DefaultCPUAllocator" in str(error) or "out of memory" in str(error):
            raise OutOfMemory from error
        raise


def _between_events(run: Callable[[], Any]) -> float:
    import torch

    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    start.record()
    run()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3


def _smi() -> dict[str, float]:
    """Return what nvidia-smi says of the current device, in the order of `_SMI_FIELDS`."""
    import torch

    uuid = str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)
    command = [
        "nvidia-smi",
        f"--query-gpu={','.join(_SMI_FIELDS)}",
        "--format=csv,noheader,nounits",
        f"--id=GPU-{uuid}",
    ]
    try:
        out = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    values = out.strip().splitlines()[0].split(",") if out.strip() else []
    found = {}
    for name, value in zip(_SMI_FIELDS.values(), values, strict=False):
        if re.fullmatch(r"\s*[0-9.]+\s*", value):  # "[N/A]" where the board does not tell
            found[name] = float(value)
    return found


def _cpu_info(name: str) -> list[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return []
    return re.findall(rf"^{name}\s*:\s*(.+)$", text, re.MULTILINE)


def _cpu_mhz() -> dict[str, float]:
    found = [float(value) for value in _cpu_info("cpu MHz")]
    return {"cpu_mhz": sum(found) / len(found)} if found else {}


def _processor() -> str:
    return next(iter(_cpu_info("model name")), platform.processor() or platform.machine())


def _available_bytes() -> int:
    try:
        text = Path("/proc/meminfo").read_text(encoding="utf-8")
    except OSError:
        return 4 << 30
    found = re.search(r"MemAvailable:\s*(\d+) kB", text)
    return int(found[1]) * 1024 if found else 4 << 30


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"\((r|tm)\)", "", text.lower())).strip("_")
