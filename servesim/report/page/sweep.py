"""The page about a sweep: its curves, its frontier, where it saturates, and every point."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from servesim.experiment.sweep_table import value_of
from servesim.report.grids import Grid
from servesim.report.numbers import number, percent, seconds
from servesim.report.page.facts import flat
from servesim.report.page.read_sweep import SweepFiles
from servesim.report.page.render import render
from servesim.report.page.sweep_answer import sweep_screen
from servesim.report.page.sweep_charts import curve_groups, frontier_chart, most
from servesim.report.page.sweep_verdicts import Reach, is_asked, point_verdict, reach
from servesim.report.sweep_series import axis_title, lines, load_axis, point_words, saturation
from servesim.report.sweep_text import short_names
from servesim.report.sweep_warnings import warnings
from servesim.scenario.load_sweep import words_of

_COLUMNS: tuple[tuple[str, str, Callable[[float | None], str]], ...] = (
    ("TTFT p50", "ttft_s.p50", seconds),
    ("TTFT p99", "ttft_s.p99", seconds),
    ("TPOT p99", "tpot_s.p99", seconds),
    ("E2E p50", "e2e_s.p50", seconds),
    ("E2E p99", "e2e_s.p99", seconds),
    ("goodput/s", "goodput_rps", number),
    ("SLO met by", "slo_attainment", percent),
    ("tokens/s per GPU", "tps_per_gpu", number),
    ("per user", "tps_per_user", number),
    ("$/h", "cost_usd_per_hour", number),
    ("$/M tokens", "usd_per_million_output_tokens", number),
)
_WORDS = {"met": "yes", "met here": "yes, no interval", "missed": "no", "missed here": "no, no interval",
          "unclear": "too close", "overloaded": "overloaded", "not asked": ""}  # fmt: skip


def sweep_page(files: SweepFiles) -> str:
    """Return the page about a finished sweep."""
    found = files.found
    axis = load_axis(found)
    every = [] if axis is None else lines(found, axis)
    groups = curve_groups(most(every), axis, files.scenario) if axis is not None and every else []
    frontier = frontier_chart(found)
    charts = [chart for _, group in groups for chart in group] + ([] if frontier is None else [frontier])
    runs = found["replications"]["number"]
    each = "one run" if runs == 1 else f"{runs} replications"
    return render(
        "sweep.html",
        charts,
        title=str(found["scenario"]),
        description=str(files.scenario.get("description") or ""),
        runs=f"sweep of {len(found['points'])} points, {each} each",
        screen=sweep_screen(files),
        warnings=warnings(found["points"]),
        groups=groups,
        first=len(groups) - 1,
        along="" if axis is None else axis_title(axis),
        undrawn=max(0, len(every) - len(most(every))),
        reaches=_reaches([reach(line, files.scenario) for line in every], files) if axis is not None else None,
        frontier=[] if frontier is None else [frontier],
        best=_grid(found, files.scenario, [found["points"][index] for index in found["frontier"]]),
        points=_grid(found, files.scenario, [row for row in found["points"] if row["error"] is None]),
        failed=[row for row in found["points"] if row["error"] is not None],
        name_of=lambda row: point_words(found, row) or "the only point",
        configuration=files.scenario_text,
        provenance=[] if files.first is None else list(flat(files.first["provenance"])),
        seeds=found["replications"]["seeds"],
    )


def _reaches(found: list[Reach], files: SweepFiles) -> Grid:
    """Return a row for each line: how far it meets its objectives, from where it is overloaded, what it gives then."""
    asked = is_asked(files.scenario, files.found["points"])
    grid = Grid(
        (
            "line",
            "within its SLO up to" if asked else "steady up to",
            "overloaded from near",
            "goodput/s there",
            "$/h",
            "$/M tokens",
        )
    )
    for one in found:
        at, row = saturation(one.line), one.row
        cells = ("-", "-", "-") if row is None else (
            number(value_of(row, "goodput_rps")), number(value_of(row, "cost_usd_per_hour")),
            number(value_of(row, "usd_per_million_output_tokens")),
        )  # fmt: skip
        grid.rows.append(
            (
                one.line.label or "as it is",
                "none" if row is None else f"{one.load:g}",
                "-" if at is None else f"{at:g}",
                *cells,
            )
        )
    return grid


def _grid(found: dict[str, Any], scenario: dict[str, Any], rows: list[dict[str, Any]]) -> Grid:
    """Return the points with their settings and figures, each with its interval on a line of its own."""
    names = short_names(found["settings"])
    variants = any(row["variant"] for row in found["points"])
    shown = [one for one in _COLUMNS if any(value_of(row, one[1]) is not None for row in rows)]
    headers = (
        "point",
        *(("variant",) if variants else ()),
        *names.values(),
        *(title for title, _, _ in shown),
        "meets its SLO",
    )
    grid = Grid(headers, tight=True)
    for row in rows:
        settings = [words_of(row["settings"][path]) if path in row["settings"] else "" for path in names]
        cells = [_cell(row["metrics"].get(metric, {}), words) for _, metric, words in shown]
        verdict = _WORDS[point_verdict(row, scenario)]
        grid.rows.append((str(row["index"]), *((row["variant"],) if variants else ()), *settings, *cells, verdict))
    return grid


def _cell(cell: dict[str, Any], words: Callable[[float | None], str]) -> str:
    text = words(cell.get("value"))
    return f"{text}\n{words(cell['low'])} to {words(cell['high'])}" if "low" in cell else text
