"""`servesim run` with replications: options, words, files, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from servesim.cli import main
from servesim.experiment.seeds import replication_seeds

SCENARIO = """
name: small
seed: 3
workload:
  num_requests: 400
  classes:
    chat:
      arrivals: {kind: poisson, request_rate_rps: 4.0}
      prompt_tokens: 100
      output_tokens: {kind: geometric, mean_tokens: 20.0}
      slo: {ttft_s: 0.2, attainment: 0.5}
pools:
  main:
    engine: {kind: continuous, max_num_seqs: 16, num_gpu_blocks: unlimited}
    service_time: {kind: affine, base_s: 0.01}
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SCENARIO)
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["run", *map(str, arguments)])


def test_the_summary_names_every_seed_and_one_run_with_it_is_that_replicate(scenario: Path, tmp_path: Path) -> None:
    done = run(scenario, "--replications", "4", "-o", tmp_path / "many", "--format", "json")
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout)
    assert summary == json.loads((tmp_path / "many" / "summary.json").read_text())
    assert summary["schema_version"] == 2
    assert summary["replications"]["seeds"] == replication_seeds(3, 4)
    one = [
        json.loads(run(scenario, "--seed", str(seed), "--format", "json").stdout)["classes"]["all"]["e2e_s"]["mean"]
        for seed in summary["replications"]["seeds"]
    ]
    interval = summary["intervals"]["classes"]["all"]["e2e_s"]["mean"]
    assert interval["low"] < sum(one) / 4 < interval["high"] < 2 * max(one)
    assert summary["classes"]["all"]["e2e_s"]["mean"] == pytest.approx(sum(one) / 4, rel=1e-12)
    assert len(pd.read_parquet(tmp_path / "many" / "requests.parquet")) == 400


@pytest.mark.parametrize("style", ["table", "markdown"])
def test_people_see_the_interval_and_the_calibrations_own_error(scenario: Path, style: str) -> None:
    text = run(scenario, "--replications", "3", "--format", style, "--set", "workload.num_requests=5000").stdout
    words = " ".join(text.replace("\\", "").split())
    assert "3 replications of seed 3" in words
    assert "95 %, 3 replications; calibration error unknown" in words
    assert "95 % interval" in words
    assert " ms to " in words
    single = " ".join(run(scenario).stdout.split())
    assert "seed 3" in single
    assert "no interval for" in single


def test_a_precision_that_is_not_reached_is_a_warning_only(scenario: Path) -> None:
    done = run(scenario, "--precision", "0.0001", "--max-replications", "10", "--metric", "e2e_s.mean")
    assert done.exit_code == 0
    assert "precision 0.01 % not reached in 10 replications: e2e_s.mean reached" in done.stderr
    assert "not reached" not in run(scenario, "--precision", "0.9", "--metric", "e2e_s.mean").stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--replications", "0"), "--replications"),
        (("--replications", "3", "--precision", "0.1"), "either"),
        (("--max-replications", "20"), "--precision"),
        (("--metric", "e2e_s.mean"), "--precision"),
        (("--precision", "1.5"), "--precision"),
        (("--precision", "0.1", "--metric", "e2e.p99"), "did you mean"),
        (("--workers", "0", "--replications", "2"), "--workers"),
    ],
)
def test_bad_options_exit_with_2(scenario: Path, options: tuple[str, ...], message: str) -> None:
    done = run(scenario, *options)
    assert done.exit_code == 2
    assert message in done.stderr


def test_strict_looks_at_all_replications(scenario: Path) -> None:
    asked = ("--replications", "3", "--strict", "--set")
    assert run(scenario, *asked, "workload.classes.chat.slo.attainment=0.5").exit_code == 0
    missed = run(scenario, *asked, "workload.classes.chat.slo={ttft_s: 0.011, attainment: 1.0}")
    assert missed.exit_code == 3
    assert "class chat:" in missed.stderr


def test_a_warm_up_is_stated(scenario: Path) -> None:
    text = " ".join(run(scenario, "--set", "measurement.warmup={requests: 50}").stdout.split())
    assert "warm-up: the first 50 requests, until" in text
    assert "350" in text
