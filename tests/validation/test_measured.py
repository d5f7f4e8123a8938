"""Measured files: every format gives the same requests, and what cannot be compared is refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from servesim.cli import main
from servesim.errors import InputError
from servesim.validation.errors import noise
from servesim.validation.measured import read_measured
from servesim.validation.runs import Run
from tests.validation import files


@pytest.mark.parametrize("kind", sorted(files.PER_REQUEST))
def test_every_format_holds_the_same_requests(kind: str, tmp_path: Path) -> None:
    run = read_measured(files.PER_REQUEST[kind](tmp_path / f"{kind}.json"))
    assert isinstance(run, Run)
    arrival, prompt, output, ttft, e2e = (np.array(column) for column in zip(*files.ROWS, strict=True))
    np.testing.assert_allclose(run.arrival_s, arrival, atol=1e-6)
    assert run.prompt_tokens.tolist() == prompt.tolist()
    assert run.output_tokens.tolist() == output.tolist()
    np.testing.assert_allclose(run.ttft_s, ttft, atol=1e-6)
    np.testing.assert_allclose(run.e2e_s, e2e, atol=1e-6)
    np.testing.assert_allclose(run.tpot_s, (e2e - ttft) / (output - 1), atol=1e-6)
    assert run.timed


def test_token_gaps_are_pooled_where_the_file_has_them(tmp_path: Path) -> None:
    run = read_measured(files.vllm_bench(tmp_path / "bench.json"))
    assert isinstance(run, Run)
    assert run.itl is not None
    assert run.itl["mean"] == pytest.approx((0.2 + 0.8 + 0.1) / 7)


def test_a_file_without_times_says_so(tmp_path: Path) -> None:
    run = read_measured(files.vllm_bench(tmp_path / "bench.json", timed=False))
    assert isinstance(run, Run)
    assert not run.timed


def test_aggregate_rows_keep_their_statistics_and_load(tmp_path: Path) -> None:
    (row,) = read_measured(files.vllm_plain(tmp_path / "plain.json"))
    assert row.statistics == {
        "ttft_s.mean": 0.05,
        "ttft_s.p50": 0.04,
        "ttft_s.p99": 0.09,
        "tpot_s.mean": 0.01,
        "requests_per_s": 1.0,
    }
    assert (row.max_concurrency, row.request_rate_rps, row.num_requests) == (4, None, 100)
    assert (row.prompt_tokens, row.output_tokens) == (100, 50)


def test_a_table_of_loads_gives_a_row_each(tmp_path: Path) -> None:
    path = tmp_path / "loads.csv"
    path.write_text("isl,osl,concurrency,ttft,tpot\n1024,512,4,80,9.5\n1024,512,8,120,11\n")
    first, second = read_measured(path)
    assert first.statistics == {"ttft_s.mean": 0.08, "tpot_s.mean": 0.0095}
    assert (second.max_concurrency, second.prompt_tokens, second.output_tokens) == (8, 1024, 512)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("arrival,prompt_tokens,output_tokens\n0,5,5\n", "no request with a latency"),
        ("a,b\n1,2\n", "no column of arrivals or aggregate latencies; it has a, b"),
        ("arrival,prompt_tokens,ttft_s\n0,5,0.1\n", "no column of output tokens"),
        (
            "arrival,prompt_tokens,output_tokens,ttft_s,e2e_s\n0,5,5,0.1,0.5\n1,5,5,-0.1,0.5\n",
            "TTFT is negative or infinite in 1 of 2 .* first in number 2",
        ),
        ("arrival,prompt_tokens,output_tokens,ttft_s,e2e_s\n0,5,5,0,0\n", "E2E is not above 0"),
        ("arrival,prompt_tokens,output_tokens,ttft_s,e2e_s\n0,5,5,100,0.5\n", "E2E is below TTFT"),
        ("arrival,prompt_tokens,output_tokens,ttft_s\n0,5,5,0\n", "every latency is 0"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:00:00,5,5\n", "azure holds no latencies"),
    ],
)
def test_what_cannot_be_compared_is_refused(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=says) as refused:
        read_measured(path)
    assert str(path) in str(refused.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        read_measured(tmp_path / "none.json")


def test_a_latency_that_few_requests_have_still_has_a_noise(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("arrival,prompt_tokens,output_tokens,ttft_s,e2e_s\n0,5,5,,0.5\n1,5,5,0.1,0.6\n")
    run = read_measured(path)
    assert isinstance(run, Run)
    assert noise([run])["ttft_s.mean"] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("share", ["nan", "inf"])
@pytest.mark.parametrize("what", [["log.csv", "--scenario", "s.yaml"], ["live"]], ids=["file", "live"])
def test_a_gate_that_cannot_fail_is_refused(share: str, what: list[str]) -> None:
    refused = CliRunner().invoke(main, ["validate", *what, "--max-error", share])
    assert refused.exit_code == 2
    assert "expected a share such as 0.1" in refused.output
