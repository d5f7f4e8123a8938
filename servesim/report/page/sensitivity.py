"""The page about a sensitivity: which setting moves p99 and cost most around today's."""

from __future__ import annotations

from typing import Any

from servesim.report.grids import Grid
from servesim.report.numbers import change, listed, number, seconds
from servesim.report.page.facts import flat
from servesim.report.page.forest import Entry, Forest, forest
from servesim.report.page.read_sweep import SweepFiles
from servesim.report.page.render import render
from servesim.report.page.screen import Screen, Tile, Tone
from servesim.report.page.sweep_answer import sure
from servesim.report.sweep_text import short_names
from servesim.scenario.load_sweep import words_of

_RANKED = {
    "p99_e2e_s": "p99 E2E",
    "p99_ttft_s": "p99 TTFT",
    "usd_per_million_output_tokens": "cost per token",
}
_UNRANKED = {"p99_tpot_s": "p99 TPOT", "goodput_rps": "goodput", "output_throughput_tps": "tokens/s"}
_SHOWN = 14
_LIMIT = 3.0  # longer bars would leave nothing to see of the others


def sensitivity_page(files: SweepFiles) -> str:
    """Return the page about `servesim sweep --sensitivity`."""
    found = files.found
    names = short_names(list(dict.fromkeys(row["set"] for row in found["changes"])))
    still = [_setting(row, names) for row in found["changes"] if _still(row)]
    return render(
        "sensitivity.html",
        [],
        title=str(found["scenario"]),
        description=str(files.scenario.get("description") or ""),
        runs=f"{len(found['changes'])} settings changed one at a time, {found['replications']} replications each",
        screen=_screen(files, names),
        warnings=[] if files.first is None else files.first["warnings"],
        forests=[one for metric in _RANKED if (one := _forest(found, metric, names)) is not None],
        table=_table(found, names),
        still=still,
        skipped=[f"{row['set']} = {words_of(row['to'])}: {row['reason']}" for row in found["skipped"]],
        configuration=files.scenario_text,
        provenance=[] if files.first is None else list(flat(files.first["provenance"])),
        seeds=found["seeds"],
    )


def _setting(row: dict[str, Any], names: dict[str, str]) -> str:
    return f"{names[row['set']]} {words_of(row['from'])} -> {words_of(row['to'])}"


def _still(row: dict[str, Any]) -> bool:
    return row["error"] is None and all(one.get("value") in (0, None) for one in row["effects"].values())


def _ranked(found: dict[str, Any], metric: str) -> list[dict[str, Any]]:
    """Return the changes that move a metric, those that move it most first."""
    known = [row for row in found["changes"] if row["effects"].get(metric, {}).get("value")]
    return sorted(known, key=lambda row: int(row["effects"][metric]["rank"]))


def _sure(effect: dict[str, Any]) -> bool:
    return "low" in effect and bool(effect["low"] > 0 or effect["high"] < 0)


def _screen(files: SweepFiles, names: dict[str, str]) -> Screen:
    found = files.found
    moving = _ranked(found, "p99_e2e_s")
    headline = f"{names[moving[0]['set']]} moves p99 most" if moving else "Nothing that was tried moves p99 E2E"
    points = [text for metric in _RANKED if (text := _best_words(found, metric, names))]
    base = found["base"]
    tiles = [
        Tile("p99 TTFT today", seconds(base["p99_ttft_s"]), "mean over replications"),
        Tile("p99 E2E today", seconds(base["p99_e2e_s"]), "mean over replications"),
    ]
    if base["usd_per_million_output_tokens"] is not None:
        tiles.append(
            Tile("cost today", f"${number(base['usd_per_million_output_tokens'])}", "per million output tokens")
        )
    columns = (("How sure?", sure(files)), ("Where it hurts", _worst_words(found, names)))
    return Screen("plain", "Which setting moves p99 and cost most around today's?", headline, points, tiles, columns)


def _best_words(found: dict[str, Any], metric: str, names: dict[str, str]) -> str:
    """Return the change that surely lowers a metric most."""
    lowering = [row for row in _ranked(found, metric) if _sure(e := row["effects"][metric]) and e["value"] < 0]
    if not lowering:
        return f"Nothing that was tried surely lowers {_RANKED[metric]}"
    best = min(lowering, key=lambda row: row["effects"][metric]["value"])
    return f"Lowers {_RANKED[metric]} most: {_setting(best, names)}, {_effect_words(best['effects'][metric])}"


def _worst_words(found: dict[str, Any], names: dict[str, str]) -> list[str]:
    """Return the changes that overload it, or fail."""
    over = [_setting(row, names) for row in found["changes"] if row["overloaded"]]
    failed = [_setting(row, names) for row in found["changes"] if row["error"]]
    lines = [f"Overloaded with {listed(over)}."] if over else ["No change overloads it."]
    return lines + ([f"Failed: {listed(failed)}."] if failed else [])


def _effect_words(effect: dict[str, Any]) -> str:
    if effect.get("value") is None:
        return "-"
    sure_ = f" ({change(effect['low'])} to {change(effect['high'])})" if "low" in effect else ""
    return change(effect["value"]) + sure_


def _forest(found: dict[str, Any], metric: str, names: dict[str, str]) -> Forest | None:
    """Return the changes that move a metric most, with their intervals; None where nothing does."""
    rows = _ranked(found, metric)
    if not rows:
        return None
    entries = []
    for row in rows[:_SHOWN]:
        effect = row["effects"][metric]
        tone: Tone = "plain" if not _sure(effect) else "good" if effect["value"] < 0 else "bad"
        words = change(effect["value"]) + (" (overloaded)" if row["overloaded"] else "")
        tip = f"{_setting(row, names)}: {_RANKED[metric]} {_effect_words(effect)}"
        note = f"{words_of(row['from'])} \u2192 {words_of(row['to'])}"
        entries.append(
            Entry(names[row["set"]], effect["value"], effect.get("low"), effect.get("high"), words, tip, note, tone)
        )
    more = f" {len(rows) - _SHOWN} smaller ones are in the table." if len(rows) > _SHOWN else ""
    caption = f"Change relative to today's mean, with its 95 % interval; grey where the interval holds 0.{more}"
    return forest(
        f"What moves {_RANKED[metric]}", caption, entries, lambda at: f"{100 * at:+.3g} %" if at else "0", limit=_LIMIT
    )


def _table(found: dict[str, Any], names: dict[str, str]) -> Grid:
    metrics = {**_RANKED, **_UNRANKED}
    grid = Grid(("setting", "from", "to", *metrics.values(), ""))
    for row in found["changes"]:
        if _still(row):
            continue
        cells = [_cell(row["effects"].get(metric, {})) for metric in metrics]
        remark = f"failed: {row['error']}" if row["error"] else "overloaded" if row["overloaded"] else ""
        grid.rows.append((names[row["set"]], words_of(row["from"]), words_of(row["to"]), *cells, remark))
    return grid


def _cell(effect: dict[str, Any]) -> str:
    text = change(effect.get("value"))
    return f"{text}\n{change(effect['low'])} to {change(effect['high'])}" if "low" in effect else text
