"""The book's section on closed-loop runs: errors per deployment, what was tuned, and what each ingredient is worth."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from servesim.catalog.deployments import FittedDeployment, RunErrors, fitted_deployments
from servesim.errors import InputError
from servesim.validation.closed_loop import Loop, Replayed, replay_loop

METRICS = ("ttft", "tpot", "e2e")
TARGETS = {
    "visible": {"ttft.median": 0.05, "ttft.p90": 0.20, "tpot.median": 0.04, "tpot.p90": 0.13, "e2e.median": 0.04},
    "saturated": {"ttft.median": 0.15, "tpot.median": 0.08},
    "unseen": {"ttft.median": 0.20, "tpot.median": 0.09},
    "run_left_out": {"ttft.median": 0.07, "tpot.median": 0.04},
    "layout_left_out": {"ttft.median": 0.08, "tpot.median": 0.06},
}
UNLIMITED = "KV blocks without limit"
# What the replays leave out one at a time: the settings that do it.
ABLATIONS: dict[str, dict[str, Any]] = {
    "all clients' first requests left out of the means": {"without_start": True},
    UNLIMITED: {"num_gpu_blocks": "unlimited"},
    "no scheduling one iteration ahead": {"async_scheduling": False},
    "no correction": {"corrections": "none"},
}
EVERY = 4  # of the runs, for what is left out one at a time

Floats = NDArray[np.float64]


def errors_of(replayed: Iterable[Replayed]) -> Floats:
    """Return |simulated / measured - 1| of TTFT, TPOT and E2E, shape (runs, 3)."""
    errors: Floats = np.abs(np.array([one.errors for one in replayed])).reshape(-1, 3)
    return errors


def figures_of(name: str, errors: Floats) -> dict[str, float]:
    """Return median and 90th percentile of every metric under `closed_loop.<name>`."""
    if not len(errors):
        return {}
    q50, q90 = np.quantile(errors, [0.5, 0.9], axis=0)
    figures = {f"closed_loop.{name}.{metric}.median": float(q50[i]) for i, metric in enumerate(METRICS)}
    return figures | {f"closed_loop.{name}.{metric}.p90": float(q90[i]) for i, metric in enumerate(METRICS)}


def targets_of(splits: Iterable[str]) -> dict[str, float]:
    """Return the targets of the figures of these splits."""
    return {f"closed_loop.{s}.{name}": value for s in splits for name, value in TARGETS.get(s, {}).items()}


def held_out_figures() -> dict[str, float]:
    """Return the errors found on what was left out of the fit: single runs, layouts, whole GPUs, and whole models.

    Quantiles over all runs of all deployments; of layouts, where an engine, GPU and model has two. `unseen` is of a GPU
    of which no run of that model was seen (of trtllm, with too few GPUs for that, of a model of which no run was seen);
    `new_model` of a model of which no run was seen.
    """
    kept = fitted_deployments()
    own = [entry for entry in kept if entry.gpu is not None]
    models = [entry for entry in kept if entry.gpu is None and entry.model is not None]
    engines = [entry for entry in kept if entry.gpu is None and entry.model is None and entry.kind is None]
    alone = [entry for entry in engines if entry.backend not in {one.backend for one in models}]
    chosen = {
        "run_left_out": [entry.error_held_out for entry in own],
        "layout_left_out": [entry.error_other_layouts for entry in own if entry.error_other_layouts is not None],
        "unseen": [entry.error_held_out for entry in (*models, *alone)],
        "new_model": [entry.error_held_out for entry in engines],
    }
    figures: dict[str, float] = {}
    for name, errors in chosen.items():
        figures |= figures_of(name, np.array([row for one in errors for row in one.by_run]).reshape(-1, len(METRICS)))
    return figures


def ablation(loops: Sequence[Loop]) -> list[tuple[str, Floats]]:
    """Return the errors of these runs, as replayed and with one thing left out at a time."""
    rows = [("as replayed", errors_of(map(replay_loop, loops)))]
    for name, settings in ABLATIONS.items():
        rows.append((name, errors_of(replay_loop(loop, **settings) for loop in loops)))
    return rows


def _cells(errors: Floats) -> str:
    if not len(errors):
        return "- | - | -"
    q50, q90 = np.quantile(errors, [0.5, 0.9], axis=0)
    return " | ".join(f"{100 * a:.1f} ({100 * b:.0f})" for a, b in zip(q50, q90, strict=True))


def summary_lines(parts: dict[str, Floats]) -> list[str]:
    """Return a table of the errors of groups of runs."""
    lines = ["| runs | | TTFT | TPOT | E2E |", "|---|---|---|---|---|"]
    return lines + [f"| {name} | {len(errors)} | {_cells(errors)} |" for name, errors in parts.items()]


def deployment_lines(replayed: Sequence[Replayed]) -> list[str]:
    """Return a table with one line per deployment."""
    names = sorted({one.loop.deployment for one in replayed})
    parts = {name: errors_of(one for one in replayed if one.loop.deployment == name) for name in names}
    return summary_lines(parts)


def fitted_lines(entries: Sequence[FittedDeployment]) -> list[str]:
    """Return a table of the fitted parameters."""
    lines = [
        "| engine, GPU, model | runs | per layer and further GPU | prefill factor | prefill floor per layer | "
        "left out: TTFT | TPOT | E2E | layout left out: TTFT | TPOT | E2E |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for entry in entries:
        f = entry.fitted
        cells = [
            f"{1e6 * f.communication_time_per_layer_s:.1f} µs",
            f"{f.prefill_factor:.2f}",
            f"{1e6 * f.prefill_floor_per_layer_s:.0f} µs",
            *_error_cells(entry.error_held_out),
            *_error_cells(entry.error_other_layouts),
        ]
        lines.append(f"| {entry.name} | {len(entry.runs)} | {' | '.join(cells)} |")
    return lines


def _error_cells(errors: RunErrors | None) -> list[str]:
    if errors is None:
        return ["-"] * len(METRICS)
    return [f"{100 * m.median:.1f} ({100 * m.p90:.0f})" for m in (errors.ttft, errors.tpot, errors.e2e)]


def run_lines(replayed: Sequence[Replayed]) -> list[str]:
    """Return a table with one line per run."""
    lines = [
        "| run | load | TTFT measured | error | TPOT measured | error | E2E error |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in sorted(
        replayed, key=lambda r: (r.loop.deployment, r.loop.prompt_tokens, r.loop.output_tokens, r.loop.clients)
    ):
        loop, (ttft, tpot, e2e) = one.loop, one.errors
        lines.append(
            f"| {loop.deployment} | {loop.load} | {1e3 * loop.ttft_s:.0f} ms | {100 * ttft:+.0f} % "
            f"| {1e3 * loop.tpot_s:.1f} ms | {100 * tpot:+.0f} % | {100 * e2e:+.0f} % |"
        )
    return lines


def replay_or_reason(loop: Loop) -> Replayed | str:
    """Return the replay, or why there is none."""
    try:
        return replay_loop(loop)
    except InputError as error:
        return str(error)
