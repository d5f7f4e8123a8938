"""`servesim calibrate`: from measurements to a calibration file."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from servesim.cli.group import CommandGroup, debug_option, duration_s

if TYPE_CHECKING:
    from servesim.calibrate.target import Target

_EPILOG = """
\b
Examples:
  servesim calibrate vllm-log iterations.jsonl --model llama-3.1-8b --gpu h100_sxm -o mine.yaml --picture fit.png
  servesim calibrate bench results.json --model llama-3.1-8b --gpu h100_sxm -o mine.yaml
  servesim calibrate endpoint http://127.0.0.1:8000 --model llama-3.1-8b --gpu h100_sxm -o mine.yaml
  servesim calibrate aiconfigurator --model llama-3.1-8b --gpu h100_sxm --backend vllm -o mine.yaml

docs/calibrate.md says which one to use when.
"""
_LATER = {"torch": "servesim.cli.calibrate_torch"}  # commands in modules of their own, imported when asked for


class CalibrateGroup(CommandGroup):
    """A group that also finds the commands in `_LATER`, where their module is there."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted({*super().list_commands(ctx), *(name for name in _LATER if self._module(name) is not None)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of this name."""
        found = super().get_command(ctx, cmd_name)
        if found is not None or cmd_name not in _LATER:
            return found
        module = self._module(cmd_name)
        return None if module is None else getattr(module, cmd_name)

    @staticmethod
    def _module(name: str) -> Any:
        try:
            return importlib.import_module(_LATER[name])
        except ModuleNotFoundError as error:
            if error.name == _LATER[name]:
                return None
            raise


@click.group(cls=CalibrateGroup, epilog=_EPILOG)
def calibrate() -> None:
    """Make a calibration file from measurements: of your GPU, your server, or files you have."""


