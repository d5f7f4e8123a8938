"""The published runs of Triton's dynamic batcher under closed loops, and what each deployment was set to.

Settings of the server are those of the pages that the rows come from (NVIDIA DeepLearningExamples, `triton/README.md`
of each model, tables "Parameter Name" of the online scenario and the deployment commands), read there.
"""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

FILE = "validation/triton_dynamic_batching_online.csv"


@dataclass(frozen=True, slots=True)
class Server:
    """How a model was deployed: limits of the dynamic batcher in items, and the model's instances."""

    model: str
    max_batch_size: int
    preferred_batch_size: tuple[int, ...]
    instances: int = 2


SERVERS = {
    "PyTorch/Classification/ConvNets/triton/resnet50": Server("resnet50", 128, (128,)),
    "PyTorch/Classification/GPUNet/triton/05ms-D": Server("gpunet-05ms-d", 64, (64,)),
    "PyTorch/Classification/GPUNet/triton/065ms": Server("gpunet-065ms", 64, (64,)),
    "PyTorch/Classification/GPUNet/triton/085ms": Server("gpunet-085ms", 64, (64,)),
    "PyTorch/Classification/GPUNet/triton/08ms-D": Server("gpunet-08ms-d", 64, (64,)),
    "PyTorch/Classification/GPUNet/triton/125ms-D": Server("gpunet-125ms-d", 64, (64,)),
    "PyTorch/Classification/GPUNet/triton/175ms": Server("gpunet-175ms", 64, (64,)),
    "PyTorch/Classification/GPUNet/triton/225ms-D": Server("gpunet-225ms-d", 64, (64,)),
    "PyTorch/Forecasting/TFT/triton": Server("tft", 1024, (512, 1024)),
    "PyTorch/Segmentation/nnUNet/triton": Server("nnunet", 4, (2, 4), instances=1),
    "PyTorch/SpeechSynthesis/FastPitch/triton": Server("fastpitch", 8, (4, 8)),
    "TensorFlow/Classification/ConvNets/triton": Server("resnet50-tf", 128, (64, 128)),
    "TensorFlow2/Recommendation/WideAndDeep/triton": Server("wide-and-deep", 131072, (131072,)),
}
GPUS = {"A100 (1x A100 80GB)": "a100_sxm", "V100": "v100_sxm_32gb"}
# Words of a section's title, and the variant of the batch calibration that was measured with that runtime.
VARIANTS = (
    (("ONNX Runtime TensorRT", "FP16"), "onnx-trt-fp16"),
    (("ONNX Runtime", "FP16"), "onnx-fp16"),
    (("TF-TRT", "FP16"), "tf-trt-fp16"),
    (("TensorFlow", "FP32"), "tensorflow-fp32"),
    (("PyTorch", "electricity"), "pytorch-electricity-fp16"),
    (("PyTorch", "traffic"), "pytorch-traffic-fp16"),
    (("TensorRT", "electricity"), "trt-electricity-fp16"),
    (("TensorRT", "traffic"), "trt-traffic-fp16"),
    (("TensorRT", "FP16"), "trt-fp16"),
    (("FP16",), "fp16"),
    (("FP32",), "fp32"),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """One row: so many clients, each with requests of so many items; mean latency in seconds."""

    clients: int
    items: int
    latency_s: float


@dataclass(frozen=True, slots=True)
class Deployment:
    """One model on one GPU: the batch calibration's name, its server, and its rows by number of clients."""

    calibration: str
    server: Server
    rows: tuple[Measured, ...]


def deployments(data: Path, known: set[str]) -> tuple[list[Deployment], Counter[str]]:
    """Return the deployments that a calibration of `known` names can express, and why other rows cannot be (counts)."""
    found: dict[tuple[str, str], list[Measured]] = defaultdict(list)
    left_out: Counter[str] = Counter()
    with (data / FILE).open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            place = row["path"].removesuffix("/README.md")
            if not row["lat"]:
                left_out["no latency: a static batch"] += 1
                continue
            if place not in SERVERS:
                left_out["a model without batch calibration"] += 1
                continue
            name = _calibration(place, row["section"].split(">")[-1])
            if name not in known:
                left_out[f"no batch calibration {name}"] += 1
                continue
            items = int(float(row["batch"] or 1))
            found[name, place].append(Measured(int(float(row["conc"])), items, float(row["lat"]) / 1e3))
    return [
        Deployment(name, SERVERS[place], tuple(sorted(rows, key=lambda row: row.clients)))
        for (name, place), rows in sorted(found.items())
    ], left_out


def _calibration(place: str, title: str) -> str:
    gpu = next(name for text, name in GPUS.items() if text in title)
    variant = next(variant for words, variant in VARIANTS if all(word in title for word in words))
    return f"{SERVERS[place].model}/{gpu}/{variant}"
