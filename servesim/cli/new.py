"""`servesim new`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from servesim.cli.group import debug_option

_EPILOG = """
\b
Examples:
  servesim new -o chat.yaml
  servesim new --model llama-3.1-70b --gpu h100 --rate 2 --slo-ttft 0.5 -o chat.yaml
  servesim new --model ./config.json --gpu l40s -o mine.yaml
  servesim new --example chat-llama31-8b-a100 -o chat.yaml
"""
_POSITIVE = click.FloatRange(min=0, min_open=True)
_COUNT = click.IntRange(min=1)


@click.command("new", epilog=_EPILOG)
@click.option("--name", help="Name of the scenario.")
@click.option("--model", help="Catalog name, Hugging Face id, or path of a config.json.")
@click.option("--gpu", help="Catalog name of the GPU.")
@click.option("--backend", type=click.Choice(["vllm", "sglang", "trtllm"]), help="Whose kernels.")
@click.option("--rate", "request_rate_rps", type=_POSITIVE, help="Requests per second.")
@click.option("--prompt-tokens", type=_COUNT, help="Prompt length.")
@click.option("--output-tokens", type=_COUNT, help="Output length.")
@click.option("--duration", "duration_s", type=_POSITIVE, help="Simulated seconds of arrivals.")
@click.option("--replicas", type=_COUNT, help="Identical replicas.")
@click.option("--tensor-parallel-size", type=_COUNT, help="GPUs per replica; default: the fewest that fit.")
@click.option("--quantization", help="Weight format such as fp8; default: as published.")
@click.option("--slo-ttft", "ttft_s", type=_POSITIVE, help="Time to first token, seconds.")
@click.option("--slo-tpot", "tpot_s", type=_POSITIVE, help="Time per output token, seconds.")
@click.option("--slo-attainment", "attainment", type=click.FloatRange(0, 1, min_open=True), help="Fraction to be good.")
@click.option("--example", metavar="NAME", help="Copy a scenario that ships with servesim instead.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write to FILE, which must be new."
)
@debug_option
def new(example: str | None, output: Path | None, **options: Any) -> None:
    """Write a commented starter scenario that runs as it is."""
    given = {name: value for name, value in options.items() if value is not None}
    if example is not None and given:
        raise click.UsageError("--example is copied as it is; leave out the other options")
    if output is not None and output.exists():
        raise click.UsageError(f"{output} exists already; choose another name or remove it")
    text = _starter(given, output) if example is None else _example(example)
    if output is None:
        click.echo(text, nl=False)
        return
    with output.open("x", encoding="utf-8") as file:  # never over a file made meanwhile
        file.write(text)
    click.echo(f"wrote {output}; next: servesim run {output}", err=True)


def _example(name: str) -> str:
    from servesim.catalog.examples import example

    return example(name)


def _starter(given: dict[str, Any], output: Path | None) -> str:
    from servesim.scenario.starter import Starter, starter

    return starter(Starter(**given), Path() if output is None else output.parent)
