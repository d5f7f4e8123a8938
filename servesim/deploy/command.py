"""From the command that starts a server to the settings of a pool."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from typing import Any

from servesim.deploy.flags import NUMBER, SERVERS, SWITCH, WHOLE, Flag
from servesim.deploy.not_modelled import EFFECTS, effect_of, takes_no_value
from servesim.deploy.variables import filled_in
from servesim.errors import InputError, Problem
from servesim.scenario.load_allowed import suggestion

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "K": 2**10, "M": 2**20, "G": 2**30}
_MODEL = ("--model", "--model-path", "--model-id")
_REPLICAS = ("--data-parallel-size", "-dp", "--dp-size", "--dp")
_VARIABLE = re.compile(r"\$\w|\$[{(]")


@dataclass
class Deployed:
    """What a command says: the server, the model, engine settings by name, replicas, and what is not modelled.

    `not_modelled` has (flag as written, what it would do); `others` are the models of further servers in the file, and
    `taken` says what variables in the text were taken to be.
    """

    server: str
    model: str
    replicas: int = 1
    engine: dict[str, Any] = field(default_factory=dict)
    not_modelled: list[tuple[str, str]] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)


def read_command(text: str) -> Deployed:
    """Return what a command line says: vllm serve, sglang.launch_server or TGI's launcher, also in docker run."""
    whole, taken = filled_in(text)
    try:
        words = shlex.split(whole.replace("\\\n", " "), comments=True)
    except ValueError as error:
        raise InputError(f"cannot be split into words: {error}") from None
    found = read_arguments(*server_of(words))
    found.taken += taken
    return found


def read_arguments(server: str, words: list[str]) -> Deployed:
    """Return what the arguments of a server say; raises InputError with every value that cannot be read."""
    return _Reader(server).read(words)


def server_of(words: list[str]) -> tuple[str, list[str]]:
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
        "no server found; expected 'vllm serve MODEL ...', 'python -m sglang.launch_server --model-path ...', "
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
        self._faults: list[Problem] = []

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
            self._fault("", "the command names no model")
        if self._faults:
            raise InputError(self._faults)
        self._couple()
        return self._found

    def _fault(self, name: str, message: str, value: str = "") -> None:
        if _VARIABLE.search(value):
            message = f"the variable in {value!r} has no value here; write its value instead, or give it a default"
        self._faults.append(Problem(message, name))

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
                self._fault(name, "has no value")
                return
            self._valued(name, given[0] if given else left.pop(0))
            return
        if self._priority(name):
            return
        has_value = bool(left) and not takes_no_value(name) and not re.match(r"-[-A-Za-z]", left[0])
        unread = given or ([left.pop(0)] if has_value else [])
        near = "" if name in EFFECTS else suggestion(name, [*self._flags, *_MODEL, *_REPLICAS, *EFFECTS])
        self._found.not_modelled.append((" ".join((name, *unread)), effect_of(name) + near))

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
            found.replicas = self._whole(name, value)
            found.not_modelled.append((f"{name} {value}", "is simulated as so many replicas behind the pool's router"))
        elif name == "--dtype":
            self._dtype(value)
        elif name == "--chunked-prefill-size" and value == "-1":
            found.engine["enable_chunked_prefill"] = False
        elif name == "--max-model-len" and value in ("-1", "auto"):
            found.not_modelled.append((f"{name} {value}", "lets memory decide; simulated with the model's own limit"))
        else:
            self._setting(self._flags[name][0], name, value)

    def _whole(self, name: str, value: str) -> int:
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmMgG]?)", value)
        if found is None or not (float(found[1]) * _UNITS[found[2]]).is_integer() or float(found[1]) <= 0:
            self._fault(name, f"expected a whole number above 0, such as 128 or 8k, got {value!r}", value)
            return 1
        return int(float(found[1]) * _UNITS[found[2]])

    def _setting(self, flag: Flag, name: str, value: str) -> None:
        engine = self._found.engine
        if flag.kind == WHOLE:
            engine[flag.setting] = self._whole(name, value)
        elif flag.kind == NUMBER:
            try:
                engine[flag.setting] = float(value)
            except ValueError:
                self._fault(name, f"expected a number, got {value!r}", value)
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
