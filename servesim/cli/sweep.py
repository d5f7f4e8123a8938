"""`servesim sweep`."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from servesim.cli.group import allow_path_option, debug_option

if TYPE_CHECKING:
    from rich.console import Console

    from servesim.experiment.sweep import Plan, Swept
    from servesim.experiment.sweep_folder import SweepFolder
    from servesim.scenario.load_sweep import Asked, Base

_PIPE_COLUMNS = 160
_EPILOG = """
\b
Examples:
  servesim sweep chat.yaml --vary workload.classes.chat.arrivals.request_rate_rps=1:10:1 --replications 5 -o load
  servesim sweep chat.yaml --vary pools.main.replicas=1,2,4 --vary pools.main.router=round_robin,least_outstanding
  servesim sweep chat.yaml --variants engines.yaml --dry-run
  servesim sweep study.yaml --workers 8 -o results/study --resume
  servesim sweep chat.yaml --sensitivity
"""


@click.command(epilog=_EPILOG)
@click.argument("scenario", type=click.Path(path_type=Path))
@click.option(
    "--vary", "texts", multiple=True, metavar="PATH=VALUES", help="Values as 1,2,4 or FROM:TO:STEP; all combinations."
)
@click.option("--zip", "zipped", is_flag=True, help="The n-th value of every --vary together instead.")
@click.option(
    "--variants",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A sweep document: its points, with each --vary.",
)
@click.option("--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Set one value in every point.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="Seed of every point, instead of the scenario's.")
@click.option("--replications", type=click.IntRange(1), metavar="N", help="Of every point, under the same seeds.")
@click.option("--sensitivity", is_flag=True, help="Instead: which setting moves p99 and cost most around today's.")
@click.option("--dry-run", is_flag=True, help="Show the points and about how long they take.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, metavar="N", help="Local processes.")
@click.option(
    "--executor",
    default="local",
    show_default=True,
    metavar="NAME",
    help="local, dask, dask://HOST:PORT, ray or ray://HOST:PORT.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="DIR", help="Keep points and results in DIR.")
@click.option("--resume", is_flag=True, help="Go on with the sweep in DIR.")
@click.option("--no-pictures", is_flag=True, help="Draw nothing into DIR.")
@click.option("--picture-format", type=click.Choice(["png", "svg"]), default="png", show_default=True)
@click.option("--format", "style", type=click.Choice(["table", "json"]), default="table", show_default=True)
@allow_path_option("Let the scenario read files below DIR too.")
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
@debug_option
@click.pass_context
def sweep(
    ctx: click.Context,
    scenario: Path,
    texts: tuple[str, ...],
    zipped: bool,
    variants: Path | None,
    overrides: tuple[str, ...],
    seed: int | None,
    replications: int | None,
    sensitivity: bool,
    dry_run: bool,
    workers: int,
    executor: str,
    output: Path | None,
    resume: bool,
    no_pictures: bool,
    picture_format: str,
    style: str,
    allow_paths: tuple[Path, ...],
    quiet: bool,
) -> None:
    """Simulate SCENARIO, or the one a sweep document names, at many settings under the same random numbers."""
    from servesim.experiment.sensitivity import plan_sensitivity
    from servesim.experiment.sweep import plan_sweep
    from servesim.scenario.load_sweep import Base

    if resume and output is None:
        raise click.UsageError("--resume needs the -o DIR to go on with")
    if sensitivity and (texts or variants):
        raise click.UsageError("--sensitivity chooses the settings itself; leave out --vary and --variants")
    base = Base(scenario, overrides, allow_paths)
    asked = None if sensitivity else _asked(base, texts, zipped, variants)
    around = plan_sensitivity(base, replications, seed) if asked is None else None
    plan = around.plan if around else plan_sweep(base, asked, replications, seed)  # type: ignore[arg-type]
    if dry_run:
        _show_plan(plan, workers)
        return
    with _folder(output, resume) as folder:
        found = _run(plan, executor, workers, folder, quiet)
        if around is not None:
            result = _sensitivity(found, around, folder)
        else:
            result = _outputs(found, folder, None if no_pictures else picture_format)
    _show(result, style, sensitivity)
    failed = any("error" in outcome for outcome in found.outcomes)
    ctx.exit(1 if failed else 0)


def _asked(base: Base, texts: tuple[str, ...], zipped: bool, variants: Path | None) -> Asked:
    """Return the points asked for on the command line; without any, those of the sweep document or the scenario."""
    from servesim.scenario.load_sweep import asked_of_file, asked_of_texts, combined_asked

    if zipped and not texts:
        raise click.UsageError("--zip is for --vary; a sweep document says combine: zip")
    varied = asked_of_texts(texts, zipped) if texts else None
    if variants is not None:
        return combined_asked(asked_of_file(variants), varied)
    asked = varied or base.own
    if asked is None:
        raise click.UsageError("nothing varies: give --vary, --variants, or a scenario with `sweep`")
    return asked


def _folder(output: Path | None, resume: bool) -> Any:
    from servesim.experiment.sweep_folder import SweepFolder

    return nullcontext() if output is None else SweepFolder(output, resume)


def _run(plan: Plan, executor: str, workers: int, folder: SweepFolder | None, quiet: bool) -> Swept:
    from servesim.cli.progress import points_bar
    from servesim.experiment.executors import executor as executor_named
    from servesim.experiment.sweep import run_plan

    run = executor_named(executor, workers)
    with points_bar(enabled=not quiet) as progress:
        return run_plan(plan, run, folder, progress)


def _outputs(found: Swept, folder: SweepFolder | None, pictures: str | None) -> dict[str, Any]:
    from servesim.experiment.sweep import write_outputs

    document = found.document
    if folder is not None:

        def draw(into: SweepFolder) -> None:
            from servesim.report.picture_sweep import pictures_of

            for name, fill in pictures_of(document, str(pictures)).items():
                into.write(f"{name}.{pictures}", fill)

        write_outputs(found, folder, draw if pictures else None)
    return document


def _sensitivity(found: Swept, around: Any, folder: SweepFolder | None) -> dict[str, Any]:
    from servesim.experiment.sensitivity import sensitivity
    from servesim.experiment.sweep import write_scenario
    from servesim.experiment.sweep_folder import write_json

    result = sensitivity(found, around)
    if folder is not None:
        write_scenario(found.plan, folder)
        folder.write("sensitivity.json", lambda path: write_json(path, result))
    return result


def _show_plan(plan: Plan, workers: int) -> None:
    from servesim.experiment.sweep_pilot import estimate
    from servesim.report.sweep_text import print_plan

    print_plan(plan, estimate(plan, workers), workers, _console())


def _show(result: dict[str, Any], style: str, sensitivity: bool) -> None:
    if style == "json":
        click.echo(json.dumps(result, indent=2, allow_nan=False))
        return
    from servesim.report.sweep_text import print_sensitivity, print_sweep

    (print_sensitivity if sensitivity else print_sweep)(result, _console())


def _console() -> Console:
    """Return a console as wide as the terminal; in a file or a pipe lines may be long, but columns stay whole."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=_PIPE_COLUMNS)
