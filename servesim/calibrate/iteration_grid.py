"""Calibration files from grids of iteration times: `python -m servesim.calibrate.iteration_grid DATA_DIR`.

DATA_DIR holds `gpu-iterations/aic_iteration_grid.csv` (or the file itself) and, if present, its neighbour
`deployment_iteration_grid.csv`. The same input gives the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import yaml

from servesim.calibrate.iteration_grid_fit import Rows, coefficients_of, fit, held_back, summary
from servesim.calibrate.iteration_grid_level import levelled
from servesim.calibrate.iteration_grid_report import error_table, write_report
from servesim.calibrate.iteration_grid_table import held_back_table, table_of
from servesim.catalog import gpus, model
from servesim.catalog.calibrations import Calibration, Key
from servesim.catalog.entries import parse_yaml
from servesim.errors import InputError

GRID = "aic_iteration_grid.csv"
DEPLOYMENTS = "deployment_iteration_grid.csv"
METHOD = (
    "Device time per iteration composed from NVIDIA's measured operator database (aiconfigurator); "
    "non-negative robust least squares of relative error; no host time between iterations"
)
TABLE_METHOD = (
    "Device time per iteration composed from NVIDIA's measured operator database (aiconfigurator); "
    "levelled, as a table joined by straight lines; no host time between iterations"
)
LARGEST_IN_SAMPLE_P90 = 0.2  # a deployment the form cannot even reproduce is not worth shipping
SCATTER = "unknown: the operator database keeps one value per operator and shape"
HOST_NOTE = (
    "not in the data. The only public per-iteration host times found (vidur, 2023 engine on A100: scheduling, input "
    "preparation, sampling and output processing, together about 2.5 ms) predate today's engines and do not "
    "estimate them"
)


@dataclass(frozen=True, slots=True)
class Job:
    """One deployment to fit."""

    key: Key
    rows: Rows
    input_file: str
    input_sha256: str
    remark: str
    date: str | None
    tabulate: bool = False


def _rows(table: pd.DataFrame) -> Rows:
    """Return a deployment's measured rows; InputError if a time is not positive."""
    seconds = table["latency_ms"].to_numpy(np.float64) / 1e3
    if not (seconds > 0.0).all():
        raise InputError("latency_ms must be positive in every row")
    return Rows(
        kind=np.asarray(table["kind"], dtype=np.str_),
        prefill_tokens=table["prefill_tokens"].to_numpy(np.float64),
        prompt_tokens=table["prefill_isl"].to_numpy(np.float64),
        decode_seqs=table["decode_batch"].to_numpy(np.float64),
        decode_context=table["decode_ctx"].to_numpy(np.float64),
        seconds=seconds,
    )


def grid_jobs(path: Path, date: str | None = None) -> Iterator[Job]:
    """Yield the deployments of the wide grid. Its precision `default` is what the checkpoint is stored in.

    MiniMax-M2.5 is left to the deployment grid: here the precision of its KV cache is not stated.
    """
    table, digest = _read(path)
    for labels, part in table.groupby(["model", "system", "backend", "tp", "gemm_quant"]):
        name, gpu, backend, tp, precision = map(str, labels)
        entry = model(name)
        if entry.name.startswith("minimax"):
            continue
        stored = (entry.native_quantization or "bf16") if precision == "default" else precision
        yield Job(Key(entry.name, gpu, backend, int(tp), stored, "bf16"), _rows(part), path.name, digest, "", date)


def deployment_jobs(path: Path, date: str | None = None) -> Iterator[Job]:
    """Yield the exact deployments, attention-data and expert parallelism included; they become tables."""
    table, digest = _read(path)
    columns = ["model", "system", "backend", "tp", "precision", "kv_dtype", "attention_dp", "moe_ep", "operator_source"]
    for labels, part in table.groupby(columns):
        name, gpu, backend, tp, precision, kv, dp, ep, operators = map(str, labels)
        entry = model(name)
        four_bit = "mxfp4" if entry.native_quantization == "mxfp4" else "nvfp4"
        stored = four_bit if precision == "fp4" else precision
        key = Key(entry.name, gpu, backend, int(tp), stored, kv, int(dp), int(ep) > 1)
        remark = "" if operators == "own" else f"; operators: {operators}"
        yield Job(key, _rows(part), path.name, digest, remark, date, tabulate=True)


