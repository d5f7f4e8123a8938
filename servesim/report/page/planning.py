"""The page about a plan: the cheapest configuration that meets the SLO, how sure, and how to deploy it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from servesim.errors import InputError, Problem
from servesim.report.grids import Grid
from servesim.report.numbers import number, percent
from servesim.report.page.answers import inventory_page, load_page, over_time_page
from servesim.report.page.forest import Entry, Forest, forest
from servesim.report.page.read import read_json
from servesim.report.page.render import render
from servesim.report.page.screen import Screen, Tile
from servesim.report.plan import attained_words, factor_words, settings_words, size_words, words

PLAN_FILE = "plan.json"
_VERSION = 1
_NEEDED = ("plan", "scenario", "seed", "confidence", "targets", "simulations", "ranked", "doubt", "naive", "pruned")


def read_plan(directory: Path) -> dict[str, Any]:
    """Return what `plan -o` wrote; InputError says what is broken."""
    path = directory / PLAN_FILE
    found = read_json(path, _VERSION, ())
    kind = _kind(found)
    if kind is None:
        raise InputError(Problem("is not the answer of a plan", file=str(path)))
    return read_json(path, _VERSION, _NEEDED) if kind is cheapest_page else found


def plan_page(found: dict[str, Any]) -> str:
    """Return the page about any answer of `servesim plan`."""
    made = _kind(found)
    assert made is not None
    return made(found)


def _kind(found: dict[str, Any]) -> Callable[[dict[str, Any]], str] | None:
    """Return what makes the page, told by what only one kind of answer has."""
    pages = {"ranked": cheapest_page, "inventory": inventory_page, "windows": over_time_page, "load": load_page}
    return next((made for key, made in pages.items() if key in found), None)


def cheapest_page(found: dict[str, Any]) -> str:
    """Return the page about the cheapest configuration."""
    ranked = found["ranked"]
    runs = found["simulations"]
    return render(
        "plan.html",
        [],
        title=str(found["plan"]),
        description=f"Scenario {found['scenario']}",
        runs=f"plan, {len(ranked) + len(found['pruned'])} configurations, {runs['all']} simulations",
        screen=_screen(found),
        warnings=[],
        ranked=_ranked(ranked),
        attained=_attained(ranked),
        pruned=_pruned(found["pruned"]),
        sentences=words(found),
        deployments=[(settings_words(row["settings"]), row["deployment"]) for row in ranked if row.get("deployment")],
        seeds=[found["seed"]],
    )


def _screen(found: dict[str, Any]) -> Screen:
    question = "What is the cheapest configuration that meets the SLO?"
    lines = words(found)
    if not found["ranked"]:
        return Screen("bad", question, "None in this space surely meets it", lines, [], ())
    best = found["ranked"][0]
    tied = [line for line in lines if line.startswith("TIE")]
    unsure = best.get("short") or (found["doubt"] is not None and found["doubt"]["hangs_on_it"])
    return Screen(
        "open" if unsure else "good",
        question,
        f"{settings_words(best['settings'])}: {_size(best)}",
        [line for line in lines if line not in tied],
        list(_tiles(best)),
        (("What limits it?", [f"The slowest requests: {best['bottleneck']}."]), ("Ties", tied)),
    )


def _size(row: dict[str, Any]) -> str:
    """Return how many replicas, or servers of a station."""
    what = "replica" if "replicas" in row else "server"
    count = row[f"{what}s"]
    return f"{count} {what}{'s' if count > 1 else ''}"


def _tiles(best: dict[str, Any]) -> list[Tile]:
    tiles = []
    if best["usd_per_hour"] is not None:
        per = number(best["usd_per_million_output_tokens"])
        tiles.append(Tile("cost", f"${best['usd_per_hour']:,.2f} per hour", f"${per} per million output tokens"))
    tiles.append(Tile("GPUs", f"{best['gpus']}", _size(best)))
    tiles.append(Tile("SLO met by", attained_words(best), "of the tightest class, with its interval"))
    tiles.append(Tile("goodput", f"{number(best['goodput_rps'])} requests/s", ""))
    tiles.append(Tile("users inside", number(best["concurrent_requests"]), "requests at a time"))
    tiles.append(Tile("breaks at", factor_words(best["headroom"]), "of the load"))
    return tiles


def _ranked(rows: list[dict[str, Any]]) -> Grid:
    heads = ("configuration", "size", "GPUs", "$/h", "$/M tokens", "goodput/s", "SLO met by", "inside", "breaks at")
    grid = Grid((*heads, "bottleneck", "iteration times"))
    for row in rows:
        cost = "-" if row["usd_per_hour"] is None else f"{row['usd_per_hour']:,.2f}"
        grid.rows.append(
            (
                settings_words(row["settings"]), size_words(row), str(row["gpus"]), cost,
                number(row["usd_per_million_output_tokens"]), number(row["goodput_rps"]), attained_words(row),
                number(row["concurrent_requests"]), factor_words(row["headroom"]), str(row["bottleneck"] or "-"),
                "estimated" if row["estimated"] else "-",
            )
        )  # fmt: skip
    return grid


def _attained(rows: list[dict[str, Any]]) -> Forest | None:
    """Return by how much each configuration's attainment is above what is asked, class by class."""
    entries = [
        Entry(
            settings_words(row["settings"]),
            one["value"] - one["attainment"],
            None if one["low"] is None else one["low"] - one["attainment"],
            None if one["high"] is None else one["high"] - one["attainment"],
            percent(one["value"]),
            f"{settings_words(row['settings'])}, {one['class']}: {percent(one['value'])} "
            f"({percent(one['low'])} to {percent(one['high'])}), {percent(one['attainment'])} asked for",
            one["class"],
            "good" if one["low"] is not None and one["low"] >= one["attainment"] else "open",
        )
        for row in rows
        for one in row["estimates"]
        if "attainment" in one and one["value"] is not None
    ]
    if not entries:
        return None
    caption = "Share of requests within the SLO, less the share asked for, with its interval."
    return forest("How far above what is asked", caption, entries, lambda at: f"{100 * at:+.3g} %" if at else "asked")


def _pruned(rows: list[dict[str, Any]]) -> Grid:
    grid = Grid(("configuration", "rule", "why it fell out"))
    grid.rows.extend([(settings_words(one["settings"]), one["rule"], one["reason"]) for one in rows])
    return grid
