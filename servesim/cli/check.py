"""`servesim check`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from servesim.cli.group import allow_path_option, debug_option

if TYPE_CHECKING:
    from servesim.check.report import Kept, Report

_UNITS_S = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(?P<number>\d+(\.\d+)?)\s*(?P<unit>s|m|min|h)?")
_FILE = "check.json"
_EPILOG = """
\b
Examples:
  servesim check chat.yaml --baseline servesim-baseline.yaml --update      make or rewrite the baseline
  servesim check chat.yaml --baseline servesim-baseline.yaml
  servesim check scenarios/*.yaml --baseline base.yaml --junit check.xml --markdown "$GITHUB_STEP_SUMMARY"
  servesim check chat.yaml --against origin/main --budget 5m
  servesim check chat.yaml --deployed docker-compose.yaml --baseline servesim-baseline.yaml

\b
Exit codes: 0 no regression, and any that matters would have been seen; 2 bad input; 3 a regression, or a limit
or SLO missed; 4 overloaded now, or a cap reached; 5 inconclusive; 1 failed at run time.
"""


def _as_seconds(_context: click.Context, _parameter: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    found = _DURATION.fullmatch(value.strip())
    seconds = float(found["number"]) * _UNITS_S[found["unit"] or ""] if found else 0.0
    if not seconds > 0:
        raise click.BadParameter(f"{value!r}: expected a time above 0, such as 90s, 5m or 1h")
    return seconds


@click.command(epilog=_EPILOG)
@click.argument("scenarios", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="SCENARIO...")
@click.option(
    "--baseline", type=click.Path(path_type=Path), metavar="FILE", help="What to compare with, and thresholds."
)
@click.option("--update", is_flag=True, help="Rewrite the baseline with what is measured now.")
@click.option("--against", metavar="GITREF", help="Compare with this revision instead, both run now.")
@click.option("--replications", type=click.IntRange(2), metavar="N", help="Instead of the baseline's number (or 20).")
@click.option("--metric", "metrics", multiple=True, metavar="NAME", help="Of --update: record this one too.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="Other random numbers than the baseline's, not paired.")
@click.option("--budget", "budget_s", callback=_as_seconds, metavar="TIME", help="CPU time of all, such as 90s or 5m.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write check.json to DIR: what `servesim report` reads.",
)
@click.option("--junit", "junit_file", type=click.Path(path_type=Path), metavar="FILE", help="Write JUnit XML.")
@click.option("--markdown", "markdown_file", type=click.Path(path_type=Path), metavar="FILE", help="Append Markdown.")
@click.option(
    "--format", "style", type=click.Choice(["table", "json"]), default="table", show_default=True, help="On stdout."
)
@click.option(
    "--deployed",
    multiple=True,
    metavar="[POOL=]FILE",
    help="Run the pool as this command, docker-compose, Helm values or Deployment file says, not as the scenario does.",
)
@allow_path_option("Let the scenarios read files below DIR too.")
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
@debug_option
@click.pass_context
def check(
    ctx: click.Context,
    scenarios: tuple[Path, ...],
    baseline: Path | None,
    update: bool,
    against: str | None,
    replications: int | None,
    metrics: tuple[str, ...],
    seed: int | None,
    budget_s: float | None,
    output: Path | None,
    junit_file: Path | None,
    markdown_file: Path | None,
    style: str,
    deployed: tuple[str, ...],
    allow_paths: tuple[Path, ...],
    quiet: bool,
) -> None:
    """Say whether anything became worse: SCENARIOs against a committed baseline or another git revision."""
    from servesim.check.record import update as recorded
    from servesim.check.run import check as checked
    from servesim.cli.progress import steps_bar

    _check_usage(ctx, baseline, update, against, seed, metrics, output)
    if deployed:
        if against is not None:
            raise click.UsageError("--deployed is for --baseline: another revision may be deployed otherwise", ctx)
        _say_differences(scenarios, deployed, allow_paths)
    for file in (junit_file, markdown_file):
        if file is not None and not file.parent.is_dir():
            raise click.UsageError(f"{file}: there is no folder {file.parent}", ctx)
    if output is not None:
        from servesim.cli.output import checked_folder

        checked_folder(output, (_FILE,))
    with steps_bar("replications", enabled=not quiet) as progress:
        if update:
            assert baseline is not None
            missed = recorded(
                scenarios,
                baseline,
                replications=replications,
                metrics=metrics,
                allow_paths=allow_paths,
                deployed=deployed,
                progress=progress,
            )
            click.echo(f"{baseline}: recorded {', '.join(map(str, scenarios))}")
            _say_missed(missed)
            return
        found = checked(
            scenarios,
            baseline,
            against=against,
            seed=seed,
            replications=replications,
            budget_s=budget_s,
            allow_paths=allow_paths,
            deployed=deployed,
            progress=progress,
        )
    _write(found, output, junit_file, markdown_file)
    _show(found, style)
    ctx.exit(found.exit_code)


def _say_missed(missed: list[tuple[Path, Kept]]) -> None:
    """Say on stderr which limits the new baseline misses itself."""
    from servesim.report.compare import metric_value

    for path, one in missed:
        value = metric_value(one.metric, one.value)
        click.echo(f"{path}: {one.limit} is missed now, the mean is {value}: every check will fail", err=True)


def _say_differences(scenarios: tuple[Path, ...], deployed: tuple[str, ...], allow_paths: tuple[Path, ...]) -> None:
    """Say on stderr what is deployed otherwise than a scenario says."""
    from servesim.deploy.overlay import differences, with_deployed
    from servesim.scenario.load import load

    for file in scenarios:
        scenario = load(file, allow_paths=allow_paths)
        for difference in differences(scenario, with_deployed(scenario, deployed)):
            click.echo(f"{file}: {difference}", err=True)


def _check_usage(
    ctx: click.Context,
    baseline: Path | None,
    update: bool,
    against: str | None,
    seed: int | None,
    metrics: tuple[str, ...],
    output: Path | None,
) -> None:
    if baseline is None and (update or against is None):
        raise click.UsageError("give --baseline FILE" + ("" if update else ", or --against GITREF"), ctx)
    if update and (against is not None or seed is not None):
        raise click.UsageError("--update records this version under the scenario's own seed: no --against, --seed", ctx)
    if update and output is not None:
        raise click.UsageError("--update compares nothing: no -o", ctx)
    if metrics and not update:
        raise click.UsageError("--metric is recorded by --update; a check looks at what its baseline holds", ctx)


def _write(found: Report, output: Path | None, junit_file: Path | None, markdown_file: Path | None) -> None:
    from servesim.report.check import report_markdown
    from servesim.report.junit import junit

    if output is not None:
        from servesim.cli.output import write_folder

        write_folder(output, {_FILE: json.dumps(found.plain(), indent=2, allow_nan=False) + "\n"})
    if junit_file is not None:
        junit_file.write_text(junit(found), encoding="utf-8")
    if markdown_file is not None:
        with markdown_file.open("a", encoding="utf-8") as file:
            file.write(report_markdown(found))


def _show(found: Report, style: str) -> None:
    if style == "json":
        click.echo(json.dumps(found.plain(), indent=2, allow_nan=False))
        return
    from rich.console import Console

    from servesim.report.check import print_report

    print_report(found, Console())
