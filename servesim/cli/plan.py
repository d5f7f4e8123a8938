"""`servesim plan`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from servesim.cli.group import FiniteRange, allow_path_option, debug_option

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from servesim.cli.plan_output import Outcome

_SLO_MISSED = 3
_EPILOG = """
\b
Examples:
  servesim plan chat-plan.yaml
  servesim plan chat-plan.yaml --set space.replicas.most=32 --workers 4
  servesim plan chat-plan.yaml --format json | jq '.ranked[0]'
  servesim plan chat-plan.yaml --deployment values.yaml -o chat-plan/
  servesim plan inventory.yaml                how to divide the GPUs that are there among models
  servesim plan chat.yaml --how-much-load
  servesim plan day.yaml --over-time --window 900
"""


@click.command(epilog=_EPILOG)
@click.argument("plan", type=click.Path(path_type=Path))
@click.option("--how-much-load", is_flag=True, help="How much more load the scenario takes within its SLO.")
@click.option("--over-time", is_flag=True, help="How many GPUs are needed when, against perfect scaling.")
@click.option(
    "--window",
    "window_s",
    type=FiniteRange(0, min_open=True),
    metavar="SECONDS",
    help="Of --over-time; a 24th of the run unless given.",
)
@click.option("--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Set one value; the value is YAML.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="Seed of all runs, instead of the scenario's.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, metavar="N", help="Processes.")
@click.option(
    "--replications",
    type=click.IntRange(1),
    metavar="N",
    help="Of --how-much-load (12 unless given, or the plan's) and --over-time (4; of recorded requests 1).",
)
@click.option(
    "--format",
    "style",
    type=click.Choice(["table", "json", "markdown"]),
    default="table",
    show_default=True,
    help="Of the answer.",
)
@click.option(
    "--deployment",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the Kubernetes values of the cheapest configuration to FILE, which must be new.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write plan.json, plan.md, plan.png and the Kubernetes values to DIR.",
)
@click.option("--force", is_flag=True, help="Let -o replace a folder whatever it holds.")
@allow_path_option("Let the plan and its scenario read files below DIR too.")
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
@debug_option
@click.pass_context
def plan(
    ctx: click.Context,
    /,
    plan: Path,
    how_much_load: bool,
    over_time: bool,
    window_s: float | None,
    style: str,
    deployment: Path | None,
    output: Path | None,
    force: bool,
    **options: Any,
) -> None:
    """Find the cheapest configuration with which the scenario of PLAN meets its SLO.

    Where PLAN is an inventory, divide it among its models. Exits with 3 if nothing in the plan's space meets the SLO,
    or the inventory is not enough.
    """
    from servesim.cli.plan_output import checked_folder, show, write
    from servesim.scenario.load_inventory import is_inventory

    _check(ctx, how_much_load, over_time, window_s, options["replications"], deployment)
    target = None if output is None else checked_folder(output, force=force)
    asked = _Asked(plan, **options)
    if how_much_load:
        outcome = _load(asked)
    elif over_time:
        outcome = _over_time(asked, window_s)
    elif is_inventory(plan):
        if deployment is not None:
            raise click.UsageError("--deployment: an inventory has values for each model; -o DIR writes them", ctx)
        outcome = _inventory(asked)
    else:
        outcome = _plan(asked)
    if deployment is not None and "values.yaml" not in outcome.files:
        click.echo(f"--deployment: {deployment} is not written, there is nothing to deploy", err=True)
    elif deployment is not None:
        with deployment.open("x", encoding="utf-8") as file:
            file.write(outcome.files["values.yaml"])
    if target is not None:
        write(outcome, target)
    show(outcome, style)
    ctx.exit(0 if outcome.met else _SLO_MISSED)


def _check(
    ctx: click.Context,
    how_much_load: bool,
    over_time: bool,
    window_s: float | None,
    replications: int | None,
    deployment: Path | None,
) -> None:
    of_scenario = how_much_load or over_time
    if how_much_load and over_time:
        raise click.UsageError("give either --how-much-load or --over-time", ctx)
    if window_s is not None and not over_time:
        raise click.UsageError("--window is for --over-time", ctx)
    if replications is not None and not of_scenario:
        raise click.UsageError("--replications is for --how-much-load; a plan says how many (replications: ...)", ctx)
    if replications == 1 and how_much_load:
        raise click.UsageError("--replications: at least 2, since one says nothing of how another would differ", ctx)
    if deployment is not None and (of_scenario or deployment.exists()):
        why = "is for plans" if of_scenario else f"{deployment} exists already"
        raise click.UsageError(f"--deployment: {why}", ctx)


class _Asked(NamedTuple):
    """The document asked about, and how to answer: the options that every question has."""

    plan: Path
    overrides: tuple[str, ...]
    seed: int | None
    workers: int
    replications: int | None
    allow_paths: tuple[Path, ...]
    quiet: bool

    def progress(self) -> AbstractContextManager[Callable[[int], None] | None]:
        """Return the bar of simulations on stderr, none if `quiet`."""
        from servesim.cli.progress import count_bar

        return count_bar("simulations", enabled=not self.quiet)


def _plan(asked: _Asked) -> Outcome:
    from servesim.cli.plan_output import Outcome
    from servesim.experiment.planning.plan import Planner
    from servesim.report.picture_plan import ranking
    from servesim.report.plan import plan_answer
    from servesim.scenario.load_plan import load_plan

    loaded = load_plan(asked.plan, asked.overrides, allow_paths=asked.allow_paths)
    with asked.progress() as progress:
        found = Planner(loaded, asked.seed, asked.workers, progress).run()
    deployment = found["ranked"][0]["deployment"] if found["ranked"] else None
    files = {} if deployment is None else {"values.yaml": deployment["values"]}
    return Outcome(found, plan_answer(found), partial(ranking, found=found), files, bool(found["ranked"]))


def _inventory(asked: _Asked) -> Outcome:
    from servesim.cli.plan_output import Outcome
    from servesim.experiment.planning.inventory import InventoryPlanner
    from servesim.report.inventory import inventory_answer
    from servesim.report.picture_plan import placement
    from servesim.scenario.load_inventory import load_inventory

    loaded = load_inventory(asked.plan, asked.overrides, allow_paths=asked.allow_paths)
    with asked.progress() as progress:
        found = InventoryPlanner(loaded, asked.seed, asked.workers, progress).run()
    files = {
        f"values-{name}.yaml": one["deployment"]["values"] for name, one in found["models"].items() if one["deployment"]
    }
    met = found["verdict"] == "enough"
    return Outcome(found, inventory_answer(found), partial(placement, found=found), files, met)


def _over_time(asked: _Asked, window_s: float | None) -> Outcome:
    from servesim.cli.plan_output import Outcome
    from servesim.experiment.planning.over_time import over_time
    from servesim.report.over_time import over_time_answer, over_time_picture
    from servesim.scenario.load_plan import load_plan

    loaded = load_plan(asked.plan, asked.overrides, allow_paths=asked.allow_paths, needs_space=False)
    with asked.progress() as progress:
        found = over_time(loaded, asked.seed, window_s, asked.replications, progress, asked.workers)
    met = all(one["replicas"] is not None for one in found["windows"])
    return Outcome(found, over_time_answer(found), partial(over_time_picture, found=found), met=met)


def _load(asked: _Asked) -> Outcome:
    from servesim.cli.plan_output import Outcome
    from servesim.experiment.planning.plan import how_much_load
    from servesim.report.plan import load_answer
    from servesim.scenario.load_plan import load_plan

    loaded = load_plan(asked.plan, asked.overrides, allow_paths=asked.allow_paths, needs_space=False)
    with asked.progress() as progress:
        found = how_much_load(loaded, asked.seed, asked.workers, asked.replications, progress)
    return Outcome(found, load_answer(found), lambda figure: False)
