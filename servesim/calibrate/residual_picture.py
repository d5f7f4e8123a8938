"""A picture of a fit: predicted against measured, and what is left over batch, context, prefill and time."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from servesim.calibrate.iteration_fit import Fitted
from servesim.calibrate.iterations import Floats, Iterations

_COLOURS = {"decode": "#1f77b4", "prefill": "#d62728", "mixed": "#9467bd"}
_MOST_POINTS = 6000
_BINS = 12


def residual_picture(rows: Iterations, fitted: Fitted, path: Path, title: str) -> None:
    """Draw four panels to `path` (PNG or SVG by its ending); the bands are medians with quartiles."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7.5), layout="constrained")
    axes = figure.subplots(2, 2)
    step = max(1, len(rows) // _MOST_POINTS)
    shown = rows[np.arange(0, len(rows), step)]
    predicted_s, residuals = fitted.predicted_s[::step], fitted.residuals[::step]
    first = axes[0][0]
    for kind, colour in _COLOURS.items():
        of = shown.kind == kind
        if of.any():
            first.plot(1e3 * shown.device_s[of], 1e3 * predicted_s[of], ".", ms=3, color=colour, alpha=0.35, label=kind)
    ends = 1e3 * np.array([rows.device_s.min(), rows.device_s.max()])
    first.plot(ends, ends, color="black", lw=0.8)
    first.set(xscale="log", yscale="log", xlabel="measured, ms", ylabel="predicted, ms")
    first.legend(frameon=False, markerscale=3)
    _left_over(axes[0][1], shown.decode_seqs, residuals, shown.kind, "decoding sequences")
    many = "tokens of context per decoding sequence" if (shown.decode_seqs > 0).any() else "prefill tokens"
    x = shown.mean_context if (shown.decode_seqs > 0).any() else shown.prefill_tokens
    _left_over(axes[1][0], x, residuals, shown.kind, many)
    _left_over(axes[1][1], np.arange(0.0, len(rows), step), residuals, shown.kind, "iteration, in order of time")
    figure.suptitle(title)
    figure.savefig(path, dpi=110)


def _left_over(axes, x: Floats, residuals: Floats, kinds, label: str) -> None:  # type: ignore[no-untyped-def]
    """Draw measured / predicted over `x`, with the median and the quartiles in bins of equal counts."""
    for kind, colour in _COLOURS.items():
        of = kinds == kind
        axes.plot(x[of], residuals[of], ".", ms=2.5, color=colour, alpha=0.25)
    edges = np.unique(np.quantile(x, np.linspace(0, 1, _BINS + 1)))
    place = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, max(len(edges) - 2, 0))
    found = [
        (np.median(x[place == i]), *np.quantile(residuals[place == i], [0.25, 0.5, 0.75])) for i in np.unique(place)
    ]
    at, low, middle, high = np.array(found).T
    axes.fill_between(at, low, high, color="black", alpha=0.15, lw=0)
    axes.plot(at, middle, "-o", ms=3, color="black", lw=1)
    axes.axhline(1.0, color="black", lw=0.6, ls=":")
    span = float(np.quantile(np.abs(residuals - 1.0), 0.99)) or 0.01
    axes.set(xlabel=label, ylabel="measured / predicted", ylim=(max(0.0, 1 - 1.3 * span), 1 + 1.3 * span))
