"""What the roofline of GPU and model lets a fit of iteration times start from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from servesim.calibrate.iterations import Floats
from servesim.calibrate.robust import robust_nnls
from servesim.catalog import gpu, gpus
from servesim.errors import InputError
from servesim.service_time.base import Deployment
from servesim.service_time.roofline import Roofline

if TYPE_CHECKING:
    from servesim.calibrate.target import Target

ADMISSION_S = 0.005
_LEAST = (1e-3, 3e-6, 3e-9, 1e-10)  # of terms that the roofline does not have


def roofline_start(target: Target) -> Floats | None:
    """Return estimates of base, per token, per context token, per pair and admission, in seconds.

    None where the catalog does not know the GPU or nothing is known of the model.
    """
    if target.model is None or target.key.gpu not in gpus():
        return None
    key = target.key
    deployment = Deployment(gpu(key.gpu), target.model, key.backend, key.tensor_parallel_size, key.precision)
    try:
        times = Roofline().build(deployment)
    except InputError:
        return None
    rows, seconds = [], []
    for seqs in (1, 8, 32, 128):
        for context in (128, 512, 2048):
            base_s, slope_s, _ = times.decode_line(seqs, seqs * context)
            rows.append([1.0, seqs, seqs * context, 0.0])
            seconds.append(base_s + slope_s * seqs * context)
    for tokens in (64, 512, 2048, 8192):
        pairs = tokens * (tokens + 1) // 2
        rows.append([1.0, tokens, 0.0, pairs])
        seconds.append(times.mixed_s(0, 0, 1, tokens, pairs))
    found = robust_nnls(np.array(rows), np.array(seconds)).values
    return np.append(np.where(found > 0, found, np.array(_LEAST)), ADMISSION_S)
