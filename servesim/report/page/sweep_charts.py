"""Charts of a sweep: latencies and goodput against load with their intervals, and the frontier."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from servesim.experiment.sweep_table import value_of
from servesim.metrics.definitions import Floats
from servesim.report.numbers import number, seconds
from servesim.report.page.charts import Axis, Chart, Mark, Series, Shade, Unit
from servesim.report.page.timeline_charts import MOST_LINES
from servesim.report.sweep_series import LATENCIES, PERCENTILES, Line, axis_title, point_words, saturation

_OFFERED_COLOR = 6
_WIDE = 5.0
Groups = list[tuple[str, list[Chart]]]


def curve_groups(shown: list[Line], axis: str, scenario: dict[str, Any]) -> Groups:
    """Return charts of TTFT, TPOT, E2E and goodput along `axis` in groups of which one is looked at.

    One line has its percentiles in each chart, and there is one group; several have a group for each percentile.
    """
    x = np.array(sorted({at for line in shown for at in line.x}))
    if len(shown) == 1:
        return [
            ("", [*(_chart(shown, x, axis, kind, PERCENTILES, scenario) for kind in LATENCIES), _rates(shown, x, axis)])
        ]
    return [
        (
            percentile,
            [
                *(_chart(shown, x, axis, kind, (percentile,), scenario) for kind in LATENCIES),
                _rates(shown, x, axis, percentile),
            ],
        )
        for percentile in PERCENTILES
    ]


def most(every: list[Line]) -> list[Line]:
    """Return as many lines as can be told apart."""
    return every[:MOST_LINES]


def _chart(
    shown: list[Line], x: Floats, axis: str, kind: str, percentiles: tuple[str, ...], scenario: dict[str, Any]
) -> Chart:
    series = [
        _series(line, x, f"{kind}.{percentile}", percentile if len(shown) == 1 else line.label, place + nth)
        for place, line in enumerate(shown)
        for nth, percentile in enumerate(percentiles)
    ]
    which = f", {percentiles[0]}" if len(percentiles) == 1 else ""
    suffix = f"-{percentiles[0]}" if len(percentiles) == 1 else ""
    return _along(
        f"curve-{kind}{suffix}",
        f"{_capital(LATENCIES[kind])}{which}",
        x,
        axis,
        series,
        shown,
        "s",
        tuple(_objectives(scenario, kind)),
    )


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _rates(shown: list[Line], x: Floats, axis: str, percentile: str = "") -> Chart:
    """Return the chart of goodput, or of throughput where no class has objectives; with what was offered."""
    within = any(value_of(row, "goodput_rps") is not None for line in shown for row in line.rows)
    metric, title = ("goodput_rps", "Goodput") if within else ("request_throughput_rps", "Throughput")
    alone = "within the SLO" if within else "completed"
    series = [_series(line, x, metric, line.label or alone, place) for place, line in enumerate(shown)]
    if len(shown) == 1:
        series.append(Series("offered", _values(shown[0], x, "offered_rps"), _OFFERED_COLOR, dashed=True))
    key = f"curve-rate-{percentile}" if percentile else "curve-rate"
    return _along(key, title, x, axis, series, shown, "number", (), "requests/s")


def _along(
    key: str, title: str, x: Floats, axis: str, series: list[Series], shown: list[Line], unit: Unit,
    marks: tuple[Mark, ...], label: str = "",
) -> Chart:  # fmt: skip
    values = [value for one in series for value in one.values if np.isfinite(value) and value > 0]
    wide = unit == "s" and bool(values) and max(values) / min(values) > _WIDE
    return Chart(
        key=key,
        title=title,
        caption="",
        x=x,
        x_axis=Axis(axis_title(axis), log=False, either=bool(x[0] > 0 and len(x) > 2)),
        y_axis=Axis(label, unit, log=bool(wide), either=bool(values)),
        series=tuple(series),
        marks=marks,
        together="load",
        shade=_shade(shown, x),
    )


def _shade(shown: list[Line], x: Floats) -> Shade | None:
    """Return the loads at which the only line is overloaded."""
    start = saturation(shown[0]) if len(shown) == 1 else None
    return None if start is None else Shade("overloaded", start, float(x[-1]))


def _series(line: Line, x: Floats, metric: str, label: str, color: int) -> Series:
    over = dict(zip(line.x, (bool(row["overloaded"]) for row in line.rows), strict=True))
    low, high = (_values(line, x, metric, side) for side in ("low", "high"))
    banded = bool(np.isfinite(low).any())
    return Series(
        label,
        _values(line, x, metric),
        color,
        low=low if banded else None,
        high=high if banded else None,
        crossed=tuple(over.get(at, False) for at in x),
        look="both",
    )


def _values(line: Line, x: Floats, metric: str, side: str = "value") -> Floats:
    """Return a metric of a line's points, or an end of its interval, at each of `x`; NaN where there is none."""
    by_x = {at: row["metrics"].get(metric, {}).get(side) for at, row in zip(line.x, line.rows, strict=True)}
    found = (by_x.get(at) for at in x)
    return np.array([np.nan if value is None else value for value in found], dtype=np.float64)


def _objectives(scenario: dict[str, Any], kind: str) -> list[Mark]:
    """Return a mark for each different objective of a latency, with the classes that have it."""
    asked: dict[float, list[str]] = {}
    classes = scenario["workload"]["classes"]
    for name, spec in classes.items():
        limit = (spec.get("slo") or {}).get(kind)
        if limit is not None:
            asked.setdefault(float(limit), []).append(name)
    several = len(classes) > 1
    return [
        Mark(f"{'SLO' if not several else ', '.join(names) + ' SLO'} {seconds(limit)}", limit, -1, "y")
        for limit, names in asked.items()
    ]


def frontier_chart(found: dict[str, Any]) -> Chart | None:
    """Return output tokens/s per GPU against tokens/s per user, each point with its settings; None without points."""
    rows = [row for row in found["points"] if value_of(row, "tps_per_user") and value_of(row, "tps_per_gpu")]
    if not rows:
        return None
    rows.sort(key=lambda row: value_of(row, "tps_per_user") or 0.0)
    per_user, per_gpu = (np.array([value_of(row, name) for row in rows]) for name in ("tps_per_user", "tps_per_gpu"))
    best = np.array([row["index"] in found["frontier"] for row in rows])
    over = np.array([bool(row["overloaded"]) for row in rows])
    where: Callable[[Any], Floats] = lambda chosen: np.where(chosen, per_gpu, np.nan)  # noqa: E731
    series = [
        Series("on the frontier", where(best), 0, look="both"),
        Series("beaten in both", where(~best & ~over), _OFFERED_COLOR, look="points"),
        Series("overloaded", where(over), 3, look="points", crossed=tuple(map(bool, over))),
    ]
    return Chart(
        key="frontier",
        title="Output tokens/s per GPU against tokens/s per user",
        caption="Point at a point for its settings; per user is 1 / mean TPOT.",
        x=per_user,
        x_axis=Axis("output tokens/s per user"),
        y_axis=Axis("output tokens/s per GPU"),
        series=tuple(one for one in series if np.isfinite(one.values).any()),
        notes=tuple(_note(found, row) for row in rows),
    )


def _note(found: dict[str, Any], row: dict[str, Any]) -> str:
    words = point_words(found, row) or "the only point"
    rates = f"{number(value_of(row, 'tps_per_gpu'))} tokens/s per GPU, {number(value_of(row, 'tps_per_user'))} per user"
    return f"{words}: {rates}, p99 TTFT {seconds(value_of(row, 'ttft_s.p99'))}"