def _read(path: Path) -> tuple[pd.DataFrame, str]:
    try:
        return pd.read_csv(path), hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def calibrate(job: Job) -> Calibration:
    """Fit one deployment and measure its errors on held-back slices."""
    entry = model(job.key.model)
    if job.tabulate:
        rows = levelled(job.rows, dense=not entry.experts)
        form: dict[str, Any] = {"table": table_of(rows).model_dump()}
        errors = held_back_table(rows)
    else:
        parts, values = fit(job.rows, entry)
        form = {"coefficients": coefficients_of(parts, values, entry).model_dump()}
        errors = held_back(job.rows, entry)
    return Calibration.model_validate(
        {
            "schema_version": 1,
            **job.key._asdict(),
            "provenance": {
                "source": "aiconfigurator",
                "version": "0.12.0",
                "licence": "Apache-2.0",
                "date": job.date,
                "method": (TABLE_METHOD if job.tabulate else METHOD) + job.remark,
                "input_file": job.input_file,
                "input_sha256": job.input_sha256,
                "rows": len(job.rows.seconds),
            },
            "validity": {
                "max_decode_seqs": float(job.rows.decode_seqs.max()),
                "max_mean_context_tokens": float(job.rows.decode_context.max()),
                "max_prefill_tokens": float(job.rows.prefill_tokens.max()),
            },
            "error": {group: {kind: summary(e) for kind, e in by_kind.items()} for group, by_kind in errors.items()},
            "scatter": SCATTER,
            "host": {"iteration_s": None, "note": HOST_NOTE},
            **form,
        }
    )


def to_yaml(entry: Calibration) -> str:
    """Return the file's text; reading it back gives an equal calibration."""
    data: dict[str, Any] = {name: value for name, value in entry.model_dump().items() if value is not None}
    if entry.data_parallel_size == 1 and not entry.expert_parallel:  # the usual case needs no words
        del data["data_parallel_size"], data["expert_parallel"]
    text: str = yaml.safe_dump(data, sort_keys=False, width=120, default_flow_style=None)
    if Calibration.model_validate(parse_yaml(text)) != entry:
        raise AssertionError("a calibration does not survive its file")
    return text


def jobs(data: Path, date: str | None = None) -> list[Job]:
    """Return all deployments under `data` on catalogued GPUs, each once; the exact deployments win."""
    places = [data] if data.is_file() else [data / "gpu-iterations" / GRID, data / GRID]
    grid = next((place for place in places if place.exists()), None)
    if grid is None:
        raise InputError(f"no {GRID} under {data}")
    found = {job.key: job for job in grid_jobs(grid, date)}
    if (other := grid.with_name(DEPLOYMENTS)).exists():
        for job in deployment_jobs(other, date):
            found[job.key] = job
    return [found[key] for key in sorted(found) if key.gpu in gpus()]


@click.command()
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="where to write <model>/<gpu>/*.yaml")
@click.option("--report", type=click.Path(path_type=Path), help="write the summary of all errors to this file")
@click.option("--only", default="", help="only deployments whose name contains this text")
@click.option("--date", default=None, help="date to write into the provenance")
@click.option("--workers", default=1, show_default=True, help="processes")
def main(data: Path, out: Path | None, report: Path | None, only: str, date: str | None, workers: int) -> None:
    """Fit every deployment under DATA, print the held-back errors, and write calibration files and a report."""
    chosen = [job for job in jobs(data, date) if only in f"{job.key.model}/{job.key.gpu}/{job.key.stem}"]
    with ProcessPoolExecutor(workers) as pool:
        entries = list(pool.map(calibrate, chosen, chunksize=8))
    good = [e for e in entries if e.error.in_sample["all"].p90 <= LARGEST_IN_SAMPLE_P90]
    dropped = [e for e in entries if e not in good]
    for line in error_table(entries):
        click.echo(line)
    if out is not None:
        for entry in good:
            path = out / f"{entry.name}.yaml"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(to_yaml(entry), encoding="utf-8")
    if report is not None:
        write_report(report, good, dropped)


if __name__ == "__main__":
    main()
