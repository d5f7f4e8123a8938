"""Facts about GPUs and models, each with its source, and the calibrations measured on them."""

from __future__ import annotations

from servesim.catalog.gpu import Gpu, gpu, gpus
from servesim.catalog.memory import kv_blocks
from servesim.catalog.model import Model, model, models

__all__ = ["Gpu", "Model", "gpu", "gpus", "kv_blocks", "model", "models"]
