"""From the command, or the file, that starts a server to the settings of a pool."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from servesim.deploy.flags import NUMBER, SERVERS, SWITCH, WHOLE, Flag
from servesim.deploy.not_modelled import effect_of, takes_no_value
from servesim.errors import InputError

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "K": 2**10, "M": 2**20, "G": 2**30}
_MODEL = ("--model", "--model-path", "--model-id")
_REPLICAS = ("--data-parallel-size", "-dp", "--dp-size", "--dp")
_CONFIG_KEYS = {
    "maxModelLen": "--max-model-len",
    "tensorParallelSize": "--tensor-parallel-size",
    "maxNumSeqs": "--max-num-seqs",
    "gpuMemoryUtilization": "--gpu-memory-utilization",
    "dtype": "--dtype",
}
_SWITCH_KEYS = {"enableChunkedPrefill": "enable-chunked-prefill", "enablePrefixCaching": "enable-prefix-caching"}


@dataclass
class Deployed:
    """What a command says: the server, the model, engine settings by name, replicas, and what is not modelled.

    `not_modelled` has (flag as written, what it would do); `others` are the models of further servers in the file.
    """

    server: str
    model: str
    replicas: int = 1
    engine: dict[str, Any] = field(default_factory=dict)
    not_modelled: list[tuple[str, str]] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


def read(text: str) -> Deployed:
    """Return what a command line says, or a file with one: a script, Helm values, docker-compose, a Deployment.

    Raises InputError if none can be read.
    """
    path = Path(text)
    short = "\n" not in text and len(text) < 1000
    is_yaml = path.suffix in (".yaml", ".yml")
    if short and (is_yaml or path.is_file()):
        try:
            written = path.read_text(encoding="utf-8")
            if not is_yaml:
                return read_command(written)
            content = yaml.safe_load(written)
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"--from {text}: cannot be read: {error}") from None
        except yaml.YAMLError as error:
            raise InputError(f"--from {text}: is not YAML: {' '.join(str(error).split())}") from None
        return _from_file(content, text)
    return read_command(text)


def read_command(text: str) -> Deployed:
    """Return what a command line says: vllm serve, sglang.launch_server or TGI's launcher, also in docker run."""
    try:
        words = shlex.split(text.replace("\\\n", " "), comments=True)
    except ValueError as error:
        raise InputError(f"--from: cannot be split into words: {error}") from None
    server, rest = _server(words)
    return _Reader(server).read(rest)


def _server(words: list[str]) -> tuple[str, list[str]]:
    """Return which server a command starts, and its arguments."""
    for index, word in enumerate(words):
        name = word.rsplit("/", 1)[-1]
        after = words[index + 1 :]
        if name == "vllm" and after[:1] == ["serve"]:
            return "vllm", after[1:]
        if word == "vllm.entrypoints.openai.api_server" or re.match(r"(.*/)?vllm-openai(:|@|$)", word):
            return "vllm", after
        if name == "sglang" and after[:1] == ["serve"]:
            return "sglang", after[1:]
        if word in ("sglang.launch_server", "sglang_router.launch_server"):
            return "sglang", after
        if name == "text-generation-launcher" or re.match(r"(.*/)?text-generation-inference(:|@|$)", word):
            return "tgi", after
    raise InputError(
        "--from: no server found; expected 'vllm serve MODEL ...', 'python -m sglang.launch_server --model-path ...', "
        "'text-generation-launcher --model-id ...', or a YAML file with one of them"
    )


