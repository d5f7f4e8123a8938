"""The first screen of a sweep: how much load it takes, or which point is best."""

from __future__ import annotations

from typing import Any

from servesim.experiment.sweep_table import value_of
from servesim.report.intervals import calibration_words
from servesim.report.numbers import listed, number, percent, seconds
from servesim.report.page.read_sweep import SweepFiles
from servesim.report.page.screen import Screen, Tile, Tone
from servesim.report.page.sweep_verdicts import GOOD, Reach, is_asked, point_verdict, reach
from servesim.report.sweep_series import is_load, lines, load_axis, point_words, saturation
from servesim.report.validation import validation_lines

_UNITS = {"request_rate_rps": "requests/s", "max_concurrency": "clients", "scale": "times the load"}
_MOST_SENTENCES = 8


def sweep_screen(files: SweepFiles) -> Screen:
    """Return the first screen; `files.found` has at least one point."""
    found = files.found
    axis = load_axis(found)
    if files.first is None:
        return Screen("bad", "What came out?", "Every point failed", _failures(found), [], ())
    if axis is not None and is_load(axis):
        return _of_load(files, axis)
    return _of_points(files)


def _of_load(files: SweepFiles, axis: str) -> Screen:
    found, scenario = files.found, files.scenario
    asked = is_asked(scenario, found["points"])
    reaches = [reach(line, scenario) for line in lines(found, axis)]
    best = max(reaches, key=lambda one: (one.load, -_cost(one.row)))
    unit = _UNITS[axis.rpartition(".")[2]]
    return Screen(
        tone="bad" if best.row is None else "good",
        question="How much load does it take within its SLO?" if asked else "How much load does it take?",
        headline=_load_headline(best, unit, asked, len(reaches)),
        points=[*_reach_words(reaches, unit, asked), *_failures(found)],
        tiles=_tiles(best.row, {"load": f"{best.load:g} {unit}"}) if best.row else [],
        columns=(
            ("How sure?", sure(files)),
            ("What limits it?", _saturation_words(reaches, unit)),
            ("What is cheapest?", _cheapest_words(files, asked)),
        ),
    )


def _load_headline(best: Reach, unit: str, asked: bool, of: int) -> str:
    if best.row is None:
        return "Not even the smallest load tried meets its SLO" if asked else "Overloaded at the smallest load tried"
    which = f", with {best.line.label}" if of > 1 else ""
    at_least = "At least " if best.verdict is None else "Up to "
    return f"{at_least}{best.load:g} {unit}{which}"


def _reach_words(reaches: list[Reach], unit: str, asked: bool) -> list[str]:
    """Return a sentence for each line, those that go furthest first."""
    does = "meets its SLO" if asked else "is not overloaded"
    ends = {
        "overloaded": "is overloaded at {}",
        "missed": "misses it at {}",
        "missed here": "misses it at {} (no interval)",
        "unclear": "is too close to call at {}",
    }
    ranked = sorted(reaches, key=lambda one: -one.load)
    sentences = []
    for one in ranked[:_MOST_SENTENCES]:
        start = f"{one.line.label}: " if one.line.label else ""
        if one.verdict is None:
            sentences.append(f"{start}{does} at every load tried, up to {one.load:g} {unit}")
        else:
            until = f"{does} up to {one.load:g} {unit}, " if one.row else ""
            short = f": {one.short}" if one.short else ""
            sentences.append(f"{start}{until}{ends[one.verdict].format(f'{one.next_load:g}')}{short}")
    if len(ranked) > _MOST_SENTENCES:
        sentences.append(f"{len(ranked) - _MOST_SENTENCES} more in the table below")
    return sentences


def _saturation_words(reaches: list[Reach], unit: str) -> list[str]:
    starts: dict[str, list[str]] = {}
    for one in reaches:
        at = saturation(one.line)
        words = "No load tried overloads it" if at is None else f"Overloaded from about {at:g} {unit}"
        starts.setdefault(words, []).append(one.line.label)
    if len(starts) == 1:
        return [f"{next(iter(starts))}."]
    return [f"{listed(labels)}: {words[0].lower()}{words[1:]}." for words, labels in starts.items()][:_MOST_SENTENCES]


