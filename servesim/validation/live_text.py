"""What a person reads of a live validation, and its picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from servesim.validation.live import Live


def live_lines(found: Live) -> Iterator[str]:
    """Yield the result as a table: errors in percent beside the repeat noise."""
    held_back = found.calibration.error.interior["all"]
    yield (
        f"calibrated on {len(found.rows)} iterations of other traffic (error held back: median "
        f"{100 * held_back.median:.1f} %, p90 {100 * held_back.p90:.1f} %); predicted, then served twice: "
        f"{len(found.predicted)} requests, the server {100 * found.utilisation:.0f} % busy; clock: {found.clock}"
    )
    yield f"{'':12s}{'measured':>12s}{'repeat':>9s}{'blind':>9s}{'speed':>9s}{'own':>9s}"
    yield f"{'':12s}{'ms':>12s}{'noise %':>9s}{'error %':>9s}{'known %':>9s}{'times %':>9s}"
    for error in found.errors:
        name = error.name.replace("_s.", " ").replace("ttft", "TTFT").replace("tpot", "TPOT").replace("e2e", "E2E")
        cells = [f"{100 * value:9.1f}" for value in (error.noise, error.blind, error.with_speed, error.own_times)]
        yield f"{name:12s}{1e3 * error.measured_s:12.4g}{''.join(cells)}"
    medians = [f"{100 * found.typical(of):9.1f}" for of in ("noise", "blind", "with_speed", "own_times")]
    yield f"{'median':12s}{'':12s}{''.join(medians)}"
    yield f"what explains the gap: {found.explanation()}"


def live_picture(found: Live, path: Path) -> None:
    """Draw the distributions of TTFT, TPOT and E2E, measured twice and predicted blind, to `path`."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    for axes, name, label in zip(
        figure.subplots(1, 3), ("ttft_s", "tpot_s", "e2e_s"), ("TTFT", "TPOT", "E2E"), strict=True
    ):
        for run, style, what in (
            (found.measured[0], {"color": "black", "lw": 1.2}, "measured"),
            (found.measured[1], {"color": "gray", "lw": 1.2, "ls": "--"}, "measured again"),
            (found.predicted, {"color": "#d62728", "lw": 1.2}, "predicted blind"),
        ):
            values = np.sort(1e3 * getattr(run, name))
            values = values[~np.isnan(values)]
            axes.plot(values, np.linspace(0, 1, len(values)), label=what, **style)
        axes.set(xscale="log", xlabel=f"{label}, ms", ylabel="share of requests")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.grid(alpha=0.3)
    figure.axes[0].legend(frameon=False)
    figure.suptitle(f"A live server, {len(found.predicted)} requests, {100 * found.utilisation:.0f} % busy")
    figure.savefig(path, dpi=110)
