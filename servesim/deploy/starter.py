"""A starter scenario of a server that runs already."""

from __future__ import annotations

from typing import Any

from servesim.deploy.command import Deployed
from servesim.deploy.flags import SERVERS
from servesim.deploy.read import read

_OWN = ("tensor_parallel_size", "quantization")


def options_of(command: str) -> dict[str, Any]:
    """Return what `servesim.scenario.starter.Starter` takes, from a command or the file that holds it.

    `comments` say what is not modelled, one line a flag. Raises InputError for what cannot be read.
    """
    found = read(command)
    more = tuple((name, value) for name, value in found.engine.items() if name not in _OWN)
    return {
        "model": found.model,
        # Text Generation Inference has no service times of its own; vLLM's kernels are the nearest to its.
        "backend": "vllm" if found.server == "tgi" else found.server,
        "replicas": found.replicas,
        **{name: found.engine[name] for name in _OWN if name in found.engine},
        **({} if "tensor_parallel_size" in found.engine else {"tensor_parallel_size": 1}),
        "engine": more,
        "comments": tuple(_comments(found)),
    }


def _comments(found: Deployed) -> list[str]:
    lines = [f"of several servers in the file the first; not this one: {other}" for other in found.others]
    lines += found.taken
    lines += [f"not modelled: {flag}: {effect}" for flag, effect in found.not_modelled]
    if found.server == "tgi":
        lines.append("Text Generation Inference is simulated as vLLM, with vLLM's service times and scheduler")
    notes = {flag.setting: flag for flag in SERVERS[found.server] if flag.note}
    lines += [f"{notes[name].name} {notes[name].note}" for name in found.engine if name in notes]
    return [" ".join(line.split()) for line in lines]
