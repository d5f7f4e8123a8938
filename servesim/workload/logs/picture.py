"""Pictures of a log, and of a fit beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from servesim.errors import InputError
from servesim.workload.base import FloatArray, IntArray
from servesim.workload.logs.describe import rate_curve
from servesim.workload.logs.fit import Requests

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NAMES = ("log", "fit")


def picture(requests: list[Requests], path: Path, *, timed: bool = True) -> None:
    """Write a picture (PNG, SVG or PDF by its name) of rates and length distributions: the log, perhaps a fit."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("pictures need matplotlib, which is not installed") from error
    figure = Figure(figsize=(15, 7), layout="constrained")
    axes: Any = figure.subplots(2, 3)
    for entry, name, style in zip(requests, _NAMES, ("-", "--"), strict=False):
        if timed:
            _rates(axes[0, 0], entry[0], None, name, style)
            _rates(axes[0, 1], entry[0], entry[1], name, style)
            _rates(axes[0, 2], entry[0], entry[2], name, style)
        _distribution(axes[1, 0], entry[1], name, style)
        _distribution(axes[1, 1], entry[2], name, style)
        axes[1, 2].plot(entry[1], entry[2], ".", markersize=2, alpha=0.2, rasterized=True)
    for place, what in enumerate(("requests", "prompt tokens", "output tokens")):
        axes[0, place].set(xlabel="time in s", ylabel=f"{what} per s", title=f"{what} per s", ylim=(0, None))
    axes[1, 0].set(xlabel="prompt tokens", ylabel="share up to", title="prompt length", xscale="log")
    axes[1, 1].set(xlabel="output tokens", ylabel="share up to", title="output length", xscale="log")
    axes[1, 2].set(xlabel="prompt tokens", ylabel="output tokens", title="pairs", xscale="log", yscale="log")
    if len(requests) > 1:
        axes[0, 0].legend()
    try:
        figure.savefig(path, dpi=120)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error


def _rates(axes: Axes, time_s: FloatArray, weights: IntArray | None, name: str, style: str) -> None:
    curve = rate_curve(time_s, weights)
    edges_s = np.arange(len(curve["rates_rps"]) + 1) * curve["window_s"]
    axes.stairs(curve["rates_rps"], edges_s, label=name, linestyle=style)


def _distribution(axes: Axes, tokens: IntArray, name: str, style: str) -> None:
    values, counts = np.unique(tokens, return_counts=True)
    axes.step(values, np.cumsum(counts) / len(tokens), style, where="post", label=name)
