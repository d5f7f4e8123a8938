"""A fit as the YAML of a scenario part."""

from __future__ import annotations

import json

from servesim.workload.arrivals.piecewise_gamma import PiecewiseGammaArrivals
from servesim.workload.lengths.drifting_mix import DriftingMixLengths
from servesim.workload.lengths.joint_quantiles import JointTable
from servesim.workload.logs.fit import CLASS, Fit


def part_yaml(fit: Fit, notes: list[str]) -> str:
    """Return the scenario part: a `workload` with its class, preceded by notes as comments."""
    lines = [f"# {note}" for note in notes]
    lines += ["workload:", f"  duration_s: {fit.span_s:.6g}", "  classes:", f"    {CLASS}:"]
    lines += ["      " + line for line in (*_arrivals_yaml(fit), *_lengths_yaml(fit))]
    return "\n".join(lines) + "\n"


def _arrivals_yaml(fit: Fit) -> list[str]:
    arrivals = fit.arrivals
    lines = ["arrivals:", f"  kind: {arrivals.kind}"]
    if isinstance(arrivals, PiecewiseGammaArrivals):
        lines.append(f"  window_s: {arrivals.window_s!r}")
        lines.append(f"  rates_rps: {json.dumps(arrivals.rates_rps)}")
        if arrivals.tick_s:
            lines.append(f"  tick_s: {arrivals.tick_s!r}")
        if arrivals.rate_scale != 1:
            lines.append(f"  rate_scale: {arrivals.rate_scale!r}")
    else:
        lines.append(f"  request_rate_rps: {arrivals.request_rate_rps!r}")
    return [*lines, f"  burstiness: {arrivals.burstiness!r}"]


def _lengths_yaml(fit: Fit) -> list[str]:
    lengths = fit.lengths
    lines = ["lengths:", f"  kind: {lengths.kind}"]
    if not isinstance(lengths, DriftingMixLengths):
        return lines + ["  " + line for line in _table_yaml(lengths)]
    lines.append(f"  window_requests: {lengths.window_requests}")
    lines.append("  parts:")
    for table in lengths.parts:
        first, *rest = _table_yaml(table)
        lines += [f"    - {first}", *("      " + line for line in rest)]
    return [*lines, "  shares:", *(f"    - {json.dumps(row)}" for row in lengths.shares)]


def _table_yaml(table: JointTable) -> list[str]:
    lines = [f"prompt_cdf: {json.dumps(table.prompt_cdf)}", "output:"]
    for law in table.output:
        lines += [f"  - up_to_prompt_tokens: {law.up_to_prompt_tokens}", f"    cdf: {json.dumps(law.cdf)}"]
    return lines
