"""`servesim workload describe` and `servesim workload fit`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from servesim.cli.group import CommandGroup, debug_option

if TYPE_CHECKING:
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
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="YAML", help="Where to write.")
@click.option("--picture", type=click.Path(path_type=Path), metavar="PNG", help="Draw the fit beside the log.")
@click.option(
    "--structure", type=click.Path(path_type=Path), metavar="JSON", help="Write conversations and shared prefixes."
)
@click.option("--whole", is_flag=True, help="Write a scenario that runs, not only its workload.")
@click.option("--model", help="Catalog name of the model or path of a config.json, for --whole.")
@click.option("--gpu", help="Catalog name of the GPU, for --whole.")
@click.option(
    "--format", "style", type=click.Choice(["table", "json"]), default="table", show_default=True, help="Of the check."
)
def fit(
    output: Path,
    picture: Path | None,
    structure: Path | None,
    whole: bool,
    model: str | None,
    gpu: str | None,
    style: str,
    **where: Any,
) -> None:
    """Fit arrivals and lengths to LOG and write them as a scenario part without its raw data."""
    from servesim.errors import InputError, Problem
    from servesim.workload.logs.fit import fit_requests
    from servesim.workload.logs.fit_report import compare, fit_notes
    from servesim.workload.logs.fit_yaml import part_yaml

    if whole and (model is None or gpu is None):
        raise click.UsageError("--whole needs --model and --gpu")
    pool = _pool(str(model), str(gpu), output) if whole else ""  # before the fit, which takes longer
    log = _read(**where)
    if not log.timed:
        raise InputError(Problem("the log has no times: use it for lengths only (kind log)", file=log.file.path))
    fitted = fit_requests(log.requests)
    check = compare(log, fitted)
    notes = fit_notes(log, fitted, check)
    text = part_yaml(fitted, notes)
    if whole:
        text = _whole(text, output, pool)
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


def _pool(model: str, gpu: str, output: Path) -> str:
    from servesim.scenario.starter import pool_text

    return pool_text(model, gpu, output.parent)


def _whole(part: str, output: Path, pool: str) -> str:
    """Return the part with a pool, checked to load."""
    from servesim.scenario.load import parse

    name = "".join(letter if letter.isalnum() or letter in "_.-" else "-" for letter in output.stem).lstrip("_.-")
    text = f"name: {json.dumps(name[:64] or 'fitted')}\n{part}{pool}"
    parse(text, str(output), folder=output.parent)
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

    from servesim.workload.logs.log_file import LogFile
    from servesim.workload.logs.read import read_log

    pairs = [pair.partition("=") for pair in columns.split(",") if pair]
    try:
        named = {key.strip(): name for key, _, name in pairs}
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
    return read_log(file, start_s=start_s, end_s=end_s)
