"""`servesim validate`: a measured run against a scenario, and other commands of that name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from servesim.cli.group import a_share, allow_path_option, debug_option

if TYPE_CHECKING:
    from servesim.validation.study import Study

_TOO_FAR = 3


_EPILOG = """
\b
Examples:
  servesim validate requests.jsonl --scenario scenarios/sharegpt-llama31-8b-rtx4090.yaml
  servesim validate bench.json --scenario mine.yaml --set pools.main.engine.num_gpu_blocks=28000 -o results/validation
  servesim validate run1.json run2.json run3.json --scenario mine.yaml --max-error 0.1
  servesim validate bench.json --scenario mine.yaml --closed-loop 32
"""


class MeasuredOrCommand(click.Group):
    """A group whose first argument may be a measured file instead of a command's name."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the replay's hidden name before what is no command."""
        if args and args[0] not in self.list_commands(ctx) and args[0] not in ("-h", "--help"):
            args = [_REPLAY, *args]
        return super().parse_args(ctx, args)


_REPLAY = "measured"


@click.group(cls=MeasuredOrCommand, epilog=_EPILOG)
def validate() -> None:
    """Hold a measurement against the simulation: `servesim validate MEASURED... --scenario SCENARIO`.

    MEASURED is a file with the latencies of single requests (vllm bench serve --save-detailed, guidellm, aiperf,
    inference-perf, CSV, JSON lines, Parquet, servesim's own requests.parquet), several repeats of one run, or aggregate
    rows. `servesim validate measured --help` lists all options.
    """


@validate.command(_REPLAY)
@click.argument("measured", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--scenario", required=True, type=click.Path(path_type=Path), help="The deployment that was measured.")
@click.option("--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Set one value; the value is YAML.")
@click.option(
    "--closed-loop",
    "users",
    type=click.IntRange(1),
    metavar="N",
    help="The requests came from N clients that wait for their answers: replay them so, not at their times.",
)
@click.option("--no-explain", "explaining", is_flag=True, flag_value=False, default=True, help="Skip the reruns.")
@click.option(
    "--max-error",
    type=click.FloatRange(0, min_open=True),
    callback=a_share,
    metavar="R",
    help="Exit with 3 if mean, p50 or p99 of TTFT, TPOT or E2E is off by more than this share.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="DIR", help="Write tables and pictures to DIR."
)
@click.option("--format", "style", type=click.Choice(["table", "json", "markdown"]), default="table", show_default=True)
@allow_path_option("Let the scenario read files below DIR too.")
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
@debug_option
@click.pass_context
def measured(
    ctx: click.Context,
    measured: tuple[Path, ...],
    scenario: Path,
    overrides: tuple[str, ...],
    users: int | None,
    explaining: bool,
    max_error: float | None,
    output: Path | None,
    style: str,
    allow_paths: tuple[Path, ...],
    quiet: bool,
) -> None:
    """Replay MEASURED through SCENARIO's deployment and say how far off every statistic is, and why."""
    from servesim.cli.progress import steps_bar
    from servesim.errors import InputError
    from servesim.scenario.load import load, positioned
    from servesim.validation.study import renamed, study

    loaded = load(scenario, overrides, allow_paths=allow_paths)
    target = None if output is None else _folder(output)
    try:
        with steps_bar("replays with one assumption changed", enabled=explaining and not quiet) as progress:
            found = renamed(study(measured, loaded, users, explaining, progress))
    except InputError as error:
        raise InputError(positioned(error.problems, scenario, overrides)) from error
    if target is not None:
        _write(found, target)
    _show(found, style)
    worst = [one.worst for one in found]
    if max_error is not None and any(row is not None and abs(row.error) > max_error for row in worst):
        ctx.exit(_TOO_FAR)


def _folder(directory: Path) -> Path:
    """Return the folder, made if need be; InputError if it holds something else."""
    from servesim.errors import InputError, Problem

    in_use = directory.exists() and (not directory.is_dir() or any(directory.iterdir()))
    if in_use and not (directory / "validation.json").exists():
        raise InputError(Problem(f"-o {directory}: exists and is not an earlier validation; choose another name"))
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _write(found: list[Study], directory: Path) -> None:
    from servesim.validation.pictures import measured_against_simulated
    from servesim.validation.study_text import study_markdown

    text = json.dumps([one.to_json() for one in found], indent=2) + "\n"
    (directory / "validation.json").write_text(text, encoding="utf-8")
    (directory / "validation.md").write_text("\n".join(study_markdown(one) for one in found), encoding="utf-8")
    for one in found:
        if one.runs is not None:
            measured_against_simulated(*one.runs, directory / "validation.png")


def _show(found: list[Study], style: str) -> None:
    if style == "json":
        click.echo(json.dumps([one.to_json() for one in found], indent=2))
        return
    from servesim.validation.study_text import print_study, study_markdown

    if style == "markdown":
        click.echo("\n".join(study_markdown(one) for one in found), nl=False)
        return
    from rich.console import Console

    for one in found:
        print_study(one, Console())


def _add_live() -> None:
    """Register `servesim validate live` where this build has it."""
    from importlib import import_module, util

    if util.find_spec("servesim.cli.validate_live") is not None:
        validate.add_command(import_module("servesim.cli.validate_live").live)


_add_live()
