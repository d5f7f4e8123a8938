"""The page about a comparison: is B better, by how much, how sure, and why."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from servesim.report.compare import (
    PART_TITLES,
    comparison_title,
    comparison_warnings,
    head_title,
    metric_value,
    metrics_grid,
    sentences,
    signed,
    why_grid,
    why_sentences,
)
from servesim.report.grids import Grid
from servesim.report.numbers import change, listed, percent, seconds
from servesim.report.page.facts import flat
from servesim.report.page.forest import Entry, Forest, forest
from servesim.report.page.read import read_json, read_scenario
from servesim.report.page.render import render
from servesim.report.page.screen import Screen, Tile, Tone

COMPARISON_FILE = "comparison.json"
_SCENARIOS = ("a.yaml", "b.yaml")
_VERSION = 1
_NEEDED = (
    "a",
    "b",
    "replications",
    "seeds",
    "margin",
    "confidence",
    "overloaded",
    "classes",
    "completed",
    "metrics",
    "why",
    "provenance",
)
_TONES: dict[str, Tone] = {"better": "good", "worse": "bad", "no difference shown": "open"}
_LIMIT = 3.0
_MOST_DIFFERENCES = 40


@dataclass(frozen=True, slots=True)
class ComparisonFiles:
    """What a comparison left: its summary, and both scenarios parsed and as text."""

    summary: dict[str, Any]
    scenarios: tuple[dict[str, Any], dict[str, Any]]
    texts: tuple[str, str]


def read_comparison(directory: Path) -> ComparisonFiles:
    """Return the files of `compare -o`; InputError says what is missing or broken."""
    summary = read_json(directory / COMPARISON_FILE, _VERSION, _NEEDED)
    (a, text_a), (b, text_b) = (read_scenario(directory / name) for name in _SCENARIOS)
    return ComparisonFiles(summary, (a, b), (text_a, text_b))


def comparison_page(files: ComparisonFiles) -> str:
    """Return the page about two scenarios under the same random numbers."""
    summary = files.summary
    return render(
        "comparison.html",
        [],
        title=comparison_title(summary).partition(", ")[0],
        description="",
        runs=f"comparison, {summary['replications']} paired replications",
        screen=_screen(files),
        warnings=comparison_warnings(summary),
        changes=_changes(summary),
        causes=[_causes(name, one) for name, one in summary["why"].items() if abs(one["change_s"]) > 1e-9],
        grids=[grid for grid in (metrics_grid(summary), why_grid(summary)) if grid.rows],
        sure_lines=sentences(summary),
        differences=differences(*files.scenarios),
        texts=files.texts,
        provenance=list(flat(summary["provenance"])),
        seeds=summary["seeds"],
    )


def _screen(files: ComparisonFiles) -> Screen:
    summary = files.summary
    by_verdict: dict[str, list[str]] = {}
    for name, one in summary["metrics"].items():
        by_verdict.setdefault(one["verdict"], []).append(name)
    tone, headline = _headline(by_verdict)
    points = [f"{verdict}: {listed(names)}" for verdict, names in by_verdict.items()]
    changed = differences(*files.scenarios)
    what = [f"{row[0]}: {row[1]} -> {row[2]}" for row in changed.rows[:6]] or ["The scenarios are the same."]
    more = [f"{len(changed.rows) - 6} more below"] if len(changed.rows) > 6 else []
    sure = [f"Intervals: {100 * summary['confidence']:g} %, {summary['replications']} paired replications."]
    return Screen(
        tone,
        "Is B better than A?",
        headline,
        points,
        list(_tiles(summary)),
        (("What differs?", [*what, *more]), ("Why?", why_sentences(summary)), ("How sure?", sure)),
    )


def _headline(by_verdict: dict[str, list[str]]) -> tuple[Tone, str]:
    better, worse = "better" in by_verdict, "worse" in by_verdict
    if better and worse:
        return "open", "Better in some, worse in others"
    if better:
        return "good", "B is better"
    if worse:
        return "bad", "B is worse"
    if "no difference shown" in by_verdict:
        return "open", "No difference shown"
    return "plain", "Practically equal"


def _tiles(summary: dict[str, Any]) -> list[Tile]:
    """Return the metrics that changed most surely, at most six."""
    known = [(name, one) for name, one in summary["metrics"].items() if one["relative"] is not None]
    known.sort(key=lambda pair: pair[1]["verdict"] not in ("better", "worse"))
    return [
        Tile(name, change(one["relative"]), f"{metric_value(name, one['a'])} to {metric_value(name, one['b'])}")
        for name, one in known[:6]
    ]


def _changes(summary: dict[str, Any]) -> Forest:
    entries = [
        Entry(
            name,
            one["relative"],
            one["low"],
            one["high"],
            change(one["relative"]),
            f"{name}: {metric_value(name, one['a'])} to {metric_value(name, one['b'])}, {change(one['relative'])}"
            + (f" ({change(one['low'])} to {change(one['high'])})" if one["low"] is not None else ""),
            one["verdict"],
            _TONES.get(one["verdict"], "plain"),
        )
        for name, one in summary["metrics"].items()
    ]
    margin = f"± {percent(summary['margin'])}"
    caption = f"Relative change with its interval; within the grey band ({margin}) it is practically equal."
    words = lambda at: f"{100 * at:+.3g} %" if at else "0"  # noqa: E731
    return forest("Every metric", caption, entries, words, within=summary["margin"], limit=_LIMIT)


def _causes(name: str, one: dict[str, Any]) -> Forest:
    """Return the whole change of a latency and the parts that it is the sum of."""
    parts = {"whole change": one, **{PART_TITLES[part]: found for part, found in one["parts"].items()}}
    entries = [
        Entry(
            title,
            found["change_s"],
            found["low_s"],
            found["high_s"],
            signed(found["change_s"]),
            f"{title}: {signed(found['change_s'])} ({signed(found['low_s'])} to {signed(found['high_s'])})",
            tone="open" if title == "whole change" else _tone(found),
        )
        for title, found in parts.items()
        if abs(found["change_s"]) > 1e-9
    ]
    return forest(
        f"Why {head_title(name)} changed",
        "Seconds of B minus those of A; the parts add up to the whole change.",
        entries,
        _time,
    )


def _tone(found: dict[str, Any]) -> Tone:
    if found["low_s"] <= 0 <= found["high_s"]:
        return "plain"
    return "bad" if found["change_s"] > 0 else "good"


def _time(at: float) -> str:
    return "0" if at == 0 else ("-" if at < 0 else "+") + seconds(abs(at))


def differences(a: Any, b: Any) -> Grid:
    """Return the settings in which two parsed scenarios differ."""
    ours, theirs = dict(_leaves(a)), dict(_leaves(b))
    grid = Grid(("setting", "A", "B"))
    for path in [*ours, *(path for path in theirs if path not in ours)]:
        if path not in ("name", "description") and ours.get(path) != theirs.get(path):
            grid.rows.append((path, ours.get(path, "-"), theirs.get(path, "-")))
    if len(grid.rows) > _MOST_DIFFERENCES:
        rest = len(grid.rows) - _MOST_DIFFERENCES
        grid.rows[_MOST_DIFFERENCES:] = [(f"and {rest} more", "", "")]
    return grid


def _leaves(tree: Any, path: str = "") -> list[tuple[str, str]]:
    if isinstance(tree, dict):
        return [
            leaf for name, value in tree.items() for leaf in _leaves(value, f"{path}.{name}" if path else str(name))
        ]
    text = str(tree)
    return [(path, text if len(text) <= 60 else f"{text[:57]}...")]
