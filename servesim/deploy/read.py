"""From the command, or the file, that starts a server to the settings of a pool."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from servesim.deploy.command import Deployed, read_arguments, read_command, server_of
from servesim.deploy.variables import filled_in
from servesim.errors import InputError, Problem
from servesim.scenario.document_text import read_text

_CONFIG_KEYS = {
    "maxModelLen": "--max-model-len",
    "tensorParallelSize": "--tensor-parallel-size",
    "maxNumSeqs": "--max-num-seqs",
    "gpuMemoryUtilization": "--gpu-memory-utilization",
    "dtype": "--dtype",
}
_SWITCH_KEYS = {"enableChunkedPrefill": "enable-chunked-prefill", "enablePrefixCaching": "enable-prefix-caching"}
# Parts of a production-stack entry that change how fast it serves.
_EXTRAS = {
    "lmcacheConfig": "would keep KV blocks in host memory and share them",
    "keda": "would change the number of replicas with the load",
}


def read(text: str, option: str = "--from") -> Deployed:
    """Return what a command line says, or a file with one: a script, Helm values, docker-compose, a Deployment.

    Raises InputError, in the name of the command line's `option`, with every value that cannot be read.
    """
    path = Path(text)
    short = "\n" not in text and len(text) < 1000
    is_file = short and (path.suffix in (".yaml", ".yml") or path.is_file())
    try:
        return _read_file(path) if is_file else read_command(text)
    except InputError as error:
        where = f"{option} {text}" if is_file else option
        raise InputError([Problem(one.message, one.path, where) for one in error.problems]) from None


def _read_file(path: Path) -> Deployed:
    written = read_text(path, "")
    if path.suffix not in (".yaml", ".yml"):
        return read_command(written)
    try:
        return _first(list(yaml.safe_load_all(written)))
    except yaml.YAMLError as error:
        raise InputError(f"is not YAML: {' '.join(str(error).split())}") from None


def _first(content: list[Any]) -> Deployed:
    """Return the first server of a file's documents, with the models of the others."""
    servers = list(_servers(content))
    if not servers:
        raise InputError("holds neither modelURL (Helm values) nor a command of a known server")
    first, *others = servers
    first.others = [other.model for other in others]
    return first


def _servers(content: Any) -> Iterator[Deployed]:
    for part, replicas in _mappings(content, 1):
        if isinstance(part.get("modelURL"), str):
            yield _from_values(part)
        elif (found := _from_container(part)) is not None:
            found.replicas *= replicas
            yield found


def _from_container(part: dict[str, Any]) -> Deployed | None:
    """Return the server that a container of a Deployment, or a service of docker-compose, starts; None for others."""
    words, taken = _words(part)
    image = [filled_in(str(part["image"]))[0]] if isinstance(part.get("image"), str) else []
    for line in (words, [*image, *words]):
        try:
            server, rest = server_of(line)
        except InputError:
            continue
        found = read_arguments(server, rest)
        found.taken += taken
        return found
    return None


def _mappings(content: Any, replicas: int) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield every mapping below `content`, and how many replicas the mappings around it, or its own keys, ask for."""
    if isinstance(content, dict):
        replicas = _replicas(content) or replicas
        yield content, replicas
        for value in content.values():
            yield from _mappings(value, replicas)
    elif isinstance(content, list):
        for value in content:
            yield from _mappings(value, replicas)


def _replicas(part: dict[str, Any]) -> int | None:
    """Return the replicas of a Deployment's spec (`replicas`) or of a compose service (`deploy.replicas`, `scale`)."""
    deploy = part.get("deploy")
    asked = (
        part.get("replicas") if "template" in part else None,
        deploy.get("replicas") if isinstance(deploy, dict) else None,
        part.get("scale") if "image" in part else None,
    )
    return next((number for number in asked if isinstance(number, int) and number >= 1), None)


def _words(part: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Return a container's command in words, a shell's script in it split, and what variables were taken to be."""
    words: list[str] = []
    taken: list[str] = []
    for value in (part.get("entrypoint"), part.get("command"), part.get("args")):
        for text in value if isinstance(value, list) else [value] if isinstance(value, str) else []:
            filled, more = filled_in(str(text))
            words += _split(filled) if isinstance(value, str) else [filled]
            taken += more
    if words and words[0].rsplit("/", 1)[-1] in ("sh", "bash"):
        words = _split(words[-1])
    return words, taken


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text.replace("\\\n", " "), comments=True)
    except ValueError as error:
        raise InputError(f"cannot be split into words: {error}: {text[:60]!r}") from None


def _from_values(model: dict[str, Any]) -> Deployed:
    """Return what an entry of the vLLM production stack's servingEngineSpec.modelSpec says."""
    config = model.get("vllmConfig") or {}
    words = [str(model["modelURL"])]
    for key, flag in _CONFIG_KEYS.items():
        if config.get(key) is not None:
            words += [flag, str(config[key])]
    for key, flag in _SWITCH_KEYS.items():
        if config.get(key) is not None:
            words.append(f"--{flag}" if config[key] else f"--no-{flag}")
    words += [str(word) for word in config.get("extraArgs") or []]
    found = read_arguments("vllm", words)
    found.replicas *= int(model.get("replicaCount") or 1)
    unread = sorted(set(config) - {*_CONFIG_KEYS, *_SWITCH_KEYS, "extraArgs"})
    found.not_modelled += [(f"vllmConfig.{key}: {config[key]}", "is not known to servesim") for key in unread]
    found.not_modelled += [(key, effect) for key, effect in _EXTRAS.items() if _enabled(model.get(key))]
    return found


def _enabled(part: Any) -> bool:
    return isinstance(part, dict) and part.get("enabled") is True
