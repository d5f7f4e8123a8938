"""Against a server in a process of its own, whose iterations take known times; loopback only."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

pytest.importorskip("aiohttp")

from servesim.calibrate.endpoint_drive import Design, drive
from servesim.catalog.calibrations import read_calibration
from servesim.cli import main
from servesim.service_time.calibrated import CalibratedIterationTime
from tests.calibrate.timed_server import ADMISSION_S, BLOCKS, TRUTH
from tests.data import ROOT

TARGET = [
    "--model",
    "mine",
    "--gpu",
    "loopback",
    "--unlisted",
    "--max-num-batched-tokens",
    "512",
    "--max-num-seqs",
    "64",
]


@contextmanager
def timed_server(*flags: str) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.calibrate.timed_server", *flags], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()


def endpoint(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["calibrate", "endpoint", *map(str, arguments), *TARGET])


@pytest.mark.slow
def test_a_server_of_known_speed_is_recovered_from_outside(tmp_path: Path) -> None:
    """Within 5 %, in wall-clock time: iterations take 20 ms and more, timers of a quiet machine are late by about 1.

    On a busy machine they are late by as much as an iteration: then the tolerance is the 95 % interval of the fit.
    """
    out = tmp_path / "o.yaml"
    with timed_server() as url:
        load = ["--budget", "30s", "--max-concurrency", "16", "--max-prompt-tokens", "900", "--max-output-tokens", "40"]
        result = endpoint(url, *load, "--no-async-scheduling", "-o", out, "--picture", tmp_path / "o.png")
    assert result.exit_code == 0, result.output
    assert f"num_gpu_blocks: {BLOCKS}" in result.output
    entry = read_calibration(out)
    assert entry.estimates is not None
    found, errors = entry.coefficients, entry.estimates.standard_error
    pairs = 512 * 513 / 2
    times = CalibratedIterationTime(entry, 512, 64)
    checks = {
        "base": (found.base_s, TRUTH["base"], 2.1 * (errors["base"] or 0)),
        "context": (
            times.decode_line(16, 5000)[1],
            TRUTH["context_0"],
            2.1 * sum(error or 0 for name, error in errors.items() if name.startswith("context")),
        ),
        "a prompt of 512": (
            times.mixed_s(0, 0, 1, 512, int(pairs)) - found.base_s,
            TRUTH["dense_0"] * 512 + TRUTH["per_prefill_pair"] * pairs,
            2.1 * pairs * (errors["per_prefill_pair"] or 0),
        ),
    }
    for name, (value, truth, width) in checks.items():
        assert value == pytest.approx(truth, abs=max(0.05 * truth, width)), name
        assert width < 0.5 * truth, name  # an interval that says something
    assert entry.host.admission_s == pytest.approx(ADMISSION_S, abs=0.015)  # the network and this client are in it


@pytest.mark.slow
def test_a_server_that_takes_text_only_is_sent_text() -> None:
    with timed_server("--text") as url:
        seen = drive(url, Design(budget_s=2.0, max_concurrency=2, max_prompt_tokens=64, max_output_tokens=10))
    assert seen.text_prompts
    assert seen.num_gpu_blocks == BLOCKS
    assert [load.name for load in seen.loads] == ["1 clients", "2 clients"]
    assert all(
        len(times) == count
        for load in seen.loads
        for times, count in zip(load.token_s or (), load.output_tokens, strict=True)
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["127.0.0.1:9"], "expected the URL of a server"),
        (["http://127.0.0.1:9"], "does not answer"),
        (["http://127.0.0.1:9", "--budget", "soon"], "such as 90s or 10m"),
    ],
)
def test_what_is_no_server_is_refused(arguments: list[str], said: str, tmp_path: Path) -> None:
    result = endpoint(*arguments, "-o", tmp_path / "o.yaml")
    assert result.exit_code == 2, result.output
    assert said in result.output
    assert not (tmp_path / "o.yaml").exists()


def test_the_design_doubles_its_clients_up_to_the_most() -> None:
    assert list(Design(max_concurrency=1).phases()) == [1]
    assert list(Design(max_concurrency=16).phases()) == [1, 2, 4, 8, 16]
    assert list(Design(max_concurrency=20).phases()) == [1, 2, 4, 8, 16, 20]
