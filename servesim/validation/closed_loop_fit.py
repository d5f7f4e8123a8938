"""Parameters of deployments from closed-loop runs: `python -m servesim.validation.closed_loop_fit DATA --out FOLDER`.

Three numbers per engine, GPU and model are tuned, on mean TTFT and TPOT of its visible runs, by Gauss-Newton on robust
residuals (soft L1: outliers are common) of replays. Values are drawn a little towards the median of the engine's other
GPUs and models, which is also what deployments get of which no run was seen. DATA is the folder with `validation/` in
it. The same data give the same files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import yaml
from numpy.typing import NDArray
from scipy.optimize import least_squares  # type: ignore[import-untyped]

from servesim.catalog import model
from servesim.catalog.deployments import Fitted, FittedDeployment
from servesim.engine.continuous_plan import ContinuousPlan
from servesim.scenario.resolve import resolve
from servesim.service_time.adjusted import AdjustedIterationTime, Adjustment
from servesim.validation.closed_loop import SHORTEST, Loop, read_loops, saturates, scenario_of
from servesim.validation.drive import drive
from servesim.validation.runs import Run

Floats = NDArray[np.float64]

TABLE = Path("validation") / "closed_loop_gpu_runs.csv"
SOURCE = "closed-loop runs of aiconfigurator 0.12.0 (Apache-2.0)"
NAMES = ("communication_time_per_layer_s", "prefill_factor", "prefill_floor_per_layer_s")
NEUTRAL = np.array([0.0, 1.0, 0.0])
SCALE = np.array([2e-6, 0.2, 2e-4])  # what counts as a step, and as a noticeable difference
LEAST = np.array([-6e-5, 0.4, 0.0])
START = np.array([0.0, 1.3, 7e-4])
WEIGHT_TTFT = 0.7  # repeats of one configuration scatter in TTFT by several times as much as in TPOT
OUTLIER = 0.03
SHRINKAGE = 0.02  # residual of a value one SCALE away from the engine's median
STEPS = 5
CLIENTS_IN_FULL = 32
OF_THE_MODEL = np.array([False, True, True])
LEAST_ALIKE = 2


@dataclass(frozen=True)
class Subject:
    """A run ready to be replayed many times; `share` is what every client's first requests weigh in the means.

    So do the last ones: at the end clients run out, and those left have the server to themselves.
    """

    loop: Loop
    plan: ContinuousPlan
    run: Run
    layers: int
    share: float

    def times(self, values: Floats) -> Floats:
        """Return simulated mean (TTFT, TPOT, E2E) in seconds with these parameters."""
        given = Fitted(**dict(zip(NAMES, values.tolist(), strict=True)))
        further = self.plan.gpus_per_replica - 1
        per_layer_s = given.iteration_time_per_layer_s + further * given.communication_time_per_layer_s
        adjustment = Adjustment(
            self.layers * per_layer_s, given.prefill_factor, self.layers * given.prefill_floor_per_layer_s
        )
        settings = replace(self.plan.settings, admission_time_s=given.admission_time_s)
        done = drive(self.run, settings, AdjustedIterationTime(self.plan.times, adjustment), (0.0,) * self.loop.clients)
        clients, share = self.loop.clients, self.share
        parts = ((slice(clients), share), (slice(clients, -clients), 1.0 - 2.0 * share), (slice(-clients, None), share))
        columns = (done.ttft_s, done.tpot_s, done.e2e_s)
        return np.array([sum(weight * c[part].mean() for part, weight in parts) for c in columns])


def subject(loop: Loop) -> Subject:
    """Return a run with neutral parameters. Large loops are shortened to 4 requests per client."""
    plan = resolve(scenario_of(loop, **Fitted().model_dump())).pools[0].plan
    assert isinstance(plan, ContinuousPlan)
    per_client = 10 if loop.clients < CLIENTS_IN_FULL else 4
    rng = np.random.default_rng(0)
    count = per_client * loop.clients
    prompts, outputs = (
        rng.integers(int(SHORTEST * n), n, count, endpoint=True) for n in (loop.prompt_tokens, loop.output_tokens)
    )
    unknown = np.full(count, np.nan)
    run = Run(loop.name, np.zeros(count), prompts, outputs, unknown, unknown)
    return Subject(loop, plan, run, model(loop.model).layers, 0.1)


@dataclass(frozen=True)
class Line:
    """Replays near `at`: log times `here`, shape (runs, 3), and how they change per SCALE, shape (3, runs, 3)."""

    loops: list[Loop]
    at: Floats
    here: Floats
    slopes: Floats

    @property
    def residuals(self) -> Floats:
        """Log of simulated over measured TTFT and TPOT at `at`, shape (runs, 2)."""
        result: Floats = self.here[:, :2] - measured(self.loops)[:, :2]
        return result

    def predicted(self, values: Floats) -> Floats:
        """Return log times at `values`, to first order."""
        result: Floats = self.here + np.tensordot((values - self.at) / SCALE, self.slopes, 1)
        return result

    def solve(self, chosen: NDArray[np.bool_], prior: Floats | None) -> Floats:
        """Return the values that fit the chosen runs best, to first order."""
        residuals, slopes = self.residuals[chosen], self.slopes[:, chosen, :2]

        def parts(x: Floats) -> Floats:
            fit = (residuals + np.tensordot(x - self.at / SCALE, slopes, 1)) * [WEIGHT_TTFT, 1.0]
            pull = np.empty(0) if prior is None else SHRINKAGE * (x - prior / SCALE)
            return np.concatenate([fit.ravel(), pull])

        start = np.maximum(self.at / SCALE, LEAST / SCALE + 1e-6)
        found = least_squares(parts, start, loss="soft_l1", f_scale=OUTLIER, bounds=(LEAST / SCALE - 1e-9, np.inf))
        return np.asarray(found.x * SCALE, dtype=np.float64)


def measured(loops: Sequence[Loop]) -> Floats:
    """Return log of measured TTFT, TPOT, E2E, shape (runs, 3)."""
    times = np.array([(loop.ttft_s, loop.tpot_s, loop.e2e_s) for loop in loops])
    return np.asarray(np.log(times), dtype=np.float64)


def line_of(loops: list[Loop], start: Floats = START, prior: Floats | None = None) -> Line:
    """Return the line around the best values for these runs: Gauss-Newton with steps that are cut when they fail."""
    subjects = [subject(loop) for loop in loops]
    target = measured(loops)[:, :2]

    def replayed(values: Floats) -> Floats:
        return np.asarray(np.log([one.times(values) for one in subjects]), dtype=np.float64)

    def cost(here: Floats, values: Floats) -> float:
        pull = np.empty(0) if prior is None else SHRINKAGE * (values - prior) / SCALE
        scaled = np.concatenate([((here[:, :2] - target) * [WEIGHT_TTFT, 1.0]).ravel(), pull]) / OUTLIER
        return float((np.sqrt(1.0 + scaled**2) - 1.0).sum())

    at, reach = np.maximum(start, LEAST), 1.0
    here = replayed(at)
    every = np.ones(len(loops), dtype=bool)
    for _ in range(STEPS):
        slopes = []
        for i in range(len(NAMES)):
            moved = at.copy()
            moved[i] += 0.5 * reach * SCALE[i]
            slopes.append((replayed(moved) - here) / (0.5 * reach))
        line = Line(loops, at, here, np.array(slopes))
        step = np.clip(line.solve(every, prior) - at, -4.0 * reach * SCALE, 4.0 * reach * SCALE)
        there = replayed(at + step)
        if cost(there, at + step) < cost(here, at) - 1e-3:
            at, here = at + step, there
        else:
            reach *= 0.4
    return replace(line, at=at, here=here)


Group = tuple[str, str, str]


@dataclass(frozen=True)
class Study:
    """All groups' lines, their values, and the values pooled per engine."""

    lines: dict[Group, Line]
    values: dict[Group, Floats]

    def pooled(
        self, backend: str, model_name: str | None = None, without: Group | None = None, new_model: bool = False
    ) -> Floats:
        """Return the median of an engine's groups; what is about prefill from those of the same model, if there are 2.

        Left out is the group `without`, and with `new_model` every group of its model.

        How long kernels of a prefill take compared with the operator data, and how many there are to launch, is the
        model's; what communication takes beyond the data is not.
        """
        groups = [group for group in self.values if group[0] == backend and group != without]
        if new_model and without is not None:
            groups = [group for group in groups if group[2] != without[2]]
        alike = [group for group in groups if group[2] == model_name]
        if not groups:
            return NEUTRAL
        result = np.asarray(np.median([self.values[group] for group in groups], axis=0))
        if len(alike) >= LEAST_ALIKE:
            own = np.median([self.values[group] for group in alike], axis=0)
            result = np.where(OF_THE_MODEL, own, result)
        return result


