"""`servesim new`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from servesim.cli.group import FiniteRange, allow_path_option, debug_option

_EPILOG = """
\b
Examples:
  servesim new -o chat.yaml
  servesim new --model llama-3.1-70b --gpu h100 --rate 2 --slo-ttft 0.5 -o chat.yaml
  servesim new --model ./config.json --gpu l40s -o mine.yaml
  servesim new --from 'vllm serve Qwen/Qwen3-8B -tp 2 --max-num-seqs 128' --gpu h100 --rate 4
  servesim new --from docker-compose.yaml --gpu l40s -o mine.yaml
  servesim new --example chat-llama31-8b-a100 -o chat.yaml
"""
_POSITIVE = FiniteRange(min=0, min_open=True)
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
@click.option("--slo-attainment", "attainment", type=FiniteRange(0, 1, min_open=True), help="Fraction to be good.")
@click.option(
    "--from",
    "command",
    metavar="COMMAND",
    help="Of the server that starts like this, or as a Helm values, docker-compose or Deployment file (.yaml) says.",
)
@allow_path_option("Let the scenario read files below DIR too.")
@click.option("--example", metavar="NAME", help="Copy a scenario that ships with servesim instead.")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write to FILE.")
@click.option("--force", is_flag=True, help="Let -o replace a file.")
@debug_option
def new(
    command: str | None,
    example: str | None,
    output: Path | None,
    force: bool,
    allow_paths: tuple[Path, ...],
    **options: Any,
) -> None:
    """Write a commented starter scenario that runs as it is."""
    given = {name: value for name, value in options.items() if value is not None}
    if example is not None and (given or allow_paths or command is not None):
        raise click.UsageError("--example is copied as it is; leave out the other options")
    if output is not None:
        from servesim.cli.output import checked_file

        checked_file(output, force=force)
    if command is not None:
        given = _deployed(command, given)
    text = _starter(given, output, allow_paths) if example is None else _example(example)
    if output is None:
        click.echo(text, nl=False)
        return
    with output.open("w" if force else "x", encoding="utf-8") as file:  # never over a file made meanwhile
        file.write(text)
    allowed = [word for path in allow_paths for word in ("--allow-path", str(path))]
    click.echo(f"wrote {output}; next: {shlex.join(['servesim', 'run', str(output), *allowed])}", err=True)


def _deployed(command: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return the options that a command says, those given besides on top; says what is not modelled."""
    from servesim.deploy.starter import options_of

    found = options_of(command)
    if "gpu" not in given:
        from servesim.scenario.starter import Starter

        found["comments"] += (f"no command says on which GPU; {Starter().gpu} is assumed, --gpu names another",)
    for comment in found["comments"]:
        click.echo(comment, err=True)
    return {**found, **given}


def _example(name: str) -> str:
    from servesim.catalog.examples import example

    return example(name)


def _starter(given: dict[str, Any], output: Path | None, allow_paths: Sequence[Path]) -> str:
    from servesim.scenario.starter import Starter, starter

    return starter(Starter(**given), Path() if output is None else output.parent, allow_paths)
