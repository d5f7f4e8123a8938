"""Pictures of measured against simulated: distributions of TTFT, TPOT and E2E, and each request against itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from servesim.report.pictures import save_picture
from servesim.validation.runs import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANELS = (("ttft_s", "TTFT", 1.0, "s"), ("tpot_s", "TPOT", 1e3, "ms"), ("e2e_s", "E2E", 1.0, "s"))


def measured_against_simulated(measured: Run, simulated: Run, path: Path) -> None:
    """Write the picture of one run to `path` (.png or .svg)."""

    def fill(figure: Figure) -> bool:
        figure.set_size_inches(9, 5.2)
        axes = figure.subplots(2, len(_PANELS))
        for column, (name, title, scale, unit) in enumerate(_PANELS):
            theirs, ours = scale * getattr(measured, name), scale * getattr(simulated, name)
            _distributions(axes[0, column], theirs, ours, title, unit)
            _each(axes[1, column], theirs, ours, unit)
        axes[0, 0].legend(loc="lower right")
        axes[0, 0].set_ylabel("share of requests")
        axes[1, 0].set_ylabel("simulated")
        return True

    save_picture(fill, path)


def _distributions(axes: Axes, theirs: np.ndarray, ours: np.ndarray, title: str, unit: str) -> None:
    for values, label, style in ((theirs, "measured", "-"), (ours, "simulated", "--")):
        values = np.sort(values[~np.isnan(values)])
        axes.plot(values, (np.arange(len(values)) + 1) / max(1, len(values)), style, label=label)
    axes.set_title(title)
    axes.set_xlabel(unit)
    axes.set_ylim(0, 1)


def _each(axes: Axes, theirs: np.ndarray, ours: np.ndarray, unit: str) -> None:
    axes.plot(theirs, ours, ".", markersize=3, alpha=0.6)
    both = np.concatenate([theirs, ours])
    top = float(np.nanmax(both)) if not np.isnan(both).all() else 1.0
    axes.plot([0, top], [0, top], "-", color="0.5", linewidth=0.8)
    axes.set_xlabel(f"measured, {unit}")