def _of_points(files: SweepFiles) -> Screen:
    found, scenario = files.found, files.scenario
    asked = is_asked(scenario, found["points"])
    known = [(row, point_verdict(row, scenario)) for row in found["points"] if row["error"] is None]
    fitting = [row for row, verdict in known if verdict in GOOD or (verdict == "not asked" and not row["overloaded"])]
    priced = all(value_of(row, "usd_per_million_output_tokens") is not None for row in fitting)
    metric = "usd_per_million_output_tokens" if priced else "e2e_s.p99"
    best = min(
        (row for row in fitting if value_of(row, metric) is not None),
        default=None,
        key=lambda row: value_of(row, metric) or 0.0,
    )
    counts = {
        name: sum(verdict == name for _, verdict in known)
        for name in ("missed", "missed here", "overloaded", "unclear")
    }
    words = {
        "missed": "miss their SLO",
        "missed here": "miss it (no interval)",
        "overloaded": "are overloaded",
        "unclear": "are too close to call",
    }
    points = [f"{len(fitting)} of {len(found['points'])} points {'meet their SLO' if asked else 'are not overloaded'}"]
    points += [f"{count} {words[name]}" for name, count in counts.items() if count]
    tone: Tone = "bad" if best is None else "good" if asked else "plain"
    what = ("cheapest" if priced else "fastest") + (" that meets its SLO" if asked else "")
    return Screen(
        tone=tone,
        question=f"Which setting is the {what}?",
        headline="None: no point meets its SLO"
        if best is None and asked
        else "None: every point is overloaded"
        if best is None
        else point_words(found, best) or "as it is",
        points=[*points, *_failures(found)],
        tiles=_tiles(best, {}) if best else [],
        columns=(("How sure?", sure(files)), ("What is cheapest?", _cheapest_words(files, asked))),
    )


def _failures(found: dict[str, Any]) -> list[str]:
    failed = [row for row in found["points"] if row["error"] is not None]
    if not failed:
        return []
    reasons = list(dict.fromkeys(row["error"]["message"] for row in failed))
    return [f"{len(failed)} of {len(found['points'])} points failed: {listed(reasons[:3])}"]


def _cost(row: dict[str, Any] | None) -> float:
    return 0.0 if row is None else value_of(row, "cost_usd_per_hour") or 0.0


def _cheapest_words(files: SweepFiles, asked: bool) -> list[str]:
    """Return the least cost per token among the points that do what is asked."""
    found = files.found
    metric = "usd_per_million_output_tokens"
    known = [
        row
        for row in found["points"]
        if row["error"] is None
        and value_of(row, metric) is not None
        and (point_verdict(row, files.scenario) in GOOD or (not asked and not row["overloaded"]))
    ]
    if not known:
        priced = any(value_of(row, metric) is not None for row in found["points"])
        return ["No price is given." if not priced else "No point meets its SLO." if asked else "All are overloaded."]
    best = min(known, key=lambda row: value_of(row, metric) or 0.0)
    within = "within the SLO" if asked else "without overload"
    return [
        f"Least cost per token {within}: ${number(value_of(best, metric))} per million output tokens, at "
        f"{point_words(found, best) or 'the only point'}."
    ]


def _tiles(row: dict[str, Any], more: dict[str, str]) -> list[Tile]:
    tiles = [Tile(label, value, "of those tried") for label, value in more.items()]
    for label, metric, words in (
        ("p99 TTFT", "ttft_s.p99", seconds),
        ("p99 E2E", "e2e_s.p99", seconds),
        ("goodput", "goodput_rps", lambda value: f"{number(value)} requests/s"),
        ("SLO met by", "slo_attainment", percent),
    ):
        cell = row["metrics"].get(metric, {})
        if cell.get("value") is not None:
            note = f"{words(cell['low'])} to {words(cell['high'])}" if "low" in cell else "no interval"
            tiles.append(Tile(label, words(cell["value"]), note))
    cost, per_token = value_of(row, "cost_usd_per_hour"), value_of(row, "usd_per_million_output_tokens")
    if cost is not None:
        note = "" if per_token is None else f"${number(per_token)} per million output tokens"
        tiles.append(Tile("cost", f"${cost:,.2f} per hour", note))
    return tiles


def sure(files: SweepFiles) -> list[str]:
    """Return what the numbers rest on: chance, the calibration's own error, and what was never checked."""
    told = files.found["replications"]
    runs = told["number"] if isinstance(told, dict) else told
    each = "one run of each point" if runs == 1 else f"{runs} replications of each point"
    lines_ = [f"Chance: 95 % intervals of {each}, all under the same random numbers."]
    if files.first is not None:
        lines_.append(f"Model: {calibration_words(files.first['intervals'].get('calibration'))}.")
        lines_ += [f"{line}." for line in validation_lines(files.first)]
    return lines_
