"""A sweep, its plan and a sensitivity as tables for a terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from servesim.experiment.sweep import Plan
from servesim.experiment.sweep_pilot import Estimate
from servesim.experiment.sweep_table import value_of
from servesim.report.numbers import change, listed, number, percent, seconds
from servesim.report.sweep_warnings import warnings
from servesim.scenario.load_sweep import words_of

_METRICS: dict[str, tuple[str, Callable[[float | None], str] | None]] = {
    "TTFT p99": ("ttft_s.p99", seconds),
    "TPOT p99": ("tpot_s.p99", seconds),
    "E2E p99": ("e2e_s.p99", seconds),
    "±": ("e2e_s.p99", None),
    "goodput/s": ("goodput_rps", number),
    "SLO met by": ("slo_attainment", percent),
    "tok/s/GPU": ("tps_per_gpu", number),
    "USD/M": ("usd_per_million_output_tokens", number),
}
_MOST_WARNINGS = 8
_EFFECTS = {
    "p99 E2E": "p99_e2e_s",
    "p99 TTFT": "p99_ttft_s",
    "USD/M tokens": "usd_per_million_output_tokens",
}


def short_names(paths: list[str]) -> dict[str, str]:
    """Return each path's last words, as many as it takes to tell the paths apart."""
    found = {}
    for path in paths:
        steps = path.split(".")
        for length in range(1, len(steps) + 1):
            short = ".".join(steps[-length:])
            if sum(one == short or one.endswith("." + short) for one in paths) == 1:
                break
        found[path] = short
    return found


def print_sweep(found: dict[str, Any], console: Console) -> None:
    """Print a sweep document: one row per point, `*` on the frontier, and every failure with its reason."""
    count, runs = len(found["points"]), found["replications"]["number"]
    each = "one run" if runs == 1 else f"{runs} replications"
    console.print(f"[bold]{escape(found['scenario'])}[/bold], {count} points, {each} each", highlight=False)
    shown = {
        title: (metric, words)
        for title, (metric, words) in _METRICS.items()
        if any(value_of(row, metric) is not None for row in found["points"])
    }
    table = _table(("point", *_setting_headers(found), *shown, ""), texts=1 + len(_setting_headers(found)))
    for row in found["points"]:
        cells = [_cell(row, metric, words) for metric, words in shown.values()]
        table.add_row(str(row["index"]), *_setting_cells(found, row), *cells, _remark(found, row))
    console.print(table)
    if found["frontier"]:
        console.print(
            "* none beats it in tokens/s per GPU and per user; ± 95 % interval; USD/M: per million output tokens",
            style="dim",
            highlight=False,
        )
    _print_warnings(found["points"], console)
    for row in found["points"]:
        if row["error"]:
            text = f"FAILED point {row['index']}: {row['error']['message']}"
            console.print(escape(text), style="bold red", highlight=False, soft_wrap=True)


def _print_warnings(points: list[dict[str, Any]], console: Console) -> None:
    """Print what the rows' numbers do not tell: rejections, times outside their range, estimates, overload."""
    told = warnings([row for row in points if not row["error"]])
    for text in told[:_MOST_WARNINGS]:
        console.print(escape(f"WARNING {text}"), style="yellow", highlight=False, soft_wrap=True)
    if len(told) > _MOST_WARNINGS:
        console.print(f"{len(told) - _MOST_WARNINGS} more warnings (--format json has all)", highlight=False)


def _cell(row: dict[str, Any], metric: str, words: Callable[[float | None], str] | None) -> str:
    cell = row["metrics"].get(metric, {})
    if words is None:  # the half-width of the interval of what stands before it
        return f"{100 * cell['half_width'] / cell['value']:.0f} %" if cell.get("half_width") and cell["value"] else ""
    return words(cell.get("value"))


def _remark(found: dict[str, Any], row: dict[str, Any]) -> str:
    if row["error"]:
        return "failed"
    return "overloaded" if row["overloaded"] else "*" if row["index"] in found["frontier"] else ""