def study(loops: Sequence[Loop], map_groups: Callable[..., Any] = map) -> Study:
    """Fit every group of `loops`, then draw each towards its engine's median."""
    groups: dict[Group, list[Loop]] = {}
    for loop in loops:
        groups.setdefault(loop.group, []).append(loop)
    lines = dict(zip(groups, map_groups(line_of, list(groups.values())), strict=True))
    first = Study(lines, {group: line.at for group, line in lines.items()})
    priors = [first.pooled(group[0], group[2], group) for group in groups]
    again = map_groups(line_of, list(groups.values()), [line.at for line in lines.values()], priors)
    lines = dict(zip(groups, again, strict=True))
    return Study(lines, {group: line.at for group, line in lines.items()})


def left_out(found: Study, group: Group, key: Callable[[Loop], str]) -> tuple[Floats, Floats]:
    """Return (errors, values) with all runs of equal `key` left out in turn, to first order.

    Errors are |simulated / measured - 1|, shape (runs, 3); NaN where nothing would be left to fit. Values have one row
    per fit.
    """
    line = found.lines[group]
    keys = np.array([key(loop) for loop in line.loops])
    prior = found.pooled(group[0], group[2], group)
    errors = np.full((len(keys), 3), np.nan)
    values = []
    for one in np.unique(keys):
        out = keys == one
        if out.all():
            continue
        fitted = line.solve(~out, prior)
        values.append(fitted)
        errors[out] = np.abs(np.exp(line.predicted(fitted) - measured(line.loops))[out] - 1.0)
    return errors, np.array(values).reshape(-1, len(NAMES))


def unseen(found: Study, group: Group, as_model: bool = True) -> Floats:
    """Return |simulated / measured - 1| of a group's runs with the values of the engine's other groups, (runs, 3).

    Without `as_model` the model is new, too: its groups on other GPUs are not looked at either.
    """
    loops = found.lines[group].loops
    values = found.pooled(group[0], group[2] if as_model else None, group, new_model=not as_model)
    replayed = np.array([subject(loop).times(values) for loop in loops])
    return np.abs(replayed / np.exp(measured(loops)) - 1.0)


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


def usable(loops: Sequence[Loop]) -> list[Loop]:
    """Return the visible runs to fit: none with a reason to leave it out, none where KV blocks decide."""
    chosen = [loop for loop in loops if loop.split == "visible" and not loop.exclude]
    return [loop for loop in chosen if not saturates(loop, subject(loop).plan)]


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
