"""Sweeps: one scenario at many settings, every point under the same random numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from servesim.errors import InputError, Problem
from servesim.experiment.executors import executor as executor_named
from servesim.experiment.replicate import Told, checked_number
from servesim.experiment.simulate import checked_seed
from servesim.experiment.sweep_folder import SCENARIO, SweepFolder, write_json
from servesim.experiment.sweep_key import point_key
from servesim.experiment.sweep_point import Outcome, Task, failure
from servesim.experiment.sweep_table import document, frame
from servesim.scenario.dump import to_yaml
from servesim.scenario.load_sweep import Asked, Base, Point, asked_of_values, words_of
from servesim.scenario.resolve import resolve
from servesim.scenario.schema import Scenario

if TYPE_CHECKING:
    import pandas as pd


def sweep(
    scenario: Scenario | str | Path,
    vary: Mapping[str, Any] | None = None,
    *,
    combine: str = "grid",
    variants: Mapping[str, Mapping[str, Any]] | None = None,
    replications: int | None = None,
    seed: int | None = None,
    directory: str | Path | None = None,
    resume: bool = False,
    workers: int = 1,
    executor: str = "local",
    progress: Told | None = None,
) -> pd.DataFrame:
    """Simulate a scenario at many settings and return one row for each, see docs/sweep.md for the columns.

    `vary` gives values by path, `{"pools.main.router": ["round_robin", PowerOfD(d=3)]}`, or ranges such as
    `{"from": 1, "to": 8, "steps": 4, "scale": "log"}`; `variants` named sets of changes; without either the scenario's
    own `sweep` is taken. Every point has the same `replications` seeds. With `directory`, points are kept there as they
    finish and `resume` goes on with what is there. Raises InputError for settings that make no scenario; a point that
    fails in another way is a row with its error.
    """
    base = Base(scenario)
    asked = asked_of_values(vary or {}, combine, variants) if vary or variants else base.own
    if asked is None:
        raise InputError("nothing varies: give vary or variants, or a scenario with `sweep`")
    plan = plan_sweep(base, asked, replications, seed)
    run = executor_named(executor, checked_number(workers, "workers"))
    with nullcontext() if directory is None else SweepFolder(directory, resume) as folder:
        found = run_plan(plan, run, folder, progress)
        if folder is not None:
            write_outputs(found, folder)
    return found.frame


@dataclass(frozen=True, slots=True)
class Planned:
    """A point with its key; `refused` is its outcome where the scenario cannot be run at all."""

    point: Point
    key: str
    seed: int
    refused: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """All points of a sweep; `scenario` is what they are changes of."""

    scenario: Scenario
    points: list[Planned]
    replications: int

    @property
    def name(self) -> str:
        """The scenario's name."""
        return self.scenario.name


@dataclass(frozen=True, slots=True)
class Swept:
    """A sweep that is done: `outcomes` in the order of the points."""

    plan: Plan
    outcomes: list[Outcome]

    @property
    def frame(self) -> pd.DataFrame:
        """One row per point."""
        return frame(self.document)

    @property
    def document(self) -> dict[str, Any]:
        """What sweep.json holds."""
        points = [(one.point, one.key, out) for one, out in zip(self.plan.points, self.outcomes, strict=True)]
        return document(self.plan.name, self.plan.replications, self.plan.points[0].seed, points)


def plan_sweep(base: Base, asked: Asked, replications: int | None = None, seed: int | None = None) -> Plan:
    """Return the points, checked; raises InputError with all faults, or if not one of them can be run."""
    return plan_points(base, base.points(asked), replications or asked.replications or 1, seed)


def plan_points(base: Base, points: Sequence[Point], replications: int, seed: int | None) -> Plan:
    """Return the points with their keys."""
    checked_number(replications, "replications")
    faults: list[tuple[Point, InputError]] = []
    planned = [_planned(point, replications, seed, faults) for point in points]
    if len(faults) == len(points):
        raise InputError(_with_settings(faults))
    return Plan(base.scenario, planned, replications)


def _with_settings(faults: list[tuple[Point, InputError]]) -> list[Problem]:
    """Return each problem once, with the first point that has it and how many others do."""
    having: dict[Problem, list[Point]] = {}
    for point, fault in faults:
        for problem in fault.problems:
            having.setdefault(problem, []).append(point)
    found = []
    for problem, points in having.items():
        settings = [points[0].variant, *(f"{path}={words_of(value)}" for path, value in points[0].settings.items())]
        where = ", ".join(filter(None, settings)) + (f" and {len(points) - 1} more" if len(points) > 1 else "")
        found.append(replace(problem, message=f"{problem.message} ({where})") if where and len(faults) > 1 else problem)
    return found


def _planned(point: Point, replications: int, seed: int | None, faults: list[tuple[Point, InputError]]) -> Planned:
    own = point.scenario.seed if seed is None else checked_seed(seed)
    try:
        resolved = resolve(point.scenario).scenario
    except InputError as error:
        faults.append((point, error))
        return Planned(point, point_key(point.scenario, own, replications), own, failure(error))
    return Planned(point, point_key(resolved, own, replications), own)


def run_plan(
    plan: Plan,
    run: Callable[[list[Task]], Any],
    folder: SweepFolder | None = None,
    progress: Told | None = None,
) -> Swept:
    """Run the points that the folder does not have, each failed one a second time, and store them as they finish."""
    tell = progress or (lambda done, of: None)
    found = {one.key: one.refused for one in plan.points if one.refused is not None}
    wanted = {one.key: one for one in plan.points if one.refused is None}
    if folder is not None:
        found |= {key: stored for key in wanted if (stored := folder.stored(key)) is not None}
        if len(found) < len({one.key for one in plan.points}):
            folder.discard_outputs()
    for last in (False, True):
        missing = {key: one for key, one in wanted.items() if key not in found}
        keys = list(missing)
        tell(len(found), len(found) + len(missing))
        tasks = [Task(i, missing[k].point.scenario, missing[k].seed, plan.replications) for i, k in enumerate(keys)]
        done, of = len(found), len(found) + len(missing)
        for index, outcome in run(tasks) if tasks else ():
            if "error" in outcome and not last:
                continue
            found[keys[index]] = outcome
            if folder is not None:
                folder.store(keys[index], outcome)
            done += 1
            tell(done, of)
    outcomes = [{name: value for name, value in found[one.key].items() if name != "key"} for one in plan.points]
    return Swept(plan, outcomes)


def write_outputs(found: Swept, folder: SweepFolder, more: Callable[[SweepFolder], None] | None = None) -> None:
    """Write the scenario, points.parquet, sweep.json and, through `more`, pictures; each is whole or absent."""
    write_scenario(found.plan, folder)
    folder.write("points.parquet", lambda path: found.frame.to_parquet(path, index=False))
    if more is not None:
        more(folder)
    folder.write("sweep.json", lambda path: write_json(path, found.document))


def write_scenario(plan: Plan, folder: SweepFolder) -> None:
    """Write what the points are changes of, with every default."""
    folder.write(SCENARIO, lambda path: path.write_text(to_yaml(plan.scenario), encoding="utf-8"))