def _setting_headers(found: dict[str, Any]) -> list[str]:
    variants = ["variant"] if any(row["variant"] for row in found["points"]) else []
    return [*variants, *short_names(found["settings"]).values()]


def _setting_cells(found: dict[str, Any], row: dict[str, Any]) -> list[str]:
    variants = [row["variant"]] if any(one["variant"] for one in found["points"]) else []
    settings = row["settings"]
    return [*variants, *(words_of(settings[path]) if path in settings else "" for path in found["settings"])]


def print_plan(plan: Plan, guess: Estimate, workers: int, console: Console) -> None:
    """Print the points that a sweep would run, and about how long it would take."""
    paths = list(dict.fromkeys(path for one in plan.points for path in one.point.settings))
    names = short_names(paths)
    variants = ["variant"] if any(one.point.variant for one in plan.points) else []
    table = _table(("point", *variants, *names.values(), "requests", ""), texts=1 + len(variants) + len(paths))
    for index, (one, requests) in enumerate(zip(plan.points, guess.requests, strict=True)):
        settings = one.point.settings
        cells = [words_of(settings[path]) if path in settings else "" for path in paths]
        reason = one.refused["error"]["message"] if one.refused else ""
        told = [escape(one.point.variant)] if variants else []
        table.add_row(str(index), *told, *map(escape, cells), number(requests), escape(reason))
    console.print(table)
    runs = len(plan.points) * plan.replications
    text = (
        f"{len(plan.points)} points x {plan.replications} replications = {runs} runs; about {_time(guess.wall_s)} on "
        f"{workers} worker{'s' * (workers > 1)} ({1e6 * guess.cpu_s_per_request:.0f} microseconds per request, pilot)"
    )
    console.print(text, highlight=False, soft_wrap=True)


def _time(value_s: float) -> str:
    if value_s < 120:
        return f"{value_s:.2g} s" if value_s < 10 else f"{value_s:.0f} s"
    return f"{value_s / 60:.0f} min" if value_s < 7200 else f"{value_s / 3600:.1f} h"


def print_sensitivity(found: dict[str, Any], console: Console) -> None:
    """Print the changes that move something, by how far they move p99 E2E; the others in one line."""
    console.print(
        f"[bold]{escape(found['scenario'])}[/bold], one change at a time, {found['replications']} replications",
        highlight=False,
    )
    names = short_names(list(dict.fromkeys(row["set"] for row in found["changes"])))
    table = _table(("setting", "from", "to", *_EFFECTS, ""), texts=1)
    still = []
    for row in found["changes"]:
        values = [row["effects"].get(metric, {}).get("value") for metric in _EFFECTS.values()]
        if row["error"] is None and all(value == 0 for value in values if value is not None):
            still.append(f"{names[row['set']]}={words_of(row['to'])}")
            continue
        cells = [_effect(row["effects"].get(metric, {})) for metric in _EFFECTS.values()]
        remark = "failed" if row["error"] else "overloaded" if row["overloaded"] else ""
        table.add_row(escape(names[row["set"]]), words_of(row["from"]), words_of(row["to"]), *cells, remark)
    console.print(table)
    if still:
        console.print(f"changes none of them: {listed(still)}", style="dim", highlight=False)
    for row in found["skipped"]:
        console.print(
            f"not tried: {row['set']}={words_of(row['to'])}: {row['reason']}",
            style="dim",
            highlight=False,
            markup=False,
        )


def _effect(effect: dict[str, Any]) -> str:
    value = effect.get("value")
    if value is None:
        return "-"
    sure = f" ({change(effect['low'])} to {change(effect['high'])})" if "low" in effect else ""
    return change(value) + sure


def _table(headers: tuple[str, ...], texts: int) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for place, header in enumerate(headers):
        if place < texts:
            table.add_column(escape(header), overflow="fold")
        else:
            table.add_column(header, justify="right" if header else "left")
    return table
