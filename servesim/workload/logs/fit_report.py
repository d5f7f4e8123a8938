"""A fit as YAML, its comparison with the log, and what it could not keep."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from servesim.workload.fitting import ks_distance
from servesim.workload.logs.describe import rate_curve
from servesim.workload.logs.fit import CURVES, Fit, variance_curves
from servesim.workload.logs.not_kept import not_kept
from servesim.workload.logs.read import Log, faulty_rows


def compare(log: Log, fit: Fit, seed: int = 0) -> dict[str, Any]:
    """Return the check of a fit as plain data: distances, rates and variances of a drawn workload against the log."""
    ours, theirs = fit.draw(seed), log.requests
    scales_s = np.geomspace(max(1.0, fit.tick_s, 2 * fit.span_s / len(theirs[0])), fit.span_s / 20, 5)
    ratio = variance_curves(ours, scales_s, fit.span_s) / variance_curves(theirs, scales_s, fit.span_s)
    return {
        "requests": {"log": len(theirs[0]), "fit": len(ours[0])},
        "ks": {
            "prompt_tokens": ks_distance(ours[1], theirs[1]),
            "output_tokens": ks_distance(ours[2], theirs[2]),
            "total_tokens": ks_distance(ours[1] + ours[2], theirs[1] + theirs[2]),
            "gaps": ks_distance(np.diff(ours[0]), np.diff(theirs[0])),
            "by_chance_95": 1.358 * float(np.sqrt(1 / len(ours[0]) + 1 / len(theirs[0]))),
        },
        "mean_tokens": {
            "log": [float(theirs[1].mean()), float(theirs[2].mean())],
            "fit": [float(ours[1].mean()), float(ours[2].mean())],
        },
        "variance_ratio": {
            "scales_s": scales_s.tolist(),
            **{name: row.tolist() for name, row in zip(CURVES, ratio, strict=True)},
        },
        "misfit": fit.misfit,
        "rate_curve": {"log": rate_curve(theirs[0]), "fit": rate_curve(ours[0])},
        "not_kept": not_kept(log, fit),
        "left_out": {"faulty_rows": log.faults.rows, "by_fault": dict(log.faults.kinds)},
        "sorted_rows": log.disordered,
    }


def fit_notes(log: Log, fit: Fit, check: dict[str, Any]) -> list[str]:
    """Return what a reader of the part should know: where it comes from, how good it is, what it lacks."""
    ks, swing = check["ks"], fit.swing
    constant = "rejected" if swing.swings else "not rejected"
    notes = [
        f"Fitted by `servesim workload fit` to a log of format {log.format}: {check['requests']['log']} requests in "
        f"{fit.span_s:.6g} s.",
        f"A constant rate is {constant} (dispersion of the counts per {swing.window_s:.3g} s {swing.dispersion:.2f}, "
        f"expected {swing.expected:.2f}, p = {swing.p_value:.2g}).",
        f"Kolmogorov-Smirnov distance of prompt {ks['prompt_tokens']:.3f}, output "
        f"{ks['output_tokens']:.3f}, sum {ks['total_tokens']:.3f}, gaps {ks['gaps']:.3f} (by chance up to "
        f"{ks['by_chance_95']:.3f}); variances per window are typically off by a factor of {np.exp(fit.misfit):.2f} "
        "(root mean square over ten scales, six draws).",
        *_handled(log),
    ]
    return [*notes, *(f"Not kept: {lost}." for lost in check["not_kept"])]


def _handled(log: Log) -> Iterator[str]:
    """Say what was done to the log before the fit."""
    if log.faults.rows:
        yield f"Left out (--skip-faulty): {faulty_rows(log.faults)}."
    if log.disordered:
        yield f"Sorted by time: {log.disordered} rows were before the row above."