class _Reader:
    """Reads the arguments of one server."""

    def __init__(self, server: str) -> None:
        self._flags: dict[str, tuple[Flag, bool]] = {}
        for flag in SERVERS[server]:
            for name in (flag.name, *flag.others):
                self._flags[name] = (flag, True)
            if flag.off:
                self._flags[flag.off] = (flag, False)
        self._found = Deployed(server, "")

    def read(self, words: list[str]) -> Deployed:
        """Return what the arguments say; InputError without a model or with a value that cannot be read."""
        left = list(words)
        while left:
            word = left.pop(0)
            if not word.startswith("-"):
                self._positional(word)
                continue
            name, equals, value = word.partition("=")
            name = "--" + name[2:].replace("_", "-") if name.startswith("--") else name
            self._flag(name, [value] if equals else [], left)
        if not self._found.model:
            raise InputError("--from: the command names no model")
        self._couple()
        return self._found

    def _couple(self) -> None:
        """Take data-parallel groups that share experts for one replica instead of several."""
        found = self._found
        if found.engine.get("enable_expert_parallel") and found.replicas > 1:
            found.engine["data_parallel_size"], found.replicas = found.replicas, 1
            found.not_modelled = [one for one in found.not_modelled if one[0].split(" ")[0] not in _REPLICAS]

    def _positional(self, word: str) -> None:
        if self._found.model:
            self._found.not_modelled.append((word, "is not known to servesim"))
        else:
            self._found.model = word

    def _flag(self, name: str, given: list[str], left: list[str]) -> None:
        known = self._flags.get(name)
        if known is not None and known[0].kind == SWITCH:
            flag, state = known
            value = given[0].lower() not in ("false", "0") if given else True
            self._found.engine[flag.setting] = state if value else not state
            return
        if name in self._flags or name in _MODEL or name in _REPLICAS or name == "--dtype":
            if not given and not left:
                raise InputError(f"--from: {name} has no value")
            self._valued(name, given[0] if given else left.pop(0))
            return
        if self._priority(name):
            return
        has_value = bool(left) and not takes_no_value(name) and not re.match(r"-[-A-Za-z]", left[0])
        unread = given or ([left.pop(0)] if has_value else [])
        self._found.not_modelled.append((" ".join((name, *unread)), effect_of(name)))

    def _priority(self, name: str) -> bool:
        """Read SGLang's two flags for priorities of which the lower go first, as here."""
        if self._found.server != "sglang" or name not in (
            "--enable-priority-scheduling",
            "--schedule-low-priority-values-first",
        ):
            return False
        self._found.engine["scheduler"] = "priority"
        return True

    def _valued(self, name: str, value: str) -> None:
        found = self._found
        if name in _MODEL:
            found.model = value
        elif name in _REPLICAS:
            found.replicas = _whole(name, value)
            found.not_modelled.append((f"{name} {value}", "is simulated as so many replicas behind the pool's router"))
        elif name == "--dtype":
            self._dtype(value)
        elif name == "--chunked-prefill-size" and value == "-1":
            found.engine["enable_chunked_prefill"] = False
        elif name == "--max-model-len" and value in ("-1", "auto"):
            found.not_modelled.append((f"{name} {value}", "lets memory decide; simulated with the model's own limit"))
        else:
            self._setting(self._flags[name][0], name, value)

    def _setting(self, flag: Flag, name: str, value: str) -> None:
        engine = self._found.engine
        if flag.kind == WHOLE:
            engine[flag.setting] = _whole(name, value)
        elif flag.kind == NUMBER:
            try:
                engine[flag.setting] = float(value)
            except ValueError:
                raise InputError(f"--from: {name}: expected a number, got {value!r}") from None
        else:
            back = {theirs: ours for ours, theirs in flag.words.items() if ours not in ("fp8_e4m3",)}
            self._word(flag.setting, name, value, back.get(value, value))

    def _word(self, setting: str, name: str, value: str, ours: str) -> None:
        from servesim.catalog.precision import quantizations

        if setting == "quantization" and ours not in quantizations():
            note = "is not a weight format of servesim; give --quantization, or a model published in it"
            self._found.not_modelled.append((f"{name} {value}", note))
        elif setting == "scheduler" and ours not in ("fcfs", "priority"):
            self._found.not_modelled.append((f"{name} {value}", "orders the queue otherwise; simulated as fcfs"))
        else:
            self._found.engine[setting] = ours

    def _dtype(self, value: str) -> None:
        """Read the width of arithmetic; weights stay as they are published, so 16 bits say nothing new."""
        if value not in ("auto", "bfloat16", "half", "float16"):
            self._found.not_modelled.append((f"--dtype {value}", "would compute in 32 bits; simulated in 16"))


def _whole(name: str, value: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmMgG]?)", value)
    if found is None or not (float(found[1]) * _UNITS[found[2]]).is_integer():
        raise InputError(f"--from: {name}: expected a whole number, got {value!r}")
    return int(float(found[1]) * _UNITS[found[2]])


def _from_file(content: Any, name: str) -> Deployed:
    """Return the first server of a file, with the models of the others."""
    servers = list(_servers(content))
    if not servers:
        raise InputError(f"--from {name}: holds neither modelURL (Helm values) nor a command of a known server")
    first, *others = servers
    first.others = [other.model for other in others]
    return first


def _servers(content: Any) -> Iterator[Deployed]:
    for part in _mappings(content):
        if isinstance(part.get("modelURL"), str):
            yield _from_values(part)
            continue
        words = _words(_listed(part.get("command")) + _listed(part.get("args")))
        image = [str(part["image"])] if isinstance(part.get("image"), str) else []
        for line in (words, [*image, *words]):
            try:
                server, rest = _server(line)
            except InputError:
                continue
            yield _Reader(server).read(rest)
            break


def _mappings(content: Any) -> Iterator[dict[str, Any]]:
    if isinstance(content, dict):
        yield content
        for value in content.values():
            yield from _mappings(value)
    elif isinstance(content, list):
        for value in content:
            yield from _mappings(value)


def _listed(value: Any) -> list[str]:
    if isinstance(value, str):
        return shlex.split(value.replace("\\\n", " "))
    return [str(part) for part in value] if isinstance(value, list) else []


def _words(parts: list[str]) -> list[str]:
    """Return a command's words; a shell's script in it is split, too."""
    if parts[:1] and parts[0].rsplit("/", 1)[-1] in ("sh", "bash") and len(parts) > 1:
        return shlex.split(parts[-1].replace("\\\n", " "))
    return parts


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
    found = _Reader("vllm").read(words)
    found.replicas *= int(model.get("replicaCount") or 1)
    unread = sorted(set(config) - {*_CONFIG_KEYS, *_SWITCH_KEYS, "extraArgs"})
    found.not_modelled += [(f"vllmConfig.{key}: {config[key]}", "is not known to servesim") for key in unread]
    return found
