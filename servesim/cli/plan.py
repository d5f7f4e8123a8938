"""`servesim plan`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from servesim.cli.group import debug_option

if TYPE_CHECKING:
    from servesim.scenario.load_plan import LoadedPlan

_SLO_MISSED = 3
_EPILOG = """
\b
Examples:
  servesim plan chat-plan.yaml
  servesim plan chat-plan.yaml --set space.replicas.most=32 --workers 4
  servesim plan chat-plan.yaml --format json | jq '.ranked[0]'
  servesim plan chat-plan.yaml --deployment values.yaml
  servesim plan chat.yaml --how-much-load
"""


@click.command(epilog=_EPILOG)
@click.argument("plan", type=click.Path(path_type=Path))
@click.option("--how-much-load", is_flag=True, help="How much more load the scenario takes within its SLO.")
@click.option("--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Set one value; the value is YAML.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="Seed of all runs, instead of the scenario's.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, metavar="N", help="Processes.")
@click.option(
    "--replications", type=click.IntRange(2), metavar="N", help="Of --how-much-load; 12 unless given, or the plan's."
)
@click.option(
    "--format", "style", type=click.Choice(["table", "json"]), default="table", show_default=True, help="Of the answer."
)
@click.option(
    "--deployment",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the Kubernetes values of the cheapest configuration to FILE, which must be new.",
)
@click.option(
    "--allow-path",
    "allow_paths",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Let the plan and its scenario read files below DIR too.",
)
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
@debug_option
@click.pass_context
def plan(
    ctx: click.Context,
    plan: Path,
    how_much_load: bool,
    overrides: tuple[str, ...],
    seed: int | None,
    workers: int,
    replications: int | None,
    style: str,
    deployment: Path | None,
    allow_paths: tuple[Path, ...],
    quiet: bool,
) -> None:
    """Find the cheapest configuration with which the scenario of PLAN meets its SLO.

    Exits with 3 if there is none in the plan's space.
    """
    from servesim.scenario.load_plan import load_plan

    if replications is not None and not how_much_load:
        raise click.UsageError("--replications is for --how-much-load; a plan says how many (replications: ...)", ctx)
    if deployment is not None and (how_much_load or deployment.exists()):
        why = "is for plans" if how_much_load else f"{deployment} exists already"
        raise click.UsageError(f"--deployment: {why}", ctx)
    loaded = load_plan(plan, overrides, allow_paths=allow_paths, needs_space=not how_much_load)
    if how_much_load:
        _show_load(loaded, seed, workers, replications, style, quiet)
        return
    found = _planned(loaded, seed, workers, quiet)
    _show(found, style)
    if deployment is not None and found["ranked"]:
        with deployment.open("x", encoding="utf-8") as file:
            file.write(found["ranked"][0]["deployment"]["values"])
    ctx.exit(0 if found["ranked"] else _SLO_MISSED)


def _planned(loaded: LoadedPlan, seed: int | None, workers: int, quiet: bool) -> dict[str, Any]:
    from servesim.cli.progress import count_bar
    from servesim.experiment.planning.plan import Planner

    with count_bar("simulations", enabled=not quiet) as progress:
        return Planner(loaded, seed, workers, progress).run()


def _show(found: dict[str, Any], style: str) -> None:
    if style == "json":
        click.echo(json.dumps(found, indent=2, allow_nan=False))
        return
    from rich.console import Console

    from servesim.report.plan import print_plan

    print_plan(found, Console())


def _show_load(
    loaded: LoadedPlan, seed: int | None, workers: int, replications: int | None, style: str, quiet: bool
) -> None:
    from servesim.cli.progress import count_bar
    from servesim.experiment.planning.plan import how_much_load

    with count_bar("simulations", enabled=not quiet) as progress:
        found = how_much_load(loaded, seed, workers, replications, progress)
    if style == "json":
        click.echo(json.dumps(found, indent=2, allow_nan=False))
        return
    from servesim.report.plan import load_words

    for sentence in load_words(found):
        click.echo(sentence)