def target_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say what was measured, and where the file goes."""
    options = (
        click.option("--model", required=True, help="Catalog name, or path of a config.json."),
        click.option("--gpu", required=True, help="Catalog name of the GPU."),
        click.option("--unlisted", is_flag=True, help="Let --model and --gpu be names that the catalog does not have."),
        click.option("--backend", default="vllm", show_default=True, help="The engine: vllm, sglang, trtllm, ..."),
        click.option("--tp", type=click.IntRange(1), default=1, show_default=True, help="Tensor-parallel size."),
        click.option("--quantization", metavar="NAME", help="Weight format; default: the model's own."),
        click.option("--kv-cache-dtype", default="auto", show_default=True, help="auto or fp8."),
        click.option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="YAML"),
        click.option("--force", is_flag=True, help="Let -o and --picture replace files."),
        click.option(
            "--picture", type=click.Path(path_type=Path), metavar="PNG", help="Draw what the fit leaves over."
        ),
        click.option("--date", help="Date of the measurement, for the file."),
        click.option("--format", "style", type=click.Choice(["table", "json"]), default="table", show_default=True),
        debug_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


def checked_target(**given: Any) -> tuple[Target, dict[str, Any]]:
    """Return what was measured and where the results go, and the options that are left; InputError if impossible."""
    from servesim.calibrate.target import Target, named
    from servesim.cli.output import checked_file

    names = ("model", "gpu", "unlisted", "backend", "tp", "quantization", "kv_cache_dtype")
    key, model = named(**{name: given.pop(name) for name in names})
    output, picture = given.pop("output"), given.pop("picture")
    force = given.pop("force")
    for option, file in (("-o", output), ("--picture", picture)):
        if file is not None:
            checked_file(file, force=force, option=option)
    return Target(key, model, output, picture, given.pop("date")), given


def refuse_inputs(target: Target, files: Sequence[Path]) -> None:
    """Raise InputError where a measured file is given twice, or would be replaced by what is written."""
    from servesim.errors import InputError, Problem

    resolved = [file.resolve() for file in files]
    problems = [
        Problem("is given twice", file=str(file)) for i, file in enumerate(files) if resolved[i] in resolved[:i]
    ]
    for option, output in (("-o", target.output), ("--picture", target.picture)):
        if output is not None and output.resolve() in resolved:
            problems.append(Problem(f"{option} {output}: is one of the measured files, which it would replace"))
    if problems:
        raise InputError(problems)


def finish(target: Target, text: Sequence[str], facts: dict[str, Any], style: str) -> None:
    """Print the outcome."""
    if style == "json":
        click.echo(json.dumps(facts, indent=2, allow_nan=False))
        return
    click.echo("\n".join(text))
    click.echo(f"written: {target.output}" + ("" if target.picture is None else f", {target.picture}"))


@calibrate.command("vllm-log")
@click.argument("logs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="LOG...")
@click.option("--kv-tokens", type=click.IntRange(1), help="KV cache size of a text log that does not say it, tokens.")
@click.option("--block-size", type=click.IntRange(1), default=16, show_default=True, help="Tokens per KV block.")
@target_options
def vllm_log(logs: tuple[Path, ...], kv_tokens: int | None, block_size: int, style: str, **given: Any) -> None:
    """Fit iterations that vLLM logged: LOG is what servesim's hook recorded, or the server's text log.

    Record with SERVESIM_VLLM_ITERATIONS=iterations.jsonl vllm serve ... where servesim is installed beside vLLM (0.32
    and 0.33); or start any recent vLLM with --enable-logging-iteration-details and keep its log.
    """
    from servesim.calibrate.vllm_log import calibrate_logs

    target, _ = checked_target(**given)
    refuse_inputs(target, logs)
    text, facts = calibrate_logs(logs, target, kv_tokens, block_size)
    finish(target, text, facts, style)


def server_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the settings of a server that its latencies do not show; what is left out is vLLM's default."""
    options = (
        click.option(
            "--max-num-batched-tokens", type=click.IntRange(1), help="The server's; default: vLLM's for the GPU."
        ),
        click.option("--max-num-seqs", type=click.IntRange(1), help="The server's; default: vLLM's for the GPU."),
        click.option("--num-gpu-blocks", type=click.IntRange(2), help="KV blocks; default: derived from the memory."),
        click.option("--async-scheduling/--no-async-scheduling", default=True, show_default=True, help="The server's."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _server(target: Target, given: dict[str, Any]) -> Any:
    from servesim.calibrate.server import server_of

    return server_of(target, given)


@calibrate.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@server_options
@target_options
def bench(files: tuple[Path, ...], style: str, **given: Any) -> None:
    """Fit iterations to result files of a load generator: vLLM's or SGLang's bench, guidellm, aiperf, inference-perf.

    Files with the time of every token (vllm bench serve --save-result --save-detailed) show every iteration. From the
    others, coefficients are found by simulating the same loads; the more loads, the more they tell.
    """
    from servesim.calibrate.bench import calibrate_bench

    target, settings = checked_target(**given)
    refuse_inputs(target, files)
    text, facts = calibrate_bench(files, target, _server(target, settings))
    finish(target, text, facts, style)


@calibrate.command()
@click.argument("url")
@click.option(
    "--budget",
    "budget_s",
    callback=duration_s,
    default="120s",
    show_default=True,
    metavar="TIME",
    help="Of the load: 90s, 10m, 1h30m.",
)
@click.option("--max-concurrency", type=click.IntRange(1, 4096), default=32, show_default=True, help="Most clients.")
@click.option("--max-prompt-tokens", type=click.IntRange(32), default=2048, show_default=True, help="Longest prompt.")
@click.option("--max-output-tokens", type=click.IntRange(9), default=64, show_default=True, help="Longest answer.")
@click.option("--max-requests", type=click.IntRange(1), default=2000, show_default=True, help="Most of each phase.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of prompts and lengths.")
@server_options
@target_options
def endpoint(url: str, budget_s: float, style: str, seed: int, **given: Any) -> None:
    """Drive a running OpenAI-compatible server at URL and fit its iterations: vLLM, SGLang, TGI, llama.cpp, ...

    Sends closed loops of 1, 2, 4, ... clients; the server should have nothing else to do. Reads /v1/models and
    /metrics. Needs the extra `endpoint`.
    """
    from servesim.calibrate.endpoint import calibrate_endpoint
    from servesim.calibrate.endpoint_drive import Design

    keys = ("max_concurrency", "max_prompt_tokens", "max_output_tokens", "max_requests")
    design = Design(budget_s=budget_s, seed=seed, **{key: given.pop(key) for key in keys})
    target, settings = checked_target(**given)
    text, facts = calibrate_endpoint(
        url, target, _server(target, settings), design, lambda said: click.echo(said, err=True)
    )
    finish(target, text, facts, style)


def _list_coverage(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        from servesim.calibrate.aiconfigurator import coverage, coverage_lines

        click.echo("\n".join(coverage_lines(coverage())))
        context.exit()


@calibrate.command()
@click.option(
    "--list", is_flag=True, is_eager=True, expose_value=False, callback=_list_coverage, help="List what it covers."
)
@target_options
def aiconfigurator(style: str, **given: Any) -> None:
    """Compose iterations from NVIDIA's measured operators and fit them: no GPU and no network needed.

    Any model, GPU and engine that the package covers (--list); --model may be its Hugging Face id. Needs the extra
    `aiconfigurator`.
    """
    from servesim.calibrate.aiconfigurator import calibrate_aiconfigurator, config_path, hub_name
    from servesim.catalog import models

    if given["picture"] is not None:
        raise click.UsageError("--picture draws measured iterations in time; these are composed")
    source = hub_name(given["model"])
    config = None if given["model"] in models() else config_path(source)
    if config is not None:
        given["model"] = str(config)
    target, _ = checked_target(**given)
    if config is not None:
        target = replace(target, key=target.key._replace(model=source.rpartition("/")[2].lower()))
    text, facts = calibrate_aiconfigurator(source, target)
    finish(target, text, facts, style)
