"""Where the time of requests went: mean and slowest TTFT and E2E as stacked bars."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from servesim.metrics.record import RunRecord
from servesim.report.grids import PARTS
from servesim.report.numbers import seconds
from servesim.report.why import PART_WORDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# (fill, hatch): light fills, so that hatches show; neighbours differ in both.
_LOOKS = {
    "network_s": ("white", ".."),
    "retry_s": ("0.85", "---"),
    "admission_s": ("0.85", "oo"),
    "queue_s": ("0.35", ""),
    "formation_s": ("0.6", "\\\\\\"),
    "own_compute_s": ("white", ""),
    "interference_s": ("0.78", "///"),
    "preemption_s": ("white", "xxx"),
    "host_s": ("0.6", "\\\\\\"),
}
_LEAST_LABEL = 0.06
_LEAST_SHOWN = 0.0005


def causes(figure: Figure, record: RunRecord, summary: dict[str, Any]) -> bool:
    """Draw the parts of TTFT and of E2E, mean and slowest, in seconds; False if no request completed."""
    split = summary["classes"]["all"]["split"]
    panels = {
        "TTFT": (split["ttft_s"], split["p99_tail"]["ttft_s"]),
        "E2E": (split["e2e_s"], split["p99_tail"]["e2e_s"]),
    }
    if summary["classes"]["all"]["completed"] == 0:
        return False
    shown = [
        key for key in PARTS if any(bar[key] > 0.0005 * sum(bar.values()) for two in panels.values() for bar in two)
    ]
    figure.set_size_inches(9.5, 3.9)
    axes = figure.subplots(2, 1)
    for panel, (title, bars) in zip(axes, panels.items(), strict=True):
        _bars(panel, bars, shown)
        panel.set_title(_title(title, bars[1]))
        panel.set_xlabel(f"{title} (s)")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(shown), handlelength=2.4, handleheight=1.3)
    return True


def _bars(panel: Axes, bars: tuple[dict[str, float], dict[str, float]], shown: list[str]) -> None:
    left = [0.0, 0.0]
    widest = max(sum(bar.values()) for bar in bars)
    for key in shown:
        fill, hatch = _LOOKS[key]
        widths = [max(bar[key], 0.0) for bar in bars]
        panel.barh([1, 0], widths, 0.62, left, color=fill, hatch=hatch, edgecolor="black", linewidth=0.7,
                   label=PARTS[key])  # fmt: skip
        for row, (bar, start, width) in enumerate(zip(bars, left, widths, strict=True)):
            if widest > 0 and width / widest >= _LEAST_LABEL:
                _label(panel, start + width / 2, 1 - row, f"{100 * bar[key] / sum(bar.values()):.0f} %")
        left = [start + width for start, width in zip(left, widths, strict=True)]
    for row, (bar, end) in enumerate(zip(bars, left, strict=True)):
        panel.annotate(seconds(sum(bar.values())), (end, 1 - row), (5, 0), textcoords="offset points", va="center")
    panel.set_yticks([1, 0], ["mean", "mean of the\nslowest 1 %"])
    panel.grid(visible=False, axis="y")
    panel.set_xlim(0, 1.12 * widest if widest > 0 else 1.0)
    panel.set_ylim(-0.5, 1.5)


def _label(panel: Axes, x: float, y: float, text: str) -> None:
    box = {"boxstyle": "square,pad=0.15", "facecolor": "white", "edgecolor": "none"}
    panel.text(x, y, text, ha="center", va="center", fontsize=8, bbox=box)


def _title(title: str, tail: dict[str, float]) -> str:
    total = sum(tail.values())
    key = max(tail, key=tail.__getitem__)
    return f"{title}: {100 * tail[key] / total:.0f} % of the slowest 1 % is {PART_WORDS[key]}" if total > 0 else title
