"""How sure the numbers are: 95 % intervals as a table, why some are missing, and the calibration's own error beside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from servesim.report.grids import Grid
from servesim.report.numbers import listed, number, percent, seconds

_LATENCIES = {"TTFT": "ttft_s", "TPOT": "tpot_s", "ITL": "itl_s", "E2E": "e2e_s"}
_RATES: dict[str, tuple[str, Callable[[float | None], str]]] = {
    "requests/s": ("request_throughput_rps", number),
    "tokens/s": ("output_throughput_tps", number),
    "goodput/s": ("goodput_rps", number),
    "SLO met by": ("slo_attainment", percent),
}


def runs_words(summary: dict[str, Any]) -> str:
    """Return which random numbers a summary rests on, for its title."""
    found = summary.get("replications")
    return f"seed {summary['seed']}" if found is None else f"{found['number']} replications of seed {summary['seed']}"


def interval_grid(summary: dict[str, Any]) -> Grid:
    """Return the intervals of all classes together; a table without rows where there is none."""
    every = summary.get("intervals", {}).get("classes", {}).get("all", {})
    model = _model_errors(summary)
    grid = Grid(("95 % interval", "mean", "p99", *(("model error",) if model else ())))
    for title, key in _LATENCIES.items():
        cells = tuple(_range(every.get(key, {}).get(kind), seconds) for kind in ("mean", "p99"))
        if any(cell not in ("", "none") for cell in cells) or key in model:
            grid.rows.append((title, *cells, *((model.get(key, ""),) if model else ())))
    for title, (key, words) in _RATES.items():
        if (cell := _range(every.get(key), words)) not in ("", "none"):
            grid.rows.append((title, cell, "", *(("",) if model else ())))
    return grid


def _model_errors(summary: dict[str, Any]) -> dict[str, str]:
    """Return the model's own median error of each latency, as text; empty where none is known."""
    error = (summary.get("intervals", {}).get("calibration") or {}).get("nearest") or {}
    return {key: f"± {percent(error[key]['median'])}" for key in _LATENCIES.values() if key in error}


def _range(interval: dict[str, Any] | None, words: Callable[[float | None], str]) -> str:
    if interval is None:
        return ""
    return "none" if "reason" in interval else f"{words(interval['low'])} to {words(interval['high'])}"


def interval_lines(summary: dict[str, Any]) -> list[str]:
    """Return sentences: what was measured, the headline with both errors, and what has no interval."""
    lines = _window(summary)
    found = summary.get("intervals")
    if found is None:
        return lines
    every, classes = found["classes"]["all"], summary["classes"]["all"]
    headline = [
        f"{title} {words(_value(classes, path))} ({text})"
        for title, path, words in (
            ("E2E p99", ("e2e_s", "p99"), seconds),
            ("goodput", ("goodput_rps",), lambda value: f"{number(value)}/s"),
        )
        if (text := _half_width(_value(every, path), words))
    ]
    runs = "one run" if found["replications"] == 1 else f"{found['replications']} replications"
    if headline:
        lines.append(f"{', '.join(headline)}: 95 %, {runs}; {calibration_words(found.get('calibration'))}")
    else:
        lines.append(f"not in any interval: {calibration_words(found.get('calibration'))}")
    return lines + _refusals(every)


def _window(summary: dict[str, Any]) -> list[str]:
    window = summary.get("measurement")
    if not window or not window["left_out"]:
        return []
    of = "" if "replications" not in summary else ", over all replications"
    return [
        f"warm-up: the first {window['left_out']:,} requests, until {window['start_s']:,.4g} s, are left out "
        f"({window['warmup']}{of})"
    ]


def _value(tree: dict[str, Any], path: tuple[str, ...]) -> Any:
    for step in path:
        tree = tree.get(step, {}) or {}
    return tree


def _half_width(interval: dict[str, Any], words: Callable[[float | None], str]) -> str:
    return f"± {words(interval['half_width'])}" if "half_width" in interval else ""


def _refusals(every: dict[str, Any]) -> list[str]:
    """Return one sentence for each reason why mean or p99 of something has no interval."""
    missing: dict[str, list[str]] = {}
    for title, key in _LATENCIES.items():
        for kind in ("mean", "p99"):
            if reason := every.get(key, {}).get(kind, {}).get("reason"):
                missing.setdefault(reason, []).append(f"{title} {kind}")
    for title, (key, _) in _RATES.items():
        if reason := every.get(key, {}).get("reason"):
            missing.setdefault(reason, []).append(title)
    return [f"no interval for {listed(names)}: {reason}" for reason, names in missing.items()]


def calibration_words(error: dict[str, Any] | None) -> str:
    """Return the calibration's own error (servesim.provenance.calibration_error), which more runs do not mend."""
    if error is None:
        return "calibration error unknown"
    relative = error["relative"]
    if error["of"] == "runs":
        full = ", KV blocks full" if "e2e_s" in error["nearest"].get("kv_saturated", ()) else ""
        return f"model error ± {percent(relative)} of E2E, on {error['nearest']['nearest']}{full}"
    if error["of"] == "iterations" and relative is not None:
        return f"calibration error ± {percent(relative)} of an iteration, of whole runs unknown"
    if error["of"] == "estimate":
        low, high = error["band"]
        return f"service times estimated: measured / estimated {low:g} to {high:g}"
    return "calibration error unknown"
