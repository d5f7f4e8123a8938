"""Milliseconds taken for seconds: iteration times a thousand times those that GPU and model allow to expect."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from servesim.calibrate.iterations import Iterations
from servesim.calibrate.roofline_start import roofline_start

if TYPE_CHECKING:
    from servesim.calibrate.target import Target

_LOW, _HIGH = 300.0, 3000.0


def unit_hint(rows: Iterations, target: Target) -> str | None:
    """Return a question where the median iteration is about 1000 times, or a thousandth of, its roofline's.

    None where GPU or model are not known. An engine is slower than the roofline by a small factor, not by 300.
    """
    start = roofline_start(target)
    if start is None:
        return None
    base, per_token, per_context, per_pair, _ = start
    expected = base + per_token * rows.tokens + per_context * rows.decode_context + per_pair * rows.prefill_pairs
    ratio = float(np.median(rows.device_s / expected))
    if _LOW < ratio < _HIGH:
        return "iterations take about 1000 times as long as this GPU should need: milliseconds in a field of seconds?"
    if _LOW < 1.0 / ratio < _HIGH:
        return "iterations take about a thousandth of what this GPU needs: seconds in a field of milliseconds?"
    return None
