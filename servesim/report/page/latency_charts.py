"""Charts of latencies: how they are distributed, and how they changed during the run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from servesim.metrics.definitions import Floats
from servesim.report.numbers import seconds
from servesim.report.page.charts import Axis, Chart, Mark, Series
from servesim.report.page.read import RunFiles
from servesim.report.page.timeline_charts import MOST_LINES, time_axis

if TYPE_CHECKING:
    import pandas as pd

KINDS = {"ttft_s": "TTFT", "tpot_s": "TPOT", "e2e_s": "E2E"}
_FULL = {"ttft_s": "time to first token", "tpot_s": "time per output token", "e2e_s": "end-to-end latency"}
_POINTS = 300
_MOST_BINS, _LEAST_BINS, _WANTED_IN_BIN, _LEAST_IN_BIN = 60, 5, 50, 20
_OVER_TIME = {"p50": 0.5, "p95": 0.95}


def distribution_charts(files: RunFiles) -> Iterator[Chart]:
    """Yield for each latency that is defined the share of completed requests slower than x, a line for each class."""
    rows = files.measured
    names = _most(rows, list(files.scenario["workload"]["classes"]))
    for kind, title in KINDS.items():
        known = {name: np.sort(rows.loc[rows["class"] == name, kind].dropna().to_numpy(np.float64)) for name in names}
        known = {name: values for name, values in known.items() if len(values)}
        if not known:
            continue
        x = _grid(list(known.values()))
        series = tuple(
            Series(name, slower_share(known[name], x), place) for place, name in enumerate(names) if name in known
        )
        yield Chart(
            key=f"distribution-{kind}",
            title=f"{title}: {_FULL[kind]}",
            caption=_caption(files, kind, list(known)),
            x=x,
            x_axis=Axis(title, "s", log=bool(x[0] > 0), either=bool(x[0] > 0)),
            y_axis=Axis("slower than that", "share", log=True, either=True),
            series=series,
            marks=tuple(_marks(files.scenario, kind, names)),
        )


def slower_share(ordered: Floats, x: Floats) -> Floats:
    """Return the share of sorted values above each x, shape (len(x),); NaN where none is."""
    above = 1 - np.searchsorted(ordered, x, side="right") / len(ordered)
    return np.where(above > 0, above, np.nan)


def _most(rows: pd.DataFrame, names: list[str]) -> list[str]:
    """Return the names of the classes with most requests, as many as can be told apart, in the order given."""
    counts = rows["class"].astype(str).value_counts().to_dict()
    ranked = sorted(names, key=lambda name: -counts.get(name, 0))[:MOST_LINES]
    return [name for name in names if name in ranked]


def _grid(known: list[Floats]) -> Floats:
    """Return rising x for distribution functions: evenly spread over the logarithm where that exists."""
    low, high = min(float(values[0]) for values in known), max(float(values[-1]) for values in known)
    if low > 0:
        return np.geomspace(0.97 * low, 1.03 * high, _POINTS)
    return np.linspace(low, max(1.03 * high, low + 1e-9), _POINTS)


def _caption(files: RunFiles, kind: str, names: list[str]) -> str:
    classes = files.summary["classes"]
    told = [
        f"{name}: p50 {seconds(classes[name][kind]['p50'])}, p99 {seconds(classes[name][kind]['p99'])}"
        for name in names
        if name in classes
    ]
    of_all = "" if files.replications == 1 else " (means of all replications)"
    return "; ".join(told) + of_all


def _marks(scenario: dict[str, Any], kind: str, names: list[str]) -> Iterator[Mark]:
    """Yield a mark for each objective; classes with the same one share it."""
    asked: dict[float, list[int]] = {}
    for place, name in enumerate(names):
        limit = (scenario["workload"]["classes"].get(name, {}).get("slo") or {}).get(kind)
        if limit is not None:
            asked.setdefault(float(limit), []).append(place)
    for limit, places in asked.items():
        whose = f"{names[places[0]]} " if len(names) > 1 and len(places) == 1 else ""
        yield Mark(f"{whose}SLO {seconds(limit)}", limit, places[0] if len(places) == 1 else -1)


def over_time_charts(files: RunFiles) -> Iterator[Chart]:
    """Yield p50 and p95 of TTFT and E2E by time of arrival, warm-up included: whether the run was steady."""
    rows = files.requests[files.requests["outcome"] == "completed"]
    bins = min(_MOST_BINS, len(rows) // _WANTED_IN_BIN)
    if bins < _LEAST_BINS:
        return
    arrival = rows["arrival_s"].to_numpy(np.float64)
    end_s = float(arrival.max())
    if end_s <= 0:
        return
    edges = np.linspace(0, end_s, bins + 1)
    which = np.clip(np.searchsorted(edges, arrival, side="right") - 1, 0, bins - 1)
    middle, axis = time_axis((edges[:-1] + edges[1:]) / 2, end_s, "arrival")
    for kind in ("ttft_s", "e2e_s"):
        values = rows[kind].to_numpy(np.float64)
        groups = [values[which == place] for place in range(bins)]
        if all(len(group) < _LEAST_IN_BIN for group in groups):
            continue
        series = tuple(
            Series(label, _quantiles(groups, fraction), place, dashed=place > 0)
            for place, (label, fraction) in enumerate(_OVER_TIME.items())
        )
        yield Chart(
            key=f"over-time-{kind}",
            title=f"{KINDS[kind]} by time of arrival",
            caption=f"All classes, in {bins} equal parts of the arrivals; parts with fewer than {_LEAST_IN_BIN} "
            "completed requests are left out.",
            x=middle,
            x_axis=axis,
            y_axis=Axis(KINDS[kind], "s", either=bool(np.nanmin(series[0].values) > 0)),
            series=series,
            together="time",
        )


def _quantiles(groups: list[Floats], fraction: float) -> Floats:
    return np.array([np.quantile(g, fraction) if len(g) >= _LEAST_IN_BIN else np.nan for g in groups])
