"""`servesim calibrate torch`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click

from servesim.cli.group import debug_option, duration_s

_EPILOG = """
\b
Examples:
  servesim calibrate torch llama-3.1-8b -o mine.yaml --budget 10m
  servesim calibrate torch ./config.json --dtype fp16 --max-num-seqs 64 -o mine.yaml --picture fit.png
  servesim calibrate torch bert-base --prompt-tokens 256 -o encoder.yaml
  servesim calibrate torch llama-3.1-8b -o mine.yaml --resume
  servesim calibrate torch llama-3.1-70b --tp 4 -o mine.yaml --budget 20m

docs/calibrate-torch.md says what is measured, and how long it takes.
"""


@click.command("torch", epilog=_EPILOG)
@click.argument("model")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="YAML")
@click.option(
    "--budget",
    callback=duration_s,
    metavar="TIME",
    default="10m",
    show_default=True,
    help="Stop measuring after this time.",
)
@click.option("--resume", is_flag=True, help="Go on with the points stored beside -o.")
@click.option("--device", type=click.Choice(["auto", "cuda", "cpu"]), default="auto", show_default=True)
@click.option("--gpu", metavar="NAME", help="What to call the device; default: its name in the catalog, or its own.")
@click.option("--dtype", type=click.Choice(["bf16", "fp16", "fp32"]), default="bf16", show_default=True)
@click.option("--quantization", type=click.Choice(["int8", "int4", "fp8"]), help="Weights, with torchao.")
@click.option("--compile", "compiled", is_flag=True, help="Use torch.compile.")
@click.option(
    "--tp", type=click.IntRange(1), default=1, show_default=True, help="Ranks that share a decoder, a GPU each."
)
@click.option("--max-num-seqs", type=click.IntRange(1, 4096), help="Decoding sequences [256; 32 on a CPU].")
@click.option("--max-context", type=click.IntRange(2), help="Tokens of context per sequence [8192; 1024].")
@click.option("--max-prefill-tokens", type=click.IntRange(1), help="Prefill tokens per iteration [8192; 1024].")
@click.option("--max-batch-size", type=click.IntRange(3), help="Items of a batch, not for decoders [256; 32].")
@click.option("--prompt-tokens", type=click.IntRange(1), help="Tokens of a text encoder's item [128].")
@click.option("--output-tokens", type=click.IntRange(1), help="Tokens a speech model writes for an item [32].")
@click.option(
    "--points", type=click.IntRange(50, 10_000), default=150, show_default=True, help="Of a decoder's design."
)
@click.option("--tolerance", type=click.FloatRange(0, 1, min_open=True), default=0.02, show_default=True,
              help="Repeat until the 95 % interval of the median lies within this share of it.")  # fmt: skip
@click.option("--max-point", type=click.FloatRange(0, 600, min_open=True), default=2.0, show_default=True,
              help="Seconds for one point at the most.")  # fmt: skip
@click.option("--threads", type=click.IntRange(1, 1024), help="Threads on a CPU.")
@click.option("--clock", type=click.Choice(["wall", "cpu"]), default="wall", show_default=True,
              help="cpu: processor time of one thread, for a machine that others use too.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the design and its order.")
@click.option("--picture", type=click.Path(path_type=Path), metavar="PNG", help="Draw what the fit leaves over.")
@click.option("--date", help="Date of the measurement, for the file.")
@click.option("--force", is_flag=True, help="Let -o and --picture replace files.")
@click.option("--format", "style", type=click.Choice(["table", "json"]), default="table", show_default=True)
@debug_option
def torch(model: str, style: str, **given: Any) -> None:
    """Profile MODEL with PyTorch on this machine, on CUDA or on the CPU, and fit a calibration file.

    MODEL is a decoder of the catalog, an encoder, vision, speech or diffusion model known by name, or the config.json
    of another one. It gets random weights: nothing is downloaded. Raw points are stored beside the output as they are
    measured.
    """
    import json

    plan = _plan(model, given)
    from servesim.calibrate.torch_profile import profile

    outcome = profile(plan, partial(_progress, enabled=style == "table"))
    if outcome is None:
        return
    if style == "json":
        click.echo(json.dumps(outcome.facts, indent=2, allow_nan=False))
        return
    click.echo("\n".join(outcome.text))
    pictured = "" if plan.picture is None else f", {plan.picture}"
    click.echo(f"written: {plan.output}, {plan.raw_path}{pictured}")


def _plan(model: str, given: dict[str, Any]) -> Any:
    """Return the plan that the options describe; everything that can be refused is refused here."""
    from servesim.calibrate.torch_device import check_precision, device_of, require
    from servesim.calibrate.torch_measure import Repeats
    from servesim.calibrate.torch_plan import Plan
    from servesim.calibrate.torch_subjects import DECODER, DIFFUSION, subject_of
    from servesim.cli.output import checked_file
    from servesim.errors import InputError

    ranks = given.pop("tp")
    subject = subject_of(model, given.pop("prompt_tokens"), given.pop("output_tokens"))
    if ranks > 1:
        _check_split(subject, ranks)
    limits = ("max_num_seqs", "max_context", "max_prefill_tokens")
    wrong = limits if subject.task != DECODER else ("max_batch_size",)
    for name in wrong:
        if given[name] is not None:
            raise InputError(f"--{name.replace('_', '-')} is not for {subject.name}, which is: {subject.task}")
    is_first = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun started, if it did
    force, output, picture = given.pop("force") or not is_first, given["output"], given["picture"]
    if output.suffix not in (".yaml", ".yml"):
        raise InputError(f"-o {output}: the calibration is a YAML file; give it that ending")
    for option, file in (("-o", output), ("--picture", picture)):
        if file is not None:
            checked_file(file, force=force or (given["resume"] and option == "-o"), option=option)
    raw = output.with_suffix(".points.csv")
    if not given["resume"]:
        checked_file(raw, force=force, option="raw points")
    more = ["diffusers"] if subject.task == DIFFUSION else ["accelerate"] if ranks > 1 else []
    require("torch", "transformers", *more)
    device = device_of(given.pop("device"), given.pop("threads"), given.pop("clock"), ranks)
    check_precision(device, given["dtype"], given["quantization"])
    rule = Repeats(tolerance=given.pop("tolerance"), max_s=given.pop("max_point"))
    gpu, budget_s = given.pop("gpu") or device.name(), given.pop("budget")
    return Plan(
        subject=subject, device=device, gpu=gpu, budget_s=budget_s, rule=rule, tensor_parallel_size=ranks, **given
    )


def _check_split(subject: Any, ranks: int) -> None:
    """Raise InputError with everything of the model that cannot be divided among so many."""
    from servesim.calibrate.torch_subjects import DECODER
    from servesim.engine.deployment_checks import indivisible
    from servesim.errors import InputError, Problem

    if subject.task != DECODER:
        raise InputError(f"--tp is for decoders; {subject.name} is: {subject.task}")
    problems = [Problem(f"--tp: {message}") for message in indivisible(subject.entry, ranks)]
    if problems:
        raise InputError(problems)


@contextmanager
def _progress(*, enabled: bool) -> Iterator[Callable[[int, int, Any], None] | None]:
    """Yield a callback that is told of each point; a bar with the remaining time on a terminal, else nothing."""
    if not enabled or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, speed_estimate_period=120) as bar:
        task = bar.add_task("building the model", total=None)

        def show(done: int, of: int, point: Any) -> None:
            bar.update(task, completed=done, total=of, description=f"point {done + 1} of {of}, {point.kind}")

        yield show
