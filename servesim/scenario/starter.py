"""A first scenario to start from: commented YAML that runs as it is."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from servesim.errors import InputError, Problem
from servesim.scenario.load import parse
from servesim.scenario.resolve import resolve

_PARALLEL_SIZES = (1, 2, 4, 8)
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
_WORDS = {"true", "false", "null", "yes", "no", "on", "off"}


@dataclass(frozen=True, slots=True)
class Starter:
    """What a starter scenario says; `tensor_parallel_size` None is the smallest on which the model fits.

    `engine` are more settings of the engine, `comments` lines to put at the top.
    """

    name: str = "chat"
    model: str = "llama-3.1-8b"
    gpu: str = "h100_sxm"
    backend: str = "vllm"
    request_rate_rps: float = 1.0
    prompt_tokens: int = 512
    output_tokens: int = 128
    duration_s: float = 600.0
    replicas: int = 1
    tensor_parallel_size: int | None = None
    quantization: str | None = None
    ttft_s: float = 1.0
    tpot_s: float = 0.1
    attainment: float = 0.95
    engine: tuple[tuple[str, Any], ...] = ()
    comments: tuple[str, ...] = ()


def starter(wanted: Starter, folder: Path = Path(), allow_paths: Sequence[Path] = ()) -> str:
    """Return the YAML of a scenario that loads and resolves in `folder`, its files there or below `allow_paths`.

    Iteration times are calibrated where the catalog has a calibration, else a roofline estimate; without NVLink that
    assumes PCIe. Raises InputError
    if no such scenario can run: an unknown name, a model that does not fit the GPU, an illegal combination.
    """
    sizes = _PARALLEL_SIZES if wanted.tensor_parallel_size is None else (wanted.tensor_parallel_size,)
    failure: InputError | None = None
    for size in sizes:
        for service_time in SERVICE_TIMES:
            text = _text(replace(wanted, tensor_parallel_size=size), service_time)
            try:
                resolve(parse(text, folder=folder, allow_paths=allow_paths))
            except InputError as error:
                failure = InputError([Problem(p.message, p.path) for p in error.problems])
            else:
                return text
    assert failure is not None
    raise failure


def _scalar(text: str) -> str:
    """Return `text` as YAML would read it back: JSON's quotes are YAML's, too."""
    return text if _PLAIN.fullmatch(text) and text.lower() not in _WORDS else json.dumps(text)


def _model(name: str) -> str:
    """Return the catalog's name, or the mapping that names a config.json."""
    return f"{{config: {_scalar(name)}}}" if name.endswith(".json") else _scalar(name)


def pool_text(model: str, gpu: str, folder: Path, allow_paths: Sequence[Path] = ()) -> str:
    """Return the `pools:` of a scenario in `folder` that serves `model` on one `gpu`, with the best service time.

    Raises InputError if nothing can: an unknown name, a model that does not fit.
    """
    classes = "{a: {arrivals: all_at_once, num_requests: 1, prompt_tokens: 1, output_tokens: 1}}"
    failure: InputError | None = None
    for service_time in SERVICE_TIMES:
        pool = f"    model: {_model(model)}\n    gpu: {_scalar(gpu)}\n    service_time: {service_time}\n"
        try:
            text = f"name: a\nworkload: {{classes: {classes}}}\npools:\n  main:\n{pool}"
            resolve(parse(text, folder=folder, allow_paths=allow_paths))
        except InputError as error:
            failure = InputError([Problem(p.message, p.path) for p in error.problems])
        else:
            return f"pools:\n  main:\n{pool}"
    assert failure is not None
    raise failure


def _text(wanted: Starter, service_time: str) -> str:
    return f"""\
# Run with: servesim run THIS_FILE
# All keys: servesim list, or the JSON Schema for your editor: servesim schema -o servesim.schema.json
{"".join(f"# {line}" + chr(10) for line in wanted.comments)}name: {_scalar(wanted.name)}
workload:
  duration_s: {wanted.duration_s:g}  # simulated seconds of arrivals
  classes:
    chat:
      # How requests arrive; `servesim list arrivals` has others: bursts, days, sessions, traces.
      arrivals: {{kind: poisson, request_rate_rps: {wanted.request_rate_rps:g}}}
      # A number is exactly that; `servesim list lengths` has distributions.
      prompt_tokens: {wanted.prompt_tokens}
      output_tokens: {wanted.output_tokens}
      slo:  # a request is good if it meets every target
        ttft_s: {wanted.ttft_s:g}  # time to first token
        tpot_s: {wanted.tpot_s:g}  # time per output token after the first
        attainment: {wanted.attainment:g}  # fraction of the offered requests that must be good
pools:
  main:
    model: {_model(wanted.model)}  # `servesim list models`, or {{config: path/to/config.json}}
    gpu: {_scalar(wanted.gpu)}  # `servesim list gpus`, or a mapping with your own numbers
    backend: {wanted.backend}
    replicas: {wanted.replicas}
    router: least_outstanding  # `servesim list routers`
    engine:
      tensor_parallel_size: {wanted.tensor_parallel_size}  # GPUs per replica
{_more(wanted)}      host_time_s: 0.002  # host time per iteration, assumed; hidden while the device is slower
    service_time: {service_time}  # {SERVICE_TIMES[service_time]}
"""


SERVICE_TIMES = {
    "calibrated": "fitted to measurements: `servesim list calibrations`",
    "roofline": "an estimate, for want of a calibration; the summary names its band",
    "{kind: roofline, link_bytes_per_s: 3.2e+10}": "an estimate; GPUs linked by PCIe 4.0 x16, one direction",
}
"""What `service_time` may say, the best first, and why."""


def _more(wanted: Starter) -> str:
    """Return the lines of further engine settings."""
    given = () if wanted.quantization is None else (("quantization", wanted.quantization),)
    return "".join(f"      {name}: {_value(value)}\n" for name, value in (*given, *wanted.engine))


def _value(value: Any) -> str:
    return _scalar(value) if isinstance(value, str) else json.dumps(value)
