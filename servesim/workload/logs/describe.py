"""What a log holds, in figures."""

from __future__ import annotations

from typing import Any

import numpy as np

from servesim.workload.base import FloatArray, IntArray
from servesim.workload.fitting import rank_correlation
from servesim.workload.logs.documents import CHARACTERS_PER_TOKEN
from servesim.workload.logs.read import Log
from servesim.workload.logs.rows import LogRows
from servesim.workload.logs.stationarity import (
    clock_tick_s,
    local_burstiness,
    spread_over_ticks,
    swing_test,
    window_counts,
)
from servesim.workload.logs.structure import prefixes, sessions

QUANTILES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
_WINDOWS_S = (1.0, 10.0, 60.0, 600.0, 3600.0)
_MAX_CURVE = 200


def describe(log: Log) -> dict[str, Any]:
    """Return the description as plain data, ready for JSON; None for what the format does not tell."""
    rows, served = log.rows, log.served
    return {
        "path": log.file.path,
        "format": log.format,
        "requests": len(rows.line),
        "without_output": len(rows.line) - len(served.line),
        "faults": _faults(log),
        "arrivals": _arrivals(rows.time_s) if log.timed else None,
        "lengths": _lengths(served) if len(served.line) else None,
        "sessions": sessions(rows),
        "prefixes": prefixes(rows, log.layout.prefix_block_tokens) if log.layout is not None else None,
    }


def _faults(log: Log) -> dict[str, Any]:
    notes = list(log.notes)
    if log.layout is not None and not log.layout.lengths_exact:
        notes.append(f"token counts are estimates: characters / {CHARACTERS_PER_TOKEN}")
    return {
        "faulty_rows": log.faults.rows,
        "first": [str(problem) for problem in log.faults.problems],
        "out_of_order": log.disordered,
        "notes": notes,
    }


def _arrivals(time_s: FloatArray) -> dict[str, Any]:
    span_s = float(time_s[-1] - time_s[0])
    found: dict[str, Any] = {"span_s": span_s, "rate_rps": None, "windows": [], "rate_curve": None}
    if span_s <= 0 or len(time_s) < 3:
        return found
    gaps_s = np.diff(time_s)
    tick_s = clock_tick_s(time_s)
    fine_s = spread_over_ticks(time_s, tick_s)
    found["rate_rps"] = len(gaps_s) / span_s
    found["gap_scv"] = float(gaps_s.var() / gaps_s.mean() ** 2)
    found["burstiness"] = 1 / found["gap_scv"] if found["gap_scv"] > 0 else None
    found["tick_s"] = tick_s
    found["simultaneous"] = float(np.mean(gaps_s == 0))
    found["windows"] = [
        windowed(fine_s, window_s)
        for window_s in _WINDOWS_S
        if span_s >= 3 * window_s and len(time_s) > 30 and window_s >= 2 * tick_s
    ]
    found["rate_curve"] = rate_curve(time_s)
    return found


def windowed(time_s: FloatArray, window_s: float) -> dict[str, float]:
    """Return burstiness within windows and how the counts per window vary, with the test of a constant rate."""
    burstiness = local_burstiness(time_s, window_s)
    from_start_s = time_s - time_s[0]
    windows = int(from_start_s[-1] / window_s)
    counts = window_counts(from_start_s[from_start_s < windows * window_s], window_s, windows)
    test = swing_test(counts, window_s, burstiness)
    return {
        "window_s": window_s,
        "burstiness": burstiness,
        "count_dispersion": test.dispersion,
        "expected_dispersion": test.expected,
        "constant_rate_p": test.p_value,
        "peak_to_mean": float(counts.max() / counts.mean()),
    }


def rate_curve(time_s: FloatArray, weights: IntArray | None = None) -> dict[str, Any]:
    """Return requests/s (or the sum of weights/s) per hour, minute, or another round window, at most 200 whole ones."""
    from_start_s = time_s - time_s[0]
    span_s = float(from_start_s[-1])
    choices = (1.0, 10.0, 60.0, 600.0, 3600.0, 86400.0)
    window_s = next((choice for choice in choices if span_s / choice <= _MAX_CURVE), span_s / _MAX_CURVE)
    windows = max(1, int(span_s / window_s))
    window = (from_start_s // window_s).astype(np.int64)
    sums = np.bincount(window, weights, minlength=windows)[:windows]  # what is left is no whole window
    return {"window_s": window_s, "rates_rps": (sums / window_s).tolist()}


def _lengths(rows: LogRows) -> dict[str, Any]:
    prompt, output = rows.prompt_tokens, rows.output_tokens
    return {
        "prompt_tokens": _marginal(prompt),
        "output_tokens": _marginal(output),
        "pearson": _correlation(prompt, output),
        "spearman": ranks_correlate(prompt, output),
        "neighbours_spearman": ranks_correlate(prompt[:-1], prompt[1:]),
    }


def _marginal(tokens: IntArray) -> dict[str, float]:
    quantiles = {f"p{100 * q:g}": float(np.quantile(tokens, q)) for q in QUANTILES}
    return {"mean": float(tokens.mean()), "min": int(tokens.min()), **quantiles, "max": int(tokens.max())}


def _correlation(x: IntArray, y: IntArray) -> float | None:
    return float(np.corrcoef(x, y)[0, 1]) if len(x) > 2 and x.std() > 0 and y.std() > 0 else None


def ranks_correlate(x: IntArray, y: IntArray) -> float | None:
    """Return Spearman's correlation; None where there are fewer than three pairs or one side never varies."""
    return rank_correlation(x, y) if len(x) > 2 and x.std() > 0 and y.std() > 0 else None
