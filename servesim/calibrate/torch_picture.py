"""A picture of measured batch times."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from servesim.calibrate.batch_latency import held_back
from servesim.calibrate.torch_measure import Measured
from servesim.calibrate.torch_points import BatchPoint


def batch_picture(sizes: Sequence[Measured[BatchPoint]], path: Path, title: str) -> None:
    """Draw time over batch size with the medians' intervals, and the error of each size held back, to `path`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    x = [one.point.batch_size for one in sizes]
    ms = [1e3 * one.seconds for one in sizes]
    low = [1e3 * (one.seconds - one.low_s) for one in sizes]
    high = [1e3 * (one.high_s - one.seconds) for one in sizes]
    left.errorbar(x, ms, yerr=[low, high], fmt="-o", ms=3, lw=1, capsize=2)
    left.set(xscale="log", yscale="log", xlabel="batch size", ylabel="time of a batch, ms")
    errors = held_back([(one.point.batch_size, one.seconds) for one in sizes])
    right.bar([str(size) for size in x[1:-1]], [100 * error for error in errors], color="#1f77b4")
    right.set(xlabel="batch size held back", ylabel="|predicted / measured - 1|, %")
    right.tick_params(axis="x", rotation=60)
    figure.suptitle(title)
    figure.savefig(path, dpi=110)
