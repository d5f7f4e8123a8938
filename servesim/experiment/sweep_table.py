"""A finished sweep as plain data and as a table: one row per point, every number with its interval."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from servesim.experiment.seeds import replication_seeds
from servesim.experiment.sweep_point import Outcome, usd_per_million_output_tokens
from servesim.scenario.load_sweep import Point, words_of

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 1
LATENCIES = ("ttft_s", "tpot_s", "itl_s", "e2e_s", "queue_s")
_STATISTICS = ("mean", "p50", "p95", "p99")
_RATES = ("request_throughput_rps", "output_throughput_tps", "goodput_rps", "slo_attainment")
_COUNTS = ("offered", "completed", "rejected", "timed_out", "abandoned", "cancelled", "failed")
_DERIVED = ("gpus", "cost_usd_per_hour", "usd_per_million_output_tokens", "tps_per_gpu", "tps_per_user")


def document(name: str, replications: int, seed: int, points: Sequence[tuple[Point, str, Outcome]]) -> dict[str, Any]:
    """Return what sweep.json holds: settings, metrics and errors of every point, and the frontier's points."""
    rows = [_row(index, *one) for index, one in enumerate(points)]
    return {
        "schema_version": SCHEMA_VERSION,
        "scenario": name,
        "replications": {"number": replications, "seeds": replication_seeds(seed, replications)},
        "settings": list(dict.fromkeys(path for row in rows for path in row["settings"])),
        "points": rows,
        "frontier": frontier(rows),
    }


def _row(index: int, point: Point, key: str, outcome: Outcome) -> dict[str, Any]:
    row: dict[str, Any] = {"index": index, "variant": point.variant, "settings": point.settings, "key": key}
    if "error" in outcome:
        return {**row, "status": "failed", "error": outcome["error"], "overloaded": None, "metrics": {}}
    summary = outcome["summary"]
    metrics = dict(_metrics(summary))
    for name, value in _derived(summary).items():
        metrics[name] = {"value": value}
    metrics["offered_rps"] = {"value": outcome["offered_rps"]}
    return {
        **row,
        "status": "ok",
        "error": None,
        "overloaded": outcome["overloaded"],
        "metrics": metrics,
        "slo_met": summary["classes"]["all"]["slo_met"],
        "warnings": summary["warnings"],
    }


def _metrics(summary: dict[str, Any]) -> Iterable[tuple[str, dict[str, Any]]]:
    """Yield (name, value with its interval); of classes too where there are several, as `chat.ttft_s.p99`."""
    classes, intervals = summary["classes"], summary["intervals"]["classes"]
    for name, one in classes.items():
        if name != "all" and len(classes) == 2:
            continue
        begin = "" if name == "all" else f"{name}."
        sure = intervals.get(name, {})
        for latency in LATENCIES:
            for kind in _STATISTICS:
                value = {"value": one[latency][kind], **sure.get(latency, {}).get(kind, {})}
                yield f"{begin}{latency}.{kind}", value
        for rate in _RATES:
            yield begin + rate, {"value": one[rate], **sure.get(rate, {})}
        for count in _COUNTS:
            yield begin + count, {"value": one[count]}


def _derived(summary: dict[str, Any]) -> dict[str, float | None]:
    """Return what a point costs and how it divides: output tokens/s per GPU, and per user (1 / mean TPOT)."""
    pools, every = summary["pools"].values(), summary["classes"]["all"]
    gpus, costs = sum(pool["gpus"] for pool in pools), [pool["cost_usd_per_hour"] for pool in pools]
    rate_tps, pace_s = every["output_throughput_tps"], every["tpot_s"]["mean"]
    values = (
        gpus,
        None if None in costs else sum(costs),
        usd_per_million_output_tokens(summary),
        rate_tps / gpus if gpus and rate_tps is not None else None,
        1 / pace_s if pace_s else None,
    )
    return dict(zip(_DERIVED, values, strict=True))


def value_of(row: dict[str, Any], metric: str) -> float | None:
    """Return a point's metric; None where it is not defined, or the point failed."""
    found: float | None = row["metrics"].get(metric, {}).get("value")
    return found


def frontier(rows: Sequence[dict[str, Any]]) -> list[int]:
    """Return the points, by falling tokens/s per GPU, that no other exceeds in tokens/s per GPU and per user.

    Overloaded points are left out: their throughput is not that of a system that could go on.
    """
    known = [
        (per_gpu, per_user, row["index"])
        for row in rows
        if not row["overloaded"]
        and (per_gpu := value_of(row, "tps_per_gpu")) is not None
        and (per_user := value_of(row, "tps_per_user")) is not None
    ]
    best, found = 0.0, []
    for _, per_user, index in sorted(known, key=lambda one: (-one[0], -one[1], one[2])):
        if per_user > best:
            best = per_user
            found.append(index)
    return found


def frame(found: dict[str, Any]) -> pd.DataFrame:
    """Return the points of a sweep document, one row each.

    Columns: `point`, `variant`, `status`, `error`, `overloaded`, `frontier`, the settings by path, and every metric
    with `.low` and `.high` of its 95 % interval where some point has one. A setting that is not always a number is
    text.
    """
    import pandas as pd

    rows = found["points"]
    columns: dict[str, Any] = {
        "point": [row["index"] for row in rows],
        "variant": [row["variant"] for row in rows],
        "status": [row["status"] for row in rows],
        "error": ["" if row["error"] is None else row["error"]["message"] for row in rows],
        "overloaded": pd.array([row["overloaded"] for row in rows], dtype="boolean"),
        "frontier": [row["index"] in found["frontier"] for row in rows],
    }
    for path in found["settings"]:
        columns[path] = _setting([row["settings"].get(path) for row in rows])
    for name in dict.fromkeys(name for row in rows for name in row["metrics"]):
        cells = [row["metrics"].get(name, {}) for row in rows]
        columns[name] = _floats(cell.get("value") for cell in cells)
        if any("low" in cell for cell in cells):
            columns[f"{name}.low"] = _floats(cell.get("low") for cell in cells)
            columns[f"{name}.high"] = _floats(cell.get("high") for cell in cells)
    return pd.DataFrame(columns)


def _floats(values: Iterable[float | None]) -> list[float]:
    return [float("nan") if value is None else float(value) for value in values]


def _setting(values: list[Any]) -> list[Any]:
    if all(type(value) in (int, float) for value in values):
        return values
    return ["" if value is None else words_of(value) for value in values]
