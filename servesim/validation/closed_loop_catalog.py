"""Tuned deployments for the catalog: `python -m servesim.validation.closed_loop_catalog DATA --out FOLDER`.

Fits the visible closed-loop runs (closed_loop_study) and writes one file per engine, GPU and model, with its errors on
runs left out, and some per engine for all others. DATA is the folder with `validation/` in it. The same data give the
same files.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import click
import numpy as np
import yaml

from servesim.catalog.deployments import FittedDeployment
from servesim.validation.closed_loop import read_loops
from servesim.validation.closed_loop_entries import entries, everything_left_out, run_errors
from servesim.validation.closed_loop_study import study
from servesim.validation.closed_loop_subject import measured, usable

TABLE = Path("validation") / "closed_loop_gpu_runs.csv"


def to_yaml(entry: FittedDeployment) -> str:
    """Return the file's text, without what is neutral or empty."""
    return str(
        yaml.safe_dump(entry.model_dump(exclude_defaults=True), sort_keys=False, width=120, default_flow_style=None)
    )


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
        errors = everything_left_out(found, pool.map)
    made = entries(found, errors, digest)
    for entry in made:
        shown = [(e.ttft, e.tpot, e.e2e) for e in (entry.error, entry.error_held_out)]
        cells = ["  ".join(f"{100 * one.median:.1f} ({100 * one.p90:.1f})" for one in part) for part in shown]
        click.echo(f"{entry.name}: {entry.fitted.model_dump()}; {cells[0]}; held out {cells[1]}")
    own = np.concatenate([np.abs(np.exp(line.here - measured(line.loops)) - 1.0) for line in found.lines.values()])
    click.echo(f"fitted: {run_errors(own)}")
    for title, part in (("run", errors.run), ("layout", errors.layout), ("GPU", errors.group), ("model", errors.model)):
        click.echo(f"one {title} left out: {run_errors(np.concatenate(list(part.values())))}")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for entry in made:
            (out / f"{entry.name}.yaml").write_text(to_yaml(entry), encoding="utf-8")


if __name__ == "__main__":
    main()
