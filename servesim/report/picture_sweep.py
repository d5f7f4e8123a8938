"""Pictures of a sweep: latencies and goodput against load, and the frontier of throughput per GPU and per user."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from servesim.experiment.sweep_table import value_of
from servesim.report.pictures import save, styled_figure
from servesim.report.sweep_series import (
    LATENCIES,
    PERCENTILES,
    Line,
    axis_title,
    lines,
    load_axis,
    point_parts,
    saturation,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLORS = ("black", "tab:blue", "tab:red", "tab:green", "tab:purple", "tab:brown")
_LINES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 3)))
_MARKS = ("o", "s", "^", "D", "v", "P")
_WIDE = 5.0


def pictures_of(found: dict[str, Any], style: str) -> dict[str, Callable[[Path], None]]:
    """Return what writes each picture of a sweep document as `style`; one that would be empty is left out."""
    fills: dict[str, Callable[[Figure, dict[str, Any]], None]] = {}
    if load_axis(found) is not None:
        fills["curves"] = curves
    if found["frontier"]:
        fills["frontier"] = frontier
    return {name: _writer(fill, found, style) for name, fill in fills.items()}


def _writer(
    fill: Callable[[Figure, dict[str, Any]], None], found: dict[str, Any], style: str
) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with styled_figure() as figure:
            fill(figure, found)
            save(figure, path, style)

    return write


def curves(figure: Figure, found: dict[str, Any]) -> None:
    """Draw TTFT, TPOT and E2E at p50, p95, p99 and goodput against load, intervals as bands, overload crossed out.

    One series has its percentiles in one panel; several have a row of panels for each. Of more series than can be told
    apart the first ones are drawn, which the title says.
    """
    axis = load_axis(found)
    assert axis is not None
    every = lines(found, axis)
    shown = every[: len(_COLORS)]
    rows = 1 if len(shown) <= 1 else len(PERCENTILES)
    figure.set_size_inches(12, 3.4 if rows == 1 else 7.6)
    grid = figure.subplots(rows, 4, squeeze=False)
    for column, (latency, title) in enumerate(LATENCIES.items()):
        for row in range(rows):
            panel = grid[row][column]
            for place, one in enumerate(shown):
                if rows == 1:
                    for line, kind in enumerate(PERCENTILES):
                        _line(panel, one, f"{latency}.{kind}", line, kind)
                else:
                    _line(panel, one, f"{latency}.{PERCENTILES[row]}", place, one.label)
            _seconds_axis(panel)
            panel.set_title(title if rows == 1 else f"{title}, {PERCENTILES[row]}")
    for place, one in enumerate(shown):
        _goodput(grid[0][3], one, place, single=rows == 1)
    grid[0][3].set_ylim(bottom=0)
    grid[0][3].set_title(_rate_title(shown))
    for panel in [*grid[:, :3].ravel().tolist(), grid[0][3]]:
        _load_axis(panel, axis, shown)
    for panel in grid[1:, 3].tolist():
        panel.set_axis_off()
    _explain(figure, grid, shown, len(every))


def _line(panel: Axes, one: Line, metric: str, place: int, label: str) -> None:
    y = [value_of(row, metric) for row in one.rows]
    values = np.array([np.nan if value is None else value for value in y])
    color, dashes, mark = _COLORS[place], _LINES[place], _MARKS[place]
    panel.plot(one.x, values, color=color, linestyle=dashes, marker=mark, markersize=3, linewidth=1.4, label=label)
    cells = [row["metrics"].get(metric, {}) for row in one.rows]
    low, high = (np.array([cell.get(side, np.nan) for cell in cells], dtype=float) for side in ("low", "high"))
    panel.fill_between(one.x, low, high, color=color, alpha=0.18, linewidth=0)
    x, over = np.array(one.x, dtype=float), np.array([bool(row["overloaded"]) for row in one.rows])
    panel.plot(x[over], values[over], linestyle="none", marker="x", markersize=8, color="tab:red", zorder=4)


def _has_goodput(shown: list[Line]) -> bool:
    return any(value_of(row, "goodput_rps") is not None for one in shown for row in one.rows)


def _rate_title(shown: list[Line]) -> str:
    return "goodput (requests/s)" if _has_goodput(shown) else "throughput (requests/s)"


def _goodput(panel: Axes, one: Line, place: int, single: bool) -> None:
    metric = "goodput_rps" if _has_goodput([one]) else "request_throughput_rps"
    _line(panel, one, metric, place, "within the SLO" if metric == "goodput_rps" else "completed")
    offered = [value_of(row, "offered_rps") for row in one.rows]
    if single and None not in offered:
        panel.plot(one.x, offered, color="0.45", linewidth=0.9, linestyle=(0, (1, 2)), label="offered")  # type: ignore[arg-type]


def _seconds_axis(panel: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    values = [value for line in panel.get_lines() for value in np.asarray(line.get_ydata(), dtype=float)]
    known = [value for value in values if np.isfinite(value) and value > 0]
    if known and max(known) / min(known) > _WIDE:
        panel.set_yscale("log")
        panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if max(known) / min(known) < 500 else (1.0,)))
        panel.yaxis.set_minor_formatter(NullFormatter())
    else:
        panel.set_ylim(bottom=0)
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))


def _tick(value: float) -> str:
    return f"{value:,.6g} s" if value >= 1 or value == 0 else f"{1000 * value:.6g} ms"


def _load_axis(panel: Axes, axis: str, shown: list[Line]) -> None:
    panel.set_xlabel(axis_title(axis))
    if len(shown) == 1 and (start := saturation(shown[0])) is not None:
        panel.axvspan(start, max(shown[0].x), color="tab:red", alpha=0.07, linewidth=0)
        text = panel.get_xaxis_transform()
        height, align = (0.98, "top") if panel.get_yscale() == "linear" else (0.02, "bottom")  # where no curve is
        panel.text(start, height, " overloaded", transform=text, fontsize=7.5, color="tab:red", va=align)


def _explain(figure: Figure, grid: Any, shown: list[Line], count: int) -> None:
    from matplotlib.lines import Line2D

    handles, labels = grid[0][0].get_legend_handles_labels()
    crossed = any(row["overloaded"] for one in shown for row in one.rows)
    if crossed:
        handles.append(Line2D([], [], linestyle="none", marker="x", markersize=8, color="tab:red"))
        labels.append("overloaded: depends on how long it runs")
    if len(shown) == 1:
        more_handles, more = grid[0][3].get_legend_handles_labels()
        grid[0][3].legend(more_handles, more)
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
        return
    note = "" if count == len(shown) else f"\n{count - len(shown)} more are not drawn"
    grid[1][3].legend(handles, labels, loc="upper left", title=f"bands: 95 % intervals{note}", alignment="left")


def frontier(figure: Figure, found: dict[str, Any]) -> None:
    """Draw output tokens/s per GPU against tokens/s per user (1 / mean TPOT), the frontier joined and named."""
    figure.set_size_inches(7.5, 4.6)
    panel = figure.subplots()
    known = [row for row in found["points"] if value_of(row, "tps_per_user") and value_of(row, "tps_per_gpu")]
    best = [row for index in found["frontier"] for row in known if row["index"] == index]
    others = [row for row in known if row["index"] not in found["frontier"]]
    over = [row for row in others if row["overloaded"]]
    beaten = [row for row in others if not row["overloaded"]]
    _scatter(panel, best, "-", "o", "tab:blue", "on the frontier")
    _scatter(panel, beaten, "none", ".", "0.45", "beaten in both")
    _scatter(panel, over, "none", "x", "tab:red", "overloaded")
    _name(panel, found, best)
    panel.set_xlabel("output tokens/s per user (1 / mean TPOT)")
    panel.set_ylabel("output tokens/s per GPU")
    panel.set_xlim(left=0)
    panel.set_ylim(bottom=0)
    panel.set_title(f"{found['scenario']}: {len(best)} of {len(known)} points on the frontier")
    panel.legend()


def _scatter(panel: Axes, rows: list[dict[str, Any]], line: str, mark: str, color: str, label: str) -> None:
    if rows:
        x, y = ([value_of(row, name) for row in rows] for name in ("tps_per_user", "tps_per_gpu"))
        panel.plot(x, y, linestyle=line, marker=mark, color=color, linewidth=1.2, label=label)  # type: ignore[arg-type]


def _name(panel: Axes, found: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Write the settings beside points of the frontier, the first, the last and as many between as have room."""
    step = max(1, -(-len(rows) // 6))
    for row in rows[::step]:
        place = (value_of(row, "tps_per_user"), value_of(row, "tps_per_gpu"))
        text = "\n".join(point_parts(found, row))
        panel.annotate(text, place, (6, 4), textcoords="offset points", fontsize=7)
