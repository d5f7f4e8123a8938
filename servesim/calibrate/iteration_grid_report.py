"""What the fits of `iteration_grid` are worth: a table per deployment, and the report in the documentation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from servesim.calibrate.iteration_grid_text import TEMPLATE
from servesim.catalog import model
from servesim.catalog.calibrations import Calibration, Errors, ErrorSummary

DENSE_TARGET = (0.02, 0.06)  # held-back interior slices: median, 90th percentile
MOE_TARGET = (0.06, None)
_KINDS = ("decode", "prefill", "mixed")
_GROUPS: dict[str, Callable[[Errors], dict[str, ErrorSummary]]] = {
    "held back, interior": lambda e: e.interior,
    "held back, edge": lambda e: e.edge,
    "in sample": lambda e: e.in_sample,
}


def is_moe(entry: Calibration) -> bool:
    """Whether the calibrated model is a mixture of experts."""
    return model(entry.model).experts > 0


def meets_target(entry: Calibration) -> bool:
    """Whether the error on held-back interior slices, all kinds together, is inside the target."""
    error = entry.error.interior["all"]
    median, p90 = MOE_TARGET if is_moe(entry) else DENSE_TARGET
    return error.median <= median and (p90 is None or error.p90 <= p90)


def _percent(error: ErrorSummary | None) -> str:
    return "-" if error is None else f"{100 * error.median:.1f} / {100 * error.p90:.1f}"


def error_table(entries: list[Calibration]) -> Iterator[str]:
    """Yield a table with one line per deployment: held-back median and 90th percentile error in percent."""
    yield "| deployment | decode | prefill | mixed | all | max | edge | in sample | target |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for e in entries:
        inner = e.error.interior
        cells = [_percent(inner.get(kind)) for kind in (*_KINDS, "all")]
        cells += [f"{100 * inner['all'].max:.0f}", _percent(e.error.edge["all"]), _percent(e.error.in_sample["all"])]
        yield f"| {e.name} | {' | '.join(cells)} | {'met' if meets_target(e) else 'missed'} |"


def _spread(values: list[float]) -> str:
    """Return median, 90th percentile and maximum over deployments, in percent."""
    q50, q90 = np.quantile(values, [0.5, 0.9])
    return f"{100 * q50:.1f} | {100 * q90:.1f} | {100 * max(values):.1f}"


def summary_lines(entries: list[Calibration]) -> Iterator[str]:
    """Yield the summary over all deployments, dense models and mixtures of experts apart."""
    yield "| models | rows | median: typical | 9 in 10 below | worst | p90: typical | 9 in 10 below | worst |"
    yield "|---|---|---|---|---|---|---|---|"
    for title, chosen in (
        ("dense", [e for e in entries if not is_moe(e)]),
        ("mixture of experts", [e for e in entries if is_moe(e)]),
    ):
        for group, errors in _GROUPS.items():
            found = [errors(e.error)["all"] for e in chosen]
            if found:
                median, p90 = _spread([f.median for f in found]), _spread([f.p90 for f in found])
                yield f"| {title} ({len(chosen)} deployments) | {group} | {median} | {p90} |"


def pooled_lines(entries: list[Calibration]) -> Iterator[str]:
    """Yield, per model, how many deployments there are, how many meet the target, and their typical error."""
    yield "| model | deployments | inside the target | typical median | typical p90 |"
    yield "|---|---|---|---|---|"
    for name in sorted({e.model for e in entries}):
        chosen = [e for e in entries if e.model == name]
        errors = [e.error.interior["all"] for e in chosen]
        median, p90 = np.median([e.median for e in errors]), np.median([e.p90 for e in errors])
        met = sum(map(meets_target, chosen))
        yield f"| {name} | {len(chosen)} | {met} | {100 * median:.1f} % | {100 * p90:.1f} % |"


def write_report(path: Path, entries: list[Calibration], dropped: list[Calibration]) -> None:
    """Write the report: the explanation, the summaries and the whole table."""
    text = TEMPLATE
    parts = {
        "counts": f"{sum(map(meets_target, entries))} of {len(entries)} deployments are inside the target.",
        "summary": "\n".join(summary_lines(entries)),
        "models": "\n".join(pooled_lines(entries)),
        "sources": "\n".join(
            sorted({f"- {e.provenance.input_file}, sha256 `{e.provenance.input_sha256}`" for e in entries})
        ),
        "dropped": ", ".join(e.name for e in dropped) or "none",
        "table": "\n".join(error_table(entries)),
    }
    for name, value in parts.items():
        text = text.replace("{{" + name + "}}", value)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
