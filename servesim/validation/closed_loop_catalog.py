"""Tuned deployments for the catalog: `python -m servesim.validation.closed_loop_catalog DATA --out FOLDER`.

Fits the visible closed-loop runs (closed_loop_study) and writes one file per engine, GPU and model, with its errors on
runs left out, and one per engine for all others. DATA is the folder with `validation/` in it. The same data give
the same files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import click
import numpy as np
import yaml

from servesim.catalog.deployments import Fitted, FittedDeployment
from servesim.validation.closed_loop import Loop, read_loops
from servesim.validation.closed_loop_study import LEAST_ALIKE, Group, Study, left_out, study, unseen
from servesim.validation.closed_loop_subject import NAMES, Floats, measured, usable

TABLE = Path("validation") / "closed_loop_gpu_runs.csv"
SOURCE = "closed-loop runs of aiconfigurator 0.12.0 (Apache-2.0)"


def run_errors(errors: Floats, by_run: bool = False) -> dict[str, Any]:
    """Return median and 90th percentile per metric over the runs that have errors, and with `by_run` each of them."""
    known = errors[~np.isnan(errors[:, 0])]
    q50, q90 = np.quantile(known, [0.5, 0.9], axis=0)
    named = {
        name: {"median": round(float(a), 4), "p90": round(float(b), 4)}
        for name, a, b in zip(("ttft", "tpot", "e2e"), q50, q90, strict=True)
    }
    each = [[round(float(value), 4) for value in row] for row in known] if by_run else []
    return {"runs": len(known), **named, "by_run": each}


def _spread(values: Floats) -> dict[str, float]:
    if not len(values):  # a single run: nothing is left to fit when it is left out
        return {}
    centre = np.median(values, axis=0)
    mad = 1.4826 * np.median(np.abs(values - centre), axis=0)
    return {name: _short(value) for name, value in zip(NAMES, mad, strict=True)}


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def entries(found: Study, digest: str, map_groups: Callable[..., Any] = map) -> list[FittedDeployment]:
    """Return the catalog's entries: one per group, and one per engine."""
    result = []
    groups = list(found.lines)
    count = len(groups)
    blind = dict(zip(groups, map_groups(unseen, [found] * count, groups), strict=True))
    new_model = dict(zip(groups, map_groups(unseen, [found] * count, groups, [False] * count), strict=True))
    for group in groups:
        line = found.lines[group]
        own = np.abs(np.exp(line.predicted(found.values[group]) - measured(line.loops)) - 1.0)
        out, values = left_out(found, group, lambda loop: loop.name)
        known = out if len(line.loops) > 2 else blind[group]
        result.append(_entry(group[0], group[1:], found.values[group], values, line.loops, digest, own, known))
    for backend in sorted({group[0] for group in groups}):
        members = [group for group in groups if group[0] == backend]
        result.append(_pooled_entry(found, members, None, new_model, digest))
        for name in sorted({group[2] for group in members}):
            alike = [group for group in members if group[2] == name]
            if len(alike) > LEAST_ALIKE:
                result.append(_pooled_entry(found, alike, name, blind, digest))
    return result


def _pooled_entry(
    found: Study, members: list[Group], name: str | None, blind: dict[Group, Floats], digest: str
) -> FittedDeployment:
    """Return what deployments of which no run was seen get, with the errors of predicting each member from others."""
    backend = members[0][0]
    scatter = np.array([found.values[group] for group in members])
    loops = [loop for group in members for loop in found.lines[group].loops]
    out = np.concatenate([blind[group] for group in members])
    return _entry(backend, (None, name), found.pooled(backend, name), scatter, loops, digest, out, out)


def _entry(
    backend: str,
    place: tuple[str | None, ...],
    values: Floats,
    scatter: Floats,
    loops: list[Loop],
    digest: str,
    own: Floats,
    held_out: Floats,
) -> FittedDeployment:
    return FittedDeployment.model_validate(
        {
            "schema_version": 1,
            "backend": backend,
            "gpu": place[0],
            "model": place[1],
            "fitted": {name: _short(value) for name, value in zip(NAMES, values, strict=True)},
            "spread": _spread(scatter),
            "source": SOURCE,
            "input_sha256": digest,
            "runs": sorted(loop.name for loop in loops),
            "error": run_errors(own),
            "error_held_out": run_errors(held_out, by_run=True),
        }
    )


def to_yaml(entry: FittedDeployment) -> str:
    """Return the file's text."""
    data = {name: value for name, value in entry.model_dump().items() if value is not None}
    data["error"].pop("by_run")
    unused = [name for name in Fitted.model_fields if name not in NAMES]
    for name in unused:
        data["fitted"].pop(name)
    return str(yaml.safe_dump(data, sort_keys=False, width=120, default_flow_style=None))


@click.command()
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="where to write <engine>-<GPU>-<model>.yaml")
@click.option("--workers", default=1, show_default=True, help="processes")
def main(data: Path, out: Path | None, workers: int) -> None:
    """Fit the deployments of DATA's closed-loop runs and print what is left of their errors."""
    path = data if data.is_file() else data / TABLE
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with ProcessPoolExecutor(workers) as pool:
        found = study(usable(read_loops(path)), pool.map)
        made = entries(found, digest, pool.map)
    for entry in made:
        errors = [(e.ttft, e.tpot, e.e2e) for e in (entry.error, entry.error_held_out)]
        cells = ["  ".join(f"{100 * one.median:.1f} ({100 * one.p90:.1f})" for one in part) for part in errors]
        click.echo(f"{entry.name}: {entry.fitted.model_dump()}; {cells[0]}; held out {cells[1]}")
    own = np.concatenate([np.abs(np.exp(line.here - measured(line.loops)) - 1.0) for line in found.lines.values()])
    click.echo(f"fitted: {run_errors(own)}")
    for title, key in (("run", lambda loop: loop.name), ("deployment", lambda loop: loop.deployment)):
        every = np.concatenate([left_out(found, group, key)[0] for group in found.lines])
        click.echo(f"one {title} left out: {run_errors(every)}")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for entry in made:
            (out / f"{entry.name}.yaml").write_text(to_yaml(entry), encoding="utf-8")


if __name__ == "__main__":
    main()
