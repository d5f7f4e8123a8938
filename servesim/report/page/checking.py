"""The page about a check: did anything become worse, what changed, and what would have been seen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from servesim.check.judge import IMPROVED, INCONCLUSIVE, REGRESSION, Verdict
from servesim.check.report import Checked, Report, report_of
from servesim.errors import InputError, Problem
from servesim.report.check import MARKS, count_words, sentences, verdict_grid
from servesim.report.compare import metric_value
from servesim.report.grids import Grid
from servesim.report.numbers import change, two_digits
from servesim.report.page.forest import Entry, Forest, forest
from servesim.report.page.read import read_json
from servesim.report.page.render import render
from servesim.report.page.screen import Screen, Tile, Tone

CHECK_FILE = "check.json"
_VERSION = 1
_NEEDED = ("verdict", "exit_code", "against", "level", "scenarios")
_SCREENS: dict[int, tuple[Tone, str]] = {
    0: ("good", "Passed: no regression"),
    3: ("bad", "Failed: something became worse"),
    4: ("bad", "Overloaded now, and not before"),
    5: ("open", "Inconclusive: a change that matters could have been missed"),
}
_TONES: dict[str, Tone] = {REGRESSION: "bad", IMPROVED: "good", INCONCLUSIVE: "open"}
_LIMIT = 3.0


@dataclass(frozen=True, slots=True)
class Part:
    """What the page has on each scenario."""

    title: str
    lines: list[str]
    changes: Forest | None
    grid: Grid
    limits: Grid
    passed: bool


def read_check(directory: Path) -> Report:
    """Return what `check -o` wrote; InputError says what is broken."""
    path = directory / CHECK_FILE
    plain = read_json(path, _VERSION, _NEEDED)
    try:
        return report_of(plain)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(Problem("is not the result of a check", file=str(path))) from error


def check_page(report: Report) -> str:
    """Return the page about a check."""
    before = "a baseline" if report.against is None else report.against
    return render(
        "check.html",
        [],
        title=f"Check against {before}",
        description="",
        runs=f"check of {len(report.scenarios)} scenario{'s' if len(report.scenarios) > 1 else ''}",
        screen=_screen(report),
        warnings=[],
        parts_=[_part(one, report) for one in report.scenarios],
    )


def _screen(report: Report) -> Screen:
    tone, headline = _SCREENS[report.exit_code]
    points = [f"{one.key}: {line}" for one in report.scenarios for line in sentences(one, report)[:2]]
    worst = sorted(
        (verdict for one in report.scenarios for verdict in one.having(REGRESSION) if verdict.relative is not None),
        key=lambda verdict: -abs(verdict.relative or 0.0),
    )
    tiles = [
        Tile(
            one.metric,
            change(one.relative),
            f"{metric_value(one.metric, one.before)} to {metric_value(one.metric, one.now)}",
        )
        for one in worst[:6]
    ]
    seen = [one.detectable for one in report.scenarios if one.detectable is not None]
    if seen and not tiles:
        tiles.append(Tile("would have been seen", two_digits(max(seen)), "smallest change, with 80 % probability"))
    moved = list(dict.fromkeys(text for one in report.scenarios for text in one.moved))
    columns = (
        ("What changed?", moved or ["Nothing that is known to matter."]),
        ("How sure?", [f"At most {100 * report.level:g} % chance of any false alarm in the whole check (Holm)."]),
    )
    return Screen(tone, "Did anything become worse?", headline, [count_words(report), *points], tiles, columns)


def _part(one: Checked, report: Report) -> Part:
    limits = Grid(("limit", "kept", "mean"))
    limits.rows.extend(
        [
            (kept.limit, "yes" if kept.kept else "MISSED", metric_value(kept.metric, kept.value))
            for kept in one.assertions
        ]
    )
    known = [verdict for verdict in one.verdicts if verdict.relative is not None and not one.identical]
    return Part(
        title=f"{MARKS[one.exit_code]} {one.key}",
        lines=sentences(one, report),
        changes=_changes(known) if known else None,
        grid=verdict_grid(one),
        limits=limits,
        passed=one.exit_code == 0,
    )


def _changes(known: list[Verdict]) -> Forest:
    entries = [
        Entry(
            one.metric,
            one.relative,
            one.low,
            one.high,
            change(one.relative),
            _tip(one),
            one.status,
            _TONES.get(one.status, "plain"),
        )
        for one in known
    ]
    threshold = known[0].threshold if len({one.threshold for one in known}) == 1 else None
    caption = "Change of the mean with its 95 % interval" + (
        "." if threshold is None else f"; the grey band, {100 * threshold:g} %, does not matter."
    )
    words = lambda at: f"{100 * at:+.3g} %" if at else "0"  # noqa: E731
    return forest("Every metric", caption, entries, words, within=threshold, limit=_LIMIT)


def _tip(one: Verdict) -> str:
    around = f" ({change(one.low)} to {change(one.high)})" if one.low is not None else ""
    seen = "" if one.detectable is None else f"; {two_digits(one.detectable)} would have been seen"
    values = f"{metric_value(one.metric, one.before)} to {metric_value(one.metric, one.now)}"
    return f"{one.metric}: {values}, {change(one.relative)}{around}{seen}"
