"""The live validation on a made-up machine whose truth is known, and on the real one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from servesim.calibrate.torch_clock import Arrival
from servesim.calibrate.torch_server import Part, ServerSettings
from servesim.catalog.calibrations import Key
from servesim.cli.validate_live import live as command
from servesim.validation.live import Live, LiveServer, calibrated, validated
from servesim.validation.live_plan import CALIBRATION, PREDICTED, Traffic, burst, live
from servesim.validation.live_text import live_lines, live_picture

SETTINGS = ServerSettings(max_num_seqs=8, max_num_batched_tokens=128, max_model_len=256)
KEY = Key("made-up", "none", "torch", 1, "fp32", "fp32")


class Time:
    """A clock that the computer moves; every server starts at 0 with it."""

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


@dataclass
class Machine:
    """An iteration takes 2 ms, 20 us for each token and 50 ns for each token before it; with scatter."""

    scatter: float = 0.02
    slower: float = 1.0
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def compute(self, parts: Sequence[Part]) -> list[int]:
        tokens, context = sum(len(p.tokens) for p in parts), sum(p.before * len(p.tokens) for p in parts)
        seconds = 2e-3 + 2e-5 * tokens + 5e-8 * context
        Time.now += self.slower * seconds * float(np.exp(self.rng.normal(0, self.scatter)))
        return [0 for p in parts if p.emits]


def found_on(machine: Machine, seconds: float = 40.0) -> Live:
    return live(LiveServer(machine, 100, SETTINGS, Time), seconds, KEY)


def test_a_known_machine_is_predicted_within_its_noise() -> None:
    found = found_on(Machine())
    assert found.typical("blind") < 0.03
    assert found.typical("own_times") < 0.005
    assert found.speed == pytest.approx(1.0, abs=0.01)
    assert found.explanation().startswith("nothing to explain")
    assert 0.3 < found.utilisation <= 1.0
    assert found.fitted.values["base"] == pytest.approx(2e-3, rel=0.05)


def test_a_machine_that_slows_down_is_found_out_and_one_factor_mends_it() -> None:
    machine = Machine()
    server = LiveServer(machine, 100, SETTINGS, Time)
    loads = [Traffic(20.0, 150, 48, 16), Traffic(50.0, 150, 48, 16)]
    known = calibrated(server, [load.draw(SETTINGS, 1 + i) for i, load in enumerate(loads)], KEY)
    machine.slower = 1.3
    found = validated(server, known, Traffic(30.0, 200, 72, 11).draw(SETTINGS, 9))
    assert found.speed == pytest.approx(1.3, rel=0.02)
    assert found.typical("blind") > 0.2
    assert found.typical("with_speed") < 0.03
    assert "machine speed: this run's iterations took 1.3" in found.explanation()


def test_a_wrong_model_of_the_server_is_not_explained_away() -> None:
    """A server that computes prompts alone, without decoding meanwhile, is not what is simulated."""

    class Serial(Machine):
        def compute(self, parts: Sequence[Part]) -> list[int]:
            for part in parts:  # one sequence at a time: batching gains nothing
                super().compute([part])
            return [0 for p in parts if p.emits]

    server = LiveServer(Machine(), 100, SETTINGS, Time)
    known = calibrated(server, [Traffic(40.0, 300, 48, 16).draw(SETTINGS, 1)], KEY)
    wrong = LiveServer(Serial(), 100, SETTINGS, Time)
    found = validated(wrong, known, Traffic(30.0, 200, 72, 11).draw(SETTINGS, 9))
    assert found.typical("blind") > 0.2
    assert not found.explanation().startswith("nothing")


def test_what_is_printed_and_drawn(tmp_path: Path) -> None:
    found = found_on(Machine(), 10.0)
    text = list(live_lines(found))
    assert sum(line.startswith(("TTFT", "TPOT", "E2E")) for line in text) == 9
    assert "clock: made up" in text[0]
    written = json.loads(json.dumps(found.to_json()))
    assert written["errors"]["ttft_s.p50"]["repeat_noise"] >= 0
    assert f"{written['requests']} requests" in text[0]
    live_picture(found, tmp_path / "live.png")
    assert (tmp_path / "live.png").stat().st_size > 10_000


def test_traffic_is_poisson_and_fits_the_server() -> None:
    """The mean gap of 4,000 lies within 4 standard errors (of 1/63) of the rate's inverse."""
    trace = Traffic(50.0, 4000, 72, 11).draw(SETTINGS, 0)
    gaps = np.diff([one.time_s for one in trace])
    assert gaps.mean() == pytest.approx(0.02, rel=4 / np.sqrt(4000))
    assert gaps.std() == pytest.approx(0.02, rel=0.1)
    assert max(one.prompt_tokens + one.output_tokens for one in trace) <= SETTINGS.max_model_len
    assert np.median([one.prompt_tokens for one in trace]) == pytest.approx(72, rel=0.05)
    assert {one.time_s for one in burst(PREDICTED, SETTINGS, 9, 0)} == {0.0}
    assert CALIBRATION.prompt_median != PREDICTED.prompt_median


@pytest.mark.parametrize(("arguments", "message"), [
    (["--seconds", "long"], "expected a time such as 90s"),
    (["--device", "gpu"], "'gpu' is not one of"),
    (["--threads", "0"], "0 is not in the range"),
])  # fmt: skip
def test_bad_usage(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.slow
def test_a_real_transformer_is_predicted_on_this_machine(tmp_path: Path) -> None:
    """The gate: the median blind error below 20 %, or twice what the same traffic differs by when served again."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    arguments = [
        "--clock",
        "cpu",
        "--threads",
        "1",
        "--seconds",
        "30s",
        "--max-error",
        "0.2",
        "-o",
        str(tmp_path / "o"),
    ]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "o" / "live.json").read_text())
    assert found["median"]["own_times"] < 0.05
    assert found["calibration"]["provenance"]["rows"] > 200
