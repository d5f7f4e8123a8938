"""How latencies are distributed: TTFT, TPOT and E2E of every class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from servesim.metrics.definitions import Floats
from servesim.metrics.latencies import latencies
from servesim.metrics.record import RunRecord, Slo
from servesim.report.numbers import seconds

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_KINDS = {
    "ttft_s": ("TTFT", "time to first token"),
    "tpot_s": ("TPOT", "time per output token"),
    "e2e_s": ("E2E", "end-to-end latency"),
}
_LINES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 3)))
_COLORS = ("black", "tab:blue", "tab:red", "tab:green", "tab:purple", "tab:brown")
MOST_CLASSES = len(_LINES)
_POINTS = 2000
_WIDE, _FEW_TICKS = 5.0, 150.0


def latency(figure: Figure, record: RunRecord, summary: dict[str, Any]) -> bool:
    """Draw the distribution functions with p50 and p99 marked and the SLOs; False if there is nothing to draw.

    With more classes than can be told apart, those with most completed requests are drawn.
    """
    found = latencies(record)
    counts = [summary["classes"][one.name]["completed"] for one in record.classes]
    ranked = sorted(range(len(counts)), key=lambda i: -counts[i])[:MOST_CLASSES]
    shown = sorted(index for index in ranked if counts[index])
    if not shown:
        return False
    figure.set_size_inches(11, 4.2 if len(shown) > 1 else 3.6)
    axes = figure.subplots(1, 3, sharey=True)
    for panel, kind in zip(axes, _KINDS, strict=True):
        for place, index in enumerate(shown):
            one = record.classes[index]
            values = np.sort(found.of_class(getattr(found, kind), index))
            _curve(panel, values[~np.isnan(values)], summary["classes"][one.name][kind], place)
        slos = {record.classes[index].name: _slo(record.classes[index].slo, kind) for index in shown}
        _thresholds(panel, slos)
        _frame(panel, kind, _title(summary, [record.classes[i].name for i in shown], kind, slos))
        if len(shown) == 1:
            _labels(panel, summary["classes"][record.classes[shown[0]].name][kind])
    axes[0].set_ylabel("fraction of completed requests")
    if len(shown) > 1:
        _legend(figure, axes[0], [record.classes[index].name for index in shown])
    return True


def _legend(figure: Figure, panel: Axes, names: list[str]) -> None:
    """Name the classes' lines and say what the marks on them are."""
    from matplotlib.lines import Line2D

    handles = [line for line in panel.get_lines() if line.get_gid() == "curve"]
    for marker in ("o", "s"):
        mark = Line2D([], [], marker=marker, linestyle="none", color="black", markerfacecolor="white", markersize=5)
        handles.append(mark)
    labels = [*(_shortened(name, 32) for name in names), "p50", "p99"]
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 5))


def _slo(slo: Slo, kind: str) -> float | None:
    value: float | None = getattr(slo, kind)
    return value


def _curve(panel: Axes, ordered: Floats, described: dict[str, float | None], place: int) -> None:
    """Draw one distribution function; at most _POINTS of its steps, evenly by rank, and the ends."""
    if not len(ordered):
        return
    ranks = np.unique(np.linspace(0, len(ordered) - 1, min(len(ordered), _POINTS)).astype(np.int64))
    x, y = np.append(ordered[ranks[:1]], ordered[ranks]), np.append(0.0, (ranks + 1) / len(ordered))
    panel.plot(x, y, linewidth=1.6, gid="curve", drawstyle="steps-post", color=_COLORS[place],
               linestyle=_LINES[place])  # fmt: skip
    for percentile, marker in (("p50", "o"), ("p99", "s")):
        value = described[percentile]
        if value is not None:
            height = int(percentile[1:]) / 100
            panel.plot([value], [height], marker, color=_COLORS[place], markersize=5, markerfacecolor="white")


def _labels(panel: Axes, described: dict[str, float | None]) -> None:
    """Write p50 and p99 beside their marks, where the curve of a single class leaves room."""
    p50, p99 = described["p50"], described["p99"]
    if p50 is None or p99 is None:
        return
    across = panel.transAxes.inverted().transform(panel.transData.transform((p50, 0.5)))[0]
    beside, align = ((-7, -3), "right") if across > 0.5 else ((7, -4), "left")
    panel.annotate(f"p50 {seconds(p50)}", (p50, 0.5), beside, textcoords="offset points", ha=align)
    box = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"}  # over an SLO's line
    panel.annotate(f"p99 {seconds(p99)}", (p99, 0.99), (2, 8), textcoords="offset points", ha="right", bbox=box)


def _thresholds(panel: Axes, slos: dict[str, float | None]) -> None:
    by_value: dict[float, list[str]] = {}
    for name, value in slos.items():
        if value is not None:
            by_value.setdefault(value, []).append(name)
    for value, names in by_value.items():
        panel.axvline(value, color="0.35", linewidth=1.2, linestyle=(0, (1, 1)))
        whose = "" if len(slos) == 1 else f" of {_shortened(', '.join(names), 24)}"
        panel.annotate(
            f"SLO{whose} {seconds(value)}", (value, 0.03), (-4, 0), xycoords=("data", "axes fraction"),
            textcoords="offset points", rotation=90, ha="right", va="bottom", fontsize=8,
            bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.8},
        )  # fmt: skip


def _frame(panel: Axes, kind: str, title: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    short, name = _KINDS[kind]
    values = [x for line in panel.get_lines() for x in np.asarray(line.get_xdata(), dtype=float)]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if low > 0 and high / low > _WIDE:
        panel.set_xscale("log")
        panel.set_xlim(low / 1.15, high * 1.15)
        panel.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high / low < _FEW_TICKS else (1.0,)))
        panel.xaxis.set_minor_formatter(NullFormatter())
    else:
        panel.locator_params(axis="x", nbins=5)
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))
    panel.set_ylim(0, 1.09)
    panel.set_yticks(np.arange(0, 1.01, 0.2))
    panel.set_xlabel(f"{name} ({short})")
    panel.set_title(title)


def _tick(value: float) -> str:
    """Return an axis tick with its unit and no needless digits."""
    return f"{value:,.6g} s" if value >= 1 or value == 0 else f"{1000 * value:.6g} ms"


def _title(summary: dict[str, Any], names: list[str], kind: str, slos: dict[str, float | None]) -> str:
    """Say how far p99 of the class in most trouble is from its target, or what the slowest class's p99 is."""
    short = _KINDS[kind][0]
    known = {name: p99 for name in names if (p99 := summary["classes"][name][kind]["p99"]) is not None}
    if not known:
        return f"{short}: not defined"
    asked = {name: known[name] / target for name in known if (target := slos[name]) is not None}
    name = max(asked or known, key=(asked or known).__getitem__)
    whose = f" of {_shortened(name, 32)}:\n" if len(names) > 1 else ": "
    if not asked:
        return f"{short}{whose}99 % within {seconds(known[name])}"
    ratio = asked[name]
    return f"{short}{whose}p99 is {f'{100 * ratio:.0f} % of' if ratio < 2 else f'{ratio:.1f} times'} the SLO"


def _shortened(name: str, length: int) -> str:
    return name if len(name) <= length else name[: length - 1] + "\u2026"
