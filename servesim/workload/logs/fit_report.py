"""A fit as YAML, its comparison with the log, and what it could not keep."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from servesim.workload.arrivals.piecewise_gamma import PiecewiseGammaArrivals
from servesim.workload.base import FloatArray
from servesim.workload.fitting import ks_distance
from servesim.workload.logs.describe import describe, ranks_correlate, rate_curve
from servesim.workload.logs.fit import CURVES, Fit, FittedClass, Requests, variance_curves
from servesim.workload.logs.read import Log
from servesim.workload.logs.stationarity import spread_over_ticks

MISFIT_LIMIT = 0.3
"""Above it the load's variance is off by more than a third at a typical scale, and tails of latency with it."""


def compare(log: Log, fit: Fit, seed: int = 0) -> dict[str, Any]:
    """Return the check of a fit as plain data: distances, rates and variances of a drawn workload against the log."""
    ours, theirs = fit.draw(seed), requests_of(log)
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
    }


def requests_of(log: Log) -> Requests:
    """Return the requests that a fit is made of: those with output."""
    served = log.served
    return served.time_s, served.prompt_tokens, served.output_tokens


def not_kept(log: Log, fit: Fit) -> list[str]:
    """Return, in sentences, the structure of the log that the fitted workload lacks."""
    described = describe(log)
    theirs, ours = requests_of(log), fit.draw()
    lost = []
    if described["sessions"] is not None and described["sessions"]["mean_turns"] > 1.01:
        lost.append(
            f"sessions: {described['sessions']['sessions']} conversations of {described['sessions']['mean_turns']:.1f} "
            "requests on average; here every request comes by itself"
        )
    if described["prefixes"] is not None and described["prefixes"]["reusable_share_of_prompt_tokens"] > 0.01:
        share = 100 * described["prefixes"]["reusable_share_of_prompt_tokens"]
        lost.append(f"shared prefixes: {share:.0f} % of the prompt tokens repeat an earlier prompt's beginning")
    neighbours = [ranks_correlate(lengths[:-1], lengths[1:]) or 0.0 for lengths in (theirs[1], ours[1])]
    if abs(neighbours[0] - neighbours[1]) > 0.1:
        lost.append(
            f"order of lengths: prompts of neighbours correlate by {neighbours[0]:+.2f}, here by {neighbours[1]:+.2f}"
        )
    clumps = [_gap_memory(requests[0], fit.tick_s) for requests in (theirs, ours)]
    if abs(clumps[0] - clumps[1]) > 0.1:
        lost.append(
            f"order of gaps: neighbouring gaps correlate by {clumps[0]:+.2f}, here by {clumps[1]:+.2f}: requests come "
            "in clumps that gamma gaps do not make"
        )
    swings = [
        f"{curve.replace('_', ' ')} {np.exp(misfit):.1f}"
        for curve, misfit in zip(CURVES, fit.misfits, strict=True)
        if misfit > MISFIT_LIMIT
    ]
    if swings:
        lost.append(
            f"swings of the load: variances per window are off by typical factors of {', '.join(swings)}; replay the "
            "log where tails of latency matter"
        )
    total = ks_distance(ours[1] + ours[2], theirs[1] + theirs[2])
    if total > 0.05:
        lost.append(f"how prompt and output go together: the sums of both are {total:.2f} apart (Kolmogorov-Smirnov)")
    if log.rows.output_tokens.min() == 0:
        lost.append("requests without output, which are left out")
    return lost


def _gap_memory(time_s: FloatArray, tick_s: float) -> float:
    gaps_us = np.round(np.diff(spread_over_ticks(time_s, tick_s)) * 1e6).astype(np.int64)
    return ranks_correlate(gaps_us[:-1], gaps_us[1:]) or 0.0


def part_yaml(fit: Fit, notes: list[str]) -> str:
    """Return the scenario part: a `workload` with its classes, preceded by notes as comments."""
    lines = [f"# {note}" for note in notes]
    lines += ["workload:", f"  duration_s: {fit.span_s:.6g}", "  classes:"]
    for entry in fit.classes:
        lines += ["    " + line for line in _class_yaml(entry)]
    return "\n".join(lines) + "\n"


def _class_yaml(entry: FittedClass) -> list[str]:
    arrivals, lengths = entry.arrivals, entry.lengths
    lines = [f"{entry.name}:", "  arrivals:", f"    kind: {arrivals.kind}"]
    if isinstance(arrivals, PiecewiseGammaArrivals):
        lines.append(f"    window_s: {arrivals.window_s!r}")
        lines.append(f"    rates_rps: {json.dumps(arrivals.rates_rps)}")
        if arrivals.tick_s:
            lines.append(f"    tick_s: {arrivals.tick_s!r}")
        if arrivals.rate_scale != 1:
            lines.append(f"    rate_scale: {arrivals.rate_scale!r}")
    else:
        lines.append(f"    request_rate_rps: {arrivals.request_rate_rps!r}")
    lines.append(f"    burstiness: {arrivals.burstiness!r}")
    lines += ["  lengths:", f"    kind: {lengths.kind}", f"    prompt_cdf: {json.dumps(lengths.prompt_cdf)}"]
    lines.append("    output:")
    for law in lengths.output:
        lines += [f"      - up_to_prompt_tokens: {law.up_to_prompt_tokens}", f"        cdf: {json.dumps(law.cdf)}"]
    return lines


def fit_notes(log: Log, fit: Fit, check: dict[str, Any]) -> list[str]:
    """Return what a reader of the part should know: where it comes from, how good it is, what it lacks."""
    ks, swing = check["ks"], fit.swing
    constant = "rejected" if swing.swings else "not rejected"
    notes = [
        f"Fitted by `servesim workload fit` to a log of format {log.format}: {check['requests']['log']} requests in "
        f"{fit.span_s:.6g} s.",
        f"A constant rate is {constant} (dispersion of the counts per {swing.window_s:.3g} s {swing.dispersion:.2f}, "
        f"expected {swing.expected:.2f}, p = {swing.p_value:.2g}).",
        f"{len(fit.classes)} class(es); Kolmogorov-Smirnov distance of prompt {ks['prompt_tokens']:.3f}, output "
        f"{ks['output_tokens']:.3f}, sum {ks['total_tokens']:.3f}, gaps {ks['gaps']:.3f} (by chance up to "
        f"{ks['by_chance_95']:.3f}); variances per window within a factor of {np.exp(fit.misfit):.2f}.",
    ]
    return [*notes, *(f"Not kept: {lost}." for lost in check["not_kept"])]
