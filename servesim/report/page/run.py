"""The page about one run or about replications."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from servesim.report.grids import Grid, changes_grid, grids
from servesim.report.intervals import interval_lines, runs_words
from servesim.report.numbers import number, percent, seconds
from servesim.report.page.answer import answer
from servesim.report.page.bars import Bar, queue_bars, split_bars, state_bars
from servesim.report.page.charts import Chart
from servesim.report.page.facts import flat
from servesim.report.page.latency_charts import distribution_charts, over_time_charts
from servesim.report.page.read import RunFiles
from servesim.report.page.render import render
from servesim.report.page.timeline_charts import timeline_charts
from servesim.report.why import change_sentences

_LATENCIES = {"TTFT": "ttft_s", "TPOT": "tpot_s", "ITL": "itl_s", "E2E": "e2e_s", "queue": "queue_s"}
_STATISTICS = ("mean", "p50", "p90", "p95", "p99")
_RATES: dict[str, tuple[str, Callable[[float | None], str]]] = {
    "requests/s": ("request_throughput_rps", number),
    "output tokens/s": ("output_throughput_tps", number),
    "goodput/s": ("goodput_rps", number),
    "SLO met by": ("slo_attainment", percent),
}


@dataclass(frozen=True, slots=True)
class ClassPart:
    """What the page has on each class: where its time went, and its figures with their intervals."""

    name: str
    bars: list[Bar]
    latencies: Grid
    rates: Grid


def run_page(files: RunFiles) -> str:
    """Return the page about one run, or about replications whose pictures are of replication 0."""
    summary, why = files.summary, files.summary["why"]
    distributions, over_time = list(distribution_charts(files)), list(over_time_charts(files))
    timeline = list(timeline_charts(files))
    changes = why.get("changes")
    return render(
        "run.html",
        _charts(distributions, over_time, timeline),
        title=str(summary["scenario"]),
        description=str(files.scenario.get("description") or ""),
        runs=runs_words(summary),
        screen=answer(summary, files.scenario).screen,
        warnings=summary["warnings"],
        grids=grids(summary)[:3],
        classes=list(_classes(summary)),
        sure_lines=interval_lines(summary),
        distributions=distributions,
        over_time=over_time,
        timeline=timeline,
        pictures_of="" if files.replications == 1 else f" of replication 0 of {files.replications}",
        queue_bars=queue_bars(why),
        state_bars=state_bars(why),
        changes=None if changes is None else changes_grid(changes),
        change_lines=[] if changes is None else change_sentences(changes),
        configuration=files.scenario_text,
        provenance=list(flat({"measurement": summary["measurement"], **summary["provenance"]})),
        seeds=(summary.get("replications") or {"seeds": [summary["seed"]]})["seeds"],
    )


def _charts(*groups: list[Chart]) -> list[Chart]:
    return [chart for group in groups for chart in group]


def _classes(summary: dict[str, Any]) -> Iterator[ClassPart]:
    """Yield all classes together, then each; a single class is the same as all of them."""
    names = list(summary["classes"])
    for name in names if len(names) > 2 else [one for one in names if one != "all"]:
        found, around = summary["classes"][name], summary["intervals"]["classes"].get(name, {})
        label = "all classes" if name == "all" else name
        yield ClassPart(label, split_bars(found["split"]), _latencies(found, around), _rates(found, around))


def _latencies(found: dict[str, Any], around: dict[str, Any]) -> Grid:
    grid = Grid(("latency", *_STATISTICS))
    for title, key in _LATENCIES.items():
        cells = (_cell(found[key][kind], around.get(key, {}).get(kind, {}), seconds) for kind in _STATISTICS)
        grid.rows.append((title, *cells))
    return grid


def _rates(found: dict[str, Any], around: dict[str, Any]) -> Grid:
    grid = Grid(("rate", "value"))
    for title, (key, words) in _RATES.items():
        grid.rows.append((title, _cell(found[key], around.get(key, {}), words)))
    return grid


def _cell(value: float | None, interval: dict[str, Any], words: Callable[[float | None], str]) -> str:
    """Return a figure and, on a line of its own, its interval."""
    if "low" not in interval:
        return words(value)
    return f"{words(value)}\n{words(interval['low'])} to {words(interval['high'])}"
