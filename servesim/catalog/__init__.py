"""Facts about GPUs and models, each with its source, and the calibrations measured on them."""

from __future__ import annotations

from servesim.catalog.gpu import Gpu, gpu, gpus
from servesim.catalog.inline import InlineGpu, ModelFile, gpu_of, model_of
from servesim.catalog.memory import kv_blocks, window_warning
from servesim.catalog.model import Model, model, models

__all__ = [
    "Gpu",
    "InlineGpu",
    "Model",
    "ModelFile",
    "gpu",
    "gpu_of",
    "gpus",
    "kv_blocks",
    "model",
    "model_of",
    "models",
    "window_warning",
]
