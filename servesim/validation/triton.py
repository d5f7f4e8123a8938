"""Triton's dynamic batcher: every published row that a shipped batch calibration can express.

`python -m servesim.validation.triton DATA --out FILE` tunes the three numbers of each deployment on some of its rows;
the section replays the others with the committed numbers and judges those.
"""

from __future__ import annotations

from collections import defaultdict
from importlib.resources import files
from pathlib import Path

import click
import numpy as np
import yaml
from scipy.optimize import minimize  # type: ignore[import-untyped]

from servesim.catalog.batch_calibrations import batch_calibrations
from servesim.catalog.entries import parse_yaml
from servesim.catalog.model_errors import DeploymentError
from servesim.validation.book import Section, metric_error
from servesim.validation.runs import Floats
from servesim.validation.triton_replay import Tuned, latency_s
from servesim.validation.triton_rows import Deployment, deployments

TUNED_EVERY = 8
TARGET = 0.10
STARTS = ((0.001, 0.8, 1.2), (0.002, 2.5, 0.6), (0.002, 0.4, 0.4), (0.0007, 0.25, 2.2))
EVALUATIONS = 35


def tuning_rows(deployment: Deployment) -> tuple[int, ...]:
    """Return the numbers of clients whose rows the three numbers are tuned on: every eighth, at least three."""
    rows = deployment.rows
    step = min(TUNED_EVERY, max(1, (len(rows) - 1) // 2))
    return tuple(row.clients for row in rows[::step])


def tune(deployment: Deployment) -> tuple[Tuned, float]:
    """Return the numbers of least mean |log(simulated / measured)| on the tuning rows, and that error."""
    chosen = tuning_rows(deployment)
    rows = [row for row in deployment.rows if row.clients in chosen]

    def objective(logs: Floats) -> float:
        tuned = Tuned(*np.exp(logs).tolist())
        return float(np.mean([abs(np.log(latency_s(deployment, row, tuned) / row.latency_s)) for row in rows]))

    options = {"maxfev": EVALUATIONS, "xatol": 0.01, "fatol": 0.001}
    found = [minimize(objective, np.log(start), method="Nelder-Mead", options=options) for start in STARTS]
    best = min(found, key=lambda one: float(one.fun))
    return Tuned(*(float(f"{value:.4g}") for value in np.exp(best.x))), float(best.fun)


def committed() -> dict[str, Tuned]:
    """Return the numbers that ship with servesim, by batch calibration."""
    path = Path(str(files("servesim.catalog"))) / "validation" / "triton.yaml"
    table = parse_yaml(path.read_text(encoding="utf-8"))
    return {name: Tuned(entry["client_s"], entry["contention"], entry["per_item"]) for name, entry in table.items()}


def section(data: Path) -> Section:
    """Return the section of Triton's dynamic batcher."""
    numbers = committed()
    found, left_out = deployments(data, set(batch_calibrations()))
    held: dict[str, list[float]] = defaultdict(list)
    blind: dict[str, list[float]] = defaultdict(list)
    for deployment in found:
        chosen = tuning_rows(deployment)
        for row in deployment.rows:
            if row.clients not in chosen:
                found_s = latency_s(deployment, row, numbers[deployment.calibration])
                held[deployment.calibration].append(abs(found_s / row.latency_s - 1))
        for row in deployment.rows[::TUNED_EVERY]:
            untouched = latency_s(deployment, row, Tuned())
            blind[deployment.calibration].append(abs(untouched / row.latency_s - 1))
    every = np.concatenate([np.array(errors) for errors in held.values()])
    figures = {
        "triton.latency.median": float(np.median(every)),
        "triton.latency.p90": float(np.quantile(every, 0.9)),
        "triton.blind.latency.median": float(np.median(np.concatenate([np.array(e) for e in blind.values()]))),
    }
    figures |= {f"triton.{name.replace('/', '.')}.median": float(np.median(errors)) for name, errors in held.items()}
    expressed = sum(len(deployment.rows) for deployment in found)
    lines = [
        _TEXT,
        f"{expressed} rows are expressed, {len(every)} of them held back from tuning. Left out: "
        + "; ".join(f"{count} rows, {why}" for why, count in sorted(left_out.items()))
        + ".",
        "",
        "| Deployment | Rows held back | Median error | p90 | Untuned median | Client | Contention | Per item |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, errors in held.items():
        tuned = numbers[name]
        cells = [f"{100 * np.median(errors):.1f} %", f"{100 * np.quantile(errors, 0.9):.1f} %"]
        cells += [f"{100 * np.median(blind[name]):.0f} %", f"{1e3 * tuned.client_s:.2f} ms"]
        lines.append(
            f"| {name} | {len(errors)} | {' | '.join(cells)} | {tuned.contention:.2f} | {tuned.per_item:.2f} |"
        )
    title = "Triton's dynamic batcher"
    return Section(title, "\n".join(lines), figures, {"triton.latency.median": TARGET}, errors=_errors(blind))


def _errors(blind: dict[str, list[float]]) -> list[DeploymentError]:
    """Return the errors of the shipped batch times as they are: what a scenario gets that tunes nothing."""
    by_place: dict[tuple[str, str], list[float]] = defaultdict(list)
    for name, errors in blind.items():
        model, gpu, _ = name.split("/")
        by_place[model, gpu] += errors
    source = "closed loops of NVIDIA DeepLearningExamples; the shipped batch times untuned"
    return [
        DeploymentError(
            backend="triton", gpu=gpu, model=model, rows=len(errors), source=source, e2e_s=metric_error(errors)
        )
        for (model, gpu), errors in by_place.items()
    ]


_TEXT = """Closed loops of 1 to 256 clients before a dynamic batcher (NVIDIA DeepLearningExamples: vision, speech,
forecasting, recommendation, segmentation, on A100 and V100). The shipped batch times are latencies of one batch at a
time; under load a server overlaps sending with computing, instances share the GPU, and the client shares the host. So
three numbers per deployment are tuned on every eighth row (at least three rows): the client's own time,
`instance_contention`, and a factor on what each further item of a batch takes. They are in
`servesim/catalog/validation/triton.yaml`; the rows that they were tuned on are not in the figures. *Untuned* is the
shipped batch time as it is: without a measurement under load, latency under load is not known to better than a factor
of two.
"""


@click.command()
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="write the numbers here")
def main(data: Path, out: Path) -> None:
    """Tune the three numbers of every deployment under DATA on some of its rows."""
    table = {}
    for deployment in deployments(data, set(batch_calibrations()))[0]:
        tuned, error = tune(deployment)
        table[deployment.calibration] = {
            "client_s": tuned.client_s,
            "contention": tuned.contention,
            "per_item": tuned.per_item,
            "tuned_on_clients": list(tuning_rows(deployment)),
            "tuning_error": float(f"{error:.3g}"),
        }
        click.echo(f"{deployment.calibration}: {table[deployment.calibration]}")
    head = "# Written by `python -m servesim.validation.triton` from NVIDIA DeepLearningExamples (Apache-2.0, BSD)."
    out.write_text(
        head + "\n" + yaml.safe_dump(table, sort_keys=True, default_flow_style=None, width=120), encoding="utf-8"
    )


if __name__ == "__main__":
    main()
