"""`servesim run`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from servesim.cli.group import allow_path_option, debug_option
from servesim.cli.replications import Replicating, replication_options

if TYPE_CHECKING:
    from servesim.experiment.replicate import Replications
    from servesim.experiment.result import Result
    from servesim.scenario.schema import Scenario

_SLO_MISSED, _OVERLOADED = 3, 4
_EPILOG = """
\b
Examples:
  servesim run chat.yaml
  servesim run chat.yaml --set workload.classes.chat.arrivals.request_rate_rps=12
  servesim run chat.yaml --set 'pools.main.router={kind: power_of_d, d: 3}'
  servesim run chat.yaml --why
  servesim run chat.yaml --replications 20 --workers 4
  servesim run chat.yaml --precision 0.02 --metric e2e_s.p99
  servesim run chat.yaml --seed 7 -o results/chat --pictures --strict
"""


@click.command(epilog=_EPILOG)
@click.argument("scenario", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Set one value; the value is YAML.")
@click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1), help="Seed of all random streams, instead of the scenario's."
)
@replication_options
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="DIR", help="Write the result files to DIR.")
@click.option("--force", is_flag=True, help="Let -o replace a directory that is not a servesim result.")
@click.option(
    "--format",
    "style",
    type=click.Choice(["table", "json", "markdown"]),
    default="table",
    show_default=True,
    help="Of the summary.",
)
@click.option("--why", is_flag=True, help="Try changes of one setting each and say which would help most.")
@click.option("--pictures", is_flag=True, help="Draw latency, timeline and causes into DIR too.")
@click.option(
    "--picture-format", type=click.Choice(["png", "svg"]), default="png", show_default=True, help="Of --pictures."
)
@click.option("--strict", is_flag=True, help="Exit with 3 if an SLO attainment is missed, with 4 if overloaded.")
@allow_path_option("Let the scenario read files below DIR too.")
@click.option("--quiet", is_flag=True, help="Neither progress nor warnings on stderr.")
@debug_option
@click.pass_context
def run(
    ctx: click.Context,
    scenario: Path,
    overrides: tuple[str, ...],
    seed: int | None,
    replicating: Replicating,
    output: Path | None,
    force: bool,
    style: str,
    why: bool,
    pictures: bool,
    picture_format: str,
    strict: bool,
    allow_paths: tuple[Path, ...],
    quiet: bool,
) -> None:
    """Simulate SCENARIO, once or in independent replications, and summarise what happened."""
    from servesim.cli.output import checked_target
    from servesim.report.why import with_words
    from servesim.scenario.load import load

    if pictures and output is None:
        raise click.UsageError("--pictures needs -o DIR to draw into", ctx)
    target = None if output is None else checked_target(output, force=force)
    settings = overrides if seed is None else (*overrides, f"seed={seed}")
    loaded = load(scenario, settings, allow_paths=allow_paths)
    result = _simulated(loaded, scenario, settings, replicating, quiet)
    summary = with_words(result.summary, _changes(loaded, result, quiet) if why else None)
    if target is not None:
        result.write(target, summary, _artist(result, summary, picture_format) if pictures else None)
    _show(summary, style)
    missed = missed_slos(result)
    if not quiet:
        for message in missed:
            click.echo(f"warning: {message}", err=True)
    if strict:
        ctx.exit(_OVERLOADED if result.overloaded else _SLO_MISSED if missed else 0)


def _simulated(
    loaded: Scenario, path: Path, overrides: tuple[str, ...], replicating: Replicating, quiet: bool
) -> Result | Replications:
    from servesim.cli.progress import progress_bar
    from servesim.errors import InputError
    from servesim.experiment.simulate import simulate
    from servesim.scenario.load import positioned

    try:
        if replicating.wanted:
            return replicating.run(loaded, quiet)
        with progress_bar(loaded, enabled=not quiet) as progress:
            return simulate(loaded, progress=progress)
    except InputError as error:
        raise InputError(positioned(error.problems, path, overrides)) from error


def _first(result: Result | Replications) -> Result:
    """Return the run whose record is at hand: the only one, or replication 0."""
    from servesim.experiment.result import Result

    return result if isinstance(result, Result) else result.first


def _changes(loaded: Scenario, result: Result | Replications, quiet: bool) -> dict[str, Any]:
    from servesim.cli.progress import steps_bar
    from servesim.experiment.why_verify import verify

    with steps_bar("runs with one change each", enabled=not quiet) as progress:
        return verify(loaded, _first(result), progress)


def _artist(result: Result | Replications, summary: dict[str, Any], style: str) -> Callable[[Path], None]:
    from servesim.report.pictures import draw

    def artist(directory: Path) -> None:
        for name in draw(_first(result).record, summary, directory, style):
            click.echo(f"warning: no picture {name}.{style}: there is nothing to show", err=True)

    return artist


def _show(summary: dict[str, Any], style: str) -> None:
    if style == "json":
        click.echo(json.dumps(summary, indent=2, allow_nan=False))
        return
    if style == "markdown":
        from servesim.report.markdown import markdown

        click.echo(markdown(summary), nl=False)
        return
    from rich.console import Console

    from servesim.report.table import print_summary

    print_summary(summary, Console())


def missed_slos(result: Result | Replications) -> list[str]:
    """Return one sentence for each class that did not reach the attainment it asks for, or shows none to judge by."""
    missed = []
    for name, spec in result.scenario.workload.classes.items():
        found = result.summary["classes"][name]
        if spec.slo.attainment is not None and found["slo_attainment"] is None:
            missed.append(f"class {name}: no request was measured, so whether its SLO is met cannot be said")
        if found["slo_met"] is False:
            attained = f"{100 * found['slo_attainment']:.2f} % of requests met the SLO"
            missed.append(f"class {name}: {attained}, {100 * (spec.slo.attainment or 0):g} % asked for")
    return missed
