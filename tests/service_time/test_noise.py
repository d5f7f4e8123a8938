from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

import servesim
from servesim.errors import InputError
from servesim.scenario.load import parse
from servesim.service_time.base import Deployment
from servesim.service_time.calibrated import Calibrated
from servesim.service_time.noise import IterationNoise, NoiseLaw
from tests.calibrate.made_up import recorded_lines, write_lines


def test_factors_belong_to_iterations_whoever_asks_first() -> None:
    forth, back = (IterationNoise(NoiseLaw(0.2, 3), np.random.default_rng(5)) for _ in range(2))
    there = [forth.at(i) for i in range(5000)]
    assert [back.at(i) for i in reversed(range(5000))] == there[::-1]
    assert [left for _, left in there[:4]] == [3, 2, 1, 3]
    assert there[0][0] == there[2][0] != there[3][0]


def test_factors_have_the_law_they_name() -> None:
    noise = IterationNoise(NoiseLaw(0.2), np.random.default_rng(1))
    logs = np.log([noise.at(i)[0] for i in range(40_000)])
    assert abs(logs.mean()) < 4 * 0.2 / math.sqrt(len(logs))
    assert logs.std() == pytest.approx(0.2, rel=4 / math.sqrt(2 * len(logs)))


SCENARIO = """
name: noisy
workload:
  num_requests: 300
  classes:
    c:
      arrivals: {{kind: poisson, request_rate_rps: 4}}
      prompt_tokens: {{kind: uniform, min_tokens: 20, max_tokens: 400}}
      output_tokens: {{kind: uniform, min_tokens: 5, max_tokens: 60}}
pools:
  p:
    service_time: {{kind: calibrated, file: mine.yaml, noise: {noise}}}
    engine: {{host_time_s: 0, async_scheduling: false}}
"""


@pytest.fixture
def calibrated(tmp_path: Path) -> Path:
    """A calibration of a made-up engine whose iterations scatter by 5 %."""
    from click.testing import CliRunner

    from servesim.cli import main

    log = write_lines(tmp_path / "i.jsonl", recorded_lines(800, sigma=0.05))
    target = ["--model", "m", "--gpu", "g", "--unlisted", "-o", str(tmp_path / "mine.yaml")]
    result = CliRunner().invoke(main, ["calibrate", "vllm-log", str(log), *target])
    assert result.exit_code == 0, result.output
    return tmp_path


def test_a_scenario_switches_the_measured_scatter_on(calibrated: Path) -> None:
    """Same seed, same bytes; the span engine draws what the reference draws; iterations scatter by the 5 % measured."""
    noisy, plain = (parse(SCENARIO.format(noise=n), folder=calibrated) for n in ("true", "false"))
    runs = [servesim.simulate(noisy, seed=3) for _ in range(2)]
    reference = servesim.simulate(noisy, seed=3, reference=True)
    assert runs[0].requests.equals(runs[1].requests)
    np.testing.assert_array_equal(runs[0].requests["finish_s"], reference.requests["finish_s"])
    assert not runs[0].requests["finish_s"].equals(servesim.simulate(noisy, seed=4).requests["finish_s"])
    frame = runs[0].iterations
    times = Calibrated(file=str(calibrated / "mine.yaml")).build(Deployment())
    decode = frame[frame["prefill_tokens"] == 0]
    expected = []
    for row in decode.itertuples():
        base_s, slope_s, _ = times.decode_line(int(row.decode_seqs), int(row.context_tokens))
        expected.append(base_s + slope_s * row.context_tokens)
    scatter = np.log(decode["duration_s"] / expected).std()
    assert scatter == pytest.approx(0.05, rel=0.12)
    exact = servesim.simulate(plain, seed=3).iterations
    assert exact["duration_s"].std() < frame["duration_s"].std()


def test_noise_that_nobody_measured_is_refused() -> None:
    scenario = parse(
        "name: x\nworkload: {num_requests: 1, classes: {c: {arrivals: {kind: poisson, request_rate_rps: 1}, "
        "prompt_tokens: {kind: fixed, tokens: 9}, output_tokens: {kind: fixed, tokens: 9}}}}\n"
        "pools: {p: {model: llama-3.1-8b, gpu: h100_sxm, service_time: {kind: calibrated, noise: true}}}\n"
    )
    with pytest.raises(InputError, match="does not know its scatter"):
        servesim.simulate(scenario)
