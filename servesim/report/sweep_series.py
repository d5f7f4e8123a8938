"""The lines that a sweep's points make against its load: the same for pictures and for pages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from servesim.report.sweep_text import short_names
from servesim.scenario.load_sweep import words_of

LATENCIES = {
    "ttft_s": "time to first token (TTFT)",
    "tpot_s": "time per output token (TPOT)",
    "e2e_s": "end to end (E2E)",
}
PERCENTILES = ("p50", "p95", "p99")
_LOADS = {"request_rate_rps", "max_concurrency", "scale"}


@dataclass(slots=True)
class Line:
    """Points that differ only in their place on the load axis, in its order."""

    label: str
    x: list[float] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)


def load_axis(found: dict[str, Any]) -> str | None:
    """Return the setting to draw against: a load if one varies, else the first that is a number in every point."""
    numeric = [
        path
        for path in found["settings"]
        if all(type(row["settings"].get(path)) in (int, float) for row in found["points"])
        and len({row["settings"][path] for row in found["points"]}) > 1
    ]
    loads = [path for path in numeric if is_load(path)]
    return next(iter(loads or numeric), None)


def is_load(path: str) -> bool:
    """Say whether a setting is how much is asked of the system."""
    return path.rpartition(".")[2] in _LOADS


def axis_title(path: str) -> str:
    """Return what an axis along a setting is called."""
    name = path.rpartition(".")[2]
    return {"request_rate_rps": "offered load (requests/s)", "max_concurrency": "clients (max_concurrency)"}.get(
        name, name
    )


def lines(found: dict[str, Any], axis: str) -> list[Line]:
    """Return the lines along `axis` that have a point which did not fail, in the order of the points."""
    by_label: dict[str, Line] = {}
    for row in found["points"]:
        if row["error"] is None:
            label = point_words(found, row, without=axis)
            one = by_label.setdefault(label, Line(label))
            one.x.append(row["settings"][axis])
            one.rows.append(row)
    for one in by_label.values():
        order = sorted(range(len(one.x)), key=one.x.__getitem__)
        one.x, one.rows = [one.x[i] for i in order], [one.rows[i] for i in order]
    return list(by_label.values())


def point_words(found: dict[str, Any], row: dict[str, Any], *, without: str | None = None) -> str:
    """Return a point's variant and those of its settings that vary, as few words of each path as tell them apart."""
    return ", ".join(point_parts(found, row, without=without))


def point_parts(found: dict[str, Any], row: dict[str, Any], *, without: str | None = None) -> list[str]:
    """Return what `point_words` joins."""
    varying = [
        path
        for path in found["settings"]
        if path != without and len({str(one["settings"].get(path)) for one in found["points"]}) > 1
    ]
    names = short_names(found["settings"])
    parts = [f"{names[path]} {words_of(row['settings'][path])}" for path in varying if path in row["settings"]]
    return [*([row["variant"]] if row["variant"] else []), *parts]


def saturation(one: Line) -> float | None:
    """Return where overload begins: midway between the first overloaded point and the one before it."""
    for place, row in enumerate(one.rows):
        if row["overloaded"]:
            return one.x[0] if place == 0 else (one.x[place - 1] + one.x[place]) / 2
    return None
