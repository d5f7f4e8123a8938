"""`servesim compare`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from servesim.cli.group import FiniteRange, allow_path_option, debug_option

if TYPE_CHECKING:
    from servesim.experiment.compare import Comparison
    from servesim.scenario.schema import Scenario

_FILES = ("comparison.json", "a.yaml", "b.yaml")
_EPILOG = """
\b
Examples:
  servesim compare chat.yaml chat-two-replicas.yaml
  servesim compare chat.yaml --set-b pools.main.router=least_outstanding
  servesim compare chat.yaml --set-b pools.main.engine.max_num_seqs=64 --margin 0.05 --metric e2e_s.p99
  servesim compare a.yaml b.yaml --replications 40 --workers 4 --format markdown --picture differences.png
"""


@click.command(epilog=_EPILOG)
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path), required=False)
@click.option("--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Set one value in both.")
@click.option("--set-b", "overrides_b", multiple=True, metavar="PATH=VALUE", help="Set one value in B, which may be A.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="Seed of both, instead of A's.")
@click.option("--replications", type=click.IntRange(2), metavar="N", help="Exactly N of each, one look.")
@click.option(
    "--max-replications",
    "most",
    type=click.IntRange(10),
    default=100,
    show_default=True,
    metavar="N",
    help="Stop here if some verdict is still open.",
)
@click.option(
    "--margin",
    type=FiniteRange(0, 1, min_open=True, max_open=True),
    default=0.02,
    show_default=True,
    metavar="R",
    help="Fraction below which a difference does not matter.",
)
@click.option("--metric", "metrics", multiple=True, metavar="NAME", help="Instead of the headline metrics.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, metavar="N", help="Processes.")
@click.option(
    "--format",
    "style",
    type=click.Choice(["table", "json", "markdown"]),
    default="table",
    show_default=True,
    help="Of the comparison.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write comparison.json to DIR, with both scenarios: what `servesim report` reads.",
)
@click.option("--picture", type=click.Path(path_type=Path), metavar="FILE", help="Draw the differences (.png or .svg).")
@allow_path_option("Let the scenarios read files below DIR too.")
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
@debug_option
@click.pass_context
def compare(
    ctx: click.Context,
    a: Path,
    b: Path | None,
    overrides: tuple[str, ...],
    overrides_b: tuple[str, ...],
    seed: int | None,
    replications: int | None,
    most: int,
    margin: float,
    metrics: tuple[str, ...],
    workers: int,
    style: str,
    output: Path | None,
    picture: Path | None,
    allow_paths: tuple[Path, ...],
    quiet: bool,
) -> None:
    """Say whether scenario B differs from A, under the same random numbers, by how much, how surely, and why."""
    from servesim.cli.progress import steps_bar
    from servesim.experiment.compare import compare as compared

    if b is None and not overrides_b:
        raise click.UsageError("compare with what? give a second scenario, or --set-b path=value", ctx)
    if picture is not None:
        _check_picture(ctx, picture)
    if output is not None:
        from servesim.cli.output import checked_folder

        checked_folder(output, _FILES)
    first = _loaded(a, overrides, allow_paths)
    second = _loaded(b or a, (*overrides, *overrides_b), allow_paths)
    with steps_bar("runs", enabled=not quiet) as progress:
        found = compared(
            first,
            second,
            replications=replications,
            max_replications=most,
            margin=margin,
            metrics=metrics,
            seed=seed,
            workers=workers,
            progress=progress,
        )
    if output is not None:
        _write(found, output)
    _show(found, style, picture)


def _loaded(path: Path, overrides: tuple[str, ...], allow_paths: tuple[Path, ...]) -> Scenario:
    """Return a scenario that can be run; what is wrong with it is said with line and column."""
    from servesim.errors import InputError
    from servesim.scenario.load import load, positioned
    from servesim.scenario.resolve import resolve

    loaded = load(path, overrides, allow_paths=allow_paths)
    try:
        resolve(loaded)
    except InputError as error:
        raise InputError(positioned(error.problems, path, overrides)) from error
    return loaded


def _check_picture(ctx: click.Context, picture: Path) -> None:
    if picture.suffix not in (".png", ".svg"):
        raise click.UsageError(f"--picture {picture}: expected a name that ends in .png or .svg", ctx)
    if not picture.parent.is_dir():
        raise click.UsageError(f"--picture {picture}: there is no folder {picture.parent}", ctx)


def _write(found: Comparison, output: Path) -> None:
    from servesim.cli.output import write_folder
    from servesim.scenario.dump import to_yaml

    text = json.dumps(found.summary, indent=2, allow_nan=False) + "\n"
    write_folder(output, dict(zip(_FILES, (text, to_yaml(found.a.scenario), to_yaml(found.b.scenario)), strict=True)))


def _show(found: Comparison, style: str, picture: Path | None) -> None:
    summary: dict[str, Any] = found.summary
    if picture is not None:
        from servesim.report.picture_compare import differences
        from servesim.report.pictures import save_picture

        save_picture(lambda figure: differences(figure, summary), picture)
    if style == "json":
        click.echo(json.dumps(summary, indent=2, allow_nan=False))
    elif style == "markdown":
        from servesim.report.compare import comparison_markdown

        click.echo(comparison_markdown(summary), nl=False)
    else:
        from rich.console import Console

        from servesim.report.compare import print_comparison

        print_comparison(summary, Console())
