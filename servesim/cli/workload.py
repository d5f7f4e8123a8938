"""`servesim workload describe` and `servesim workload fit`."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from servesim.cli.group import CommandGroup, allow_path_option, debug_option

if TYPE_CHECKING:
    from servesim.errors import Problem
    from servesim.workload.logs.read import Log

# Written out, since the formats' own list would load numpy for `--help`; a test compares the two.
_FORMATS = (
    *("auto", "csv", "jsonl", "parquet", "azure", "burstgpt", "mooncake", "qwen_bailian", "sharegpt", "servegen"),
    *("vllm_bench", "vllm_timed_trace", "sglang_bench", "guidellm", "inference_perf", "aiperf"),
)
_EPILOG = """
\b
Examples:
  servesim workload describe requests.csv --columns arrival=ts,prompt_tokens=in,output_tokens=out
  servesim workload describe trace.jsonl.gz -o trace.png
  servesim workload fit trace.jsonl -o part.yaml --picture fit.png
  servesim workload fit trace.jsonl -o part.yaml --structure reuse.json
  servesim workload fit trace.jsonl -o chat.yaml --whole --model llama-3.1-8b --gpu h100_sxm
"""


@click.group(cls=CommandGroup, epilog=_EPILOG)
def workload() -> None:
    """Describe a log of requests, or fit a workload to it that can be shared."""


def _log_options(command: Callable[..., Any]) -> Callable[..., Any]:
    options = (
        click.argument("log", type=click.Path(path_type=Path)),
        click.option(
            "--log-format", type=click.Choice(_FORMATS), default="auto", show_default=True, help="Of the log."
        ),
        click.option("--columns", metavar="KEY=NAME,...", default="", help="Columns by name, e.g. arrival=ts."),
        click.option("--time-unit", type=click.Choice(["s", "ms", "us", "ns", "iso8601"]), help="Of the arrivals."),
        click.option("--benchmark", metavar="N|NAME", help="Which benchmark of a file with several."),
        click.option("--start-s", type=click.FloatRange(0), default=0.0, help="Begin so long after the first row."),
        click.option("--end-s", type=click.FloatRange(0, min_open=True), default=math.inf, help="End before then."),
        debug_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


@workload.command()
@_log_options
@click.option(
    "--format", "style", type=click.Choice(["table", "json"]), default="table", show_default=True, help="Of the output."
)
@click.option("-o", "--picture", type=click.Path(path_type=Path), metavar="PNG", help="Draw rates and lengths.")
def describe(style: str, picture: Path | None, **where: Any) -> None:
    """Say what LOG holds: rates, burstiness, lengths, sessions, shared prefixes, and the faults in it.

    Faulty rows are counted and left out; rows out of order are sorted.
    """
    from servesim.workload.logs.describe import describe as description

    if picture is not None:
        from servesim.cli.output import checked_file

        checked_file(picture, force=True)
    log = _read(**where)
    found = description(log)
    if style == "json":
        click.echo(json.dumps(found, indent=2, allow_nan=False))
    else:
        from servesim.workload.logs.describe_text import description_lines

        click.echo("\n".join(description_lines(found)))
    if picture is not None:
        from servesim.workload.logs.picture import picture as draw

        draw([log.requests], picture, timed=log.timed)


@workload.command()
@_log_options
@click.option("--skip-faulty", is_flag=True, help="Leave faulty rows out, with a note, instead of refusing them.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="YAML", help="Where to write.")
@click.option("--force", is_flag=True, help="Let -o, --picture and --structure replace files.")
@click.option("--picture", type=click.Path(path_type=Path), metavar="PNG", help="Draw the fit beside the log.")
@click.option(
    "--structure", type=click.Path(path_type=Path), metavar="JSON", help="Write conversations and shared prefixes."
)
@click.option("--whole", is_flag=True, help="Write a scenario that runs, not only its workload.")
@click.option("--model", help="Catalog name of the model or path of a config.json, for --whole.")
@click.option("--gpu", help="Catalog name of the GPU, for --whole.")
@allow_path_option("Let --model lie below DIR too, for --whole.")
@click.option(
    "--format", "style", type=click.Choice(["table", "json"]), default="table", show_default=True, help="Of the check."
)
def fit(
    skip_faulty: bool,
    output: Path,
    force: bool,
    picture: Path | None,
    structure: Path | None,
    whole: bool,
    model: str | None,
    gpu: str | None,
    allow_paths: tuple[Path, ...],
    style: str,
    **where: Any,
) -> None:
    """Fit arrivals and lengths to LOG and write them as a scenario part without its raw data.

    Faulty rows are refused, or left out by --skip-faulty; rows out of order are sorted, with a note.
    """
    from servesim.cli.output import checked_file
    from servesim.errors import InputError, Problem
    from servesim.workload.logs.fit import fit_requests
    from servesim.workload.logs.fit_report import compare, fit_notes
    from servesim.workload.logs.fit_yaml import part_yaml
    from servesim.workload.logs.read import refuse_faulty

    if whole and (model is None or gpu is None):
        raise click.UsageError("--whole needs --model and --gpu")
    for option, file in (("-o", output), ("--picture", picture), ("--structure", structure)):
        if file is not None:
            checked_file(file, force=force, option=option)
    pool = _pool(str(model), str(gpu), output, allow_paths) if whole else ""  # before the fit, which takes longer
    log = _read(**where)
    if not skip_faulty:
        refuse_faulty(log)
    if not log.timed:
        raise InputError(Problem("the log has no times: use it for lengths only (kind log)", file=log.file.path))
    fitted = fit_requests(log.requests)
    check = compare(log, fitted)
    notes = fit_notes(log, fitted, check)
    text = part_yaml(fitted, notes)
    if whole:
        text = _whole(text, output, pool, allow_paths)
    output.write_text(text, encoding="utf-8")
    if style == "json":
        click.echo(json.dumps(check, indent=2, allow_nan=False))
    else:
        from servesim.workload.logs.describe_text import check_lines

        click.echo("\n".join([*notes, "", *check_lines(check)]))
    if structure is not None:
        from servesim.workload.logs.structure import structure_of

        structure.write_text(json.dumps(structure_of(log), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    if picture is not None:
        from servesim.workload.logs.picture import picture as draw

        draw([log.requests, fitted.draw()], picture)


def _pool(model: str, gpu: str, output: Path, allow_paths: Sequence[Path]) -> str:
    from servesim.scenario.starter import pool_text

    return pool_text(model, gpu, output.parent, allow_paths)


def _whole(part: str, output: Path, pool: str, allow_paths: Sequence[Path]) -> str:
    """Return the part with a pool, checked to load."""
    from servesim.scenario.load import parse

    name = "".join(letter if letter.isalnum() or letter in "_.-" else "-" for letter in output.stem).lstrip("_.-")
    text = f"name: {json.dumps(name[:64] or 'fitted')}\n{part}{pool}"
    parse(text, str(output), folder=output.parent, allow_paths=allow_paths)
    return text


def _read(
    log: Path,
    log_format: str,
    columns: str,
    time_unit: str | None,
    benchmark: str | None,
    start_s: float,
    end_s: float,
) -> Log:
    from pydantic import ValidationError

    from servesim.errors import InputError
    from servesim.workload.logs.log_file import LogFile
    from servesim.workload.logs.read import read_log

    if end_s <= start_s:
        raise click.UsageError(f"--end-s ({end_s:g}) must be after --start-s ({start_s:g})")
    named = _named_columns(columns)
    try:
        file = LogFile.model_validate(
            {
                "path": str(log),
                "format": log_format,
                "columns": named,
                "time_unit": time_unit,
                "benchmark": int(benchmark) if benchmark and benchmark.isdecimal() else benchmark,
            }
        )
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(map(str, fault["loc"]))
        raise click.UsageError(f"{place}: {fault['msg']}" if place else fault["msg"]) from error
    try:
        read = read_log(file, start_s=start_s, end_s=end_s)
    except InputError as error:
        raise InputError(_as_flags(error.problems)) from error
    read.faults.problems[:] = _as_flags(read.faults.problems)
    return read


def _named_columns(text: str) -> dict[str, str]:
    """Return `arrival=ts,...` as a mapping; UsageError for anything else."""
    from servesim.workload.logs.rows import LogColumns

    named: dict[str, str] = {}
    for pair in filter(None, text.split(",")):
        key, equals, name = (part.strip() for part in pair.partition("="))
        if key not in LogColumns.model_fields or not equals or not name:
            known = ", ".join(LogColumns.model_fields)
            raise click.UsageError(f"--columns: expected KEY=NAME with KEY one of {known}; got {pair!r}")
        if key in named:
            raise click.UsageError(f"--columns: {key} is given twice, as {named[key]!r} and {name!r}")
        named[key] = name
    return named


def _as_flags(problems: Sequence[Problem]) -> list[Problem]:
    """Return the problems with advice about a scenario's keys as advice about the flags of these commands."""
    from dataclasses import replace

    def said(message: str) -> str:
        message = re.sub(r"columns: \{(\w+): \.\.\.\}", r"--columns \1=NAME", message)
        message = message.replace("say time_unit: ms, us or ns", "say --time-unit ms, us or ns")
        message = message.replace("(time_unit says otherwise)", "(--time-unit says otherwise)")
        return message.replace("say which with benchmark:", "say which with --benchmark:")

    return [replace(problem, message=said(problem.message)) for problem in problems]
