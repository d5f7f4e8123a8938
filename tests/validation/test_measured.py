"""Measured files: every format gives the same requests, and what cannot be compared is refused in one sentence."""

from __future__ import annotations

import contextlib
import json
import re
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
    ("row", "says"),
    [
        ("-8,80,9.5", "row 2: concurrency is -8: expected a whole number from 1"),
        ("2.5,80,9.5", "row 2: concurrency is 2.5"),
        ("1e18,80,9.5", "row 2: concurrency is 1e.18"),
        ("8,slow,9.5", "row 2: ttft is 'slow': expected a number"),
        ("8,-80,9.5", "row 2: ttft is -80"),
    ],
)
def test_a_load_that_cannot_be_is_refused(row: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "loads.csv"
    path.write_text(f"concurrency,ttft,tpot\n4,80,9.5\n{row}\n")
    with pytest.raises(InputError, match=f"{path}: {says}"):
        read_measured(path)
    for changes, said in (({"completed": 0}, "completed is 0"), ({"request_rate": -4}, "request_rate is -4")):
        with pytest.raises(InputError, match=said):
            read_measured(files.vllm_plain(tmp_path / "plain.json", **changes))


def test_rows_without_a_latency_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "loads.csv"
    path.write_text("concurrency,ttft,tpot\n4,80,9.5\n8,,\n")
    (row,) = read_measured(path)
    assert row.notes == ("1 of 2 rows hold no latency and are left out",)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("arrival,prompt_tokens,output_tokens\n0,5,5\n", "no column of latencies .* it has arrival, prompt_tokens"),
        ("arrival,prompt_tokens,output_tokens,ttft_s\n", "no request with a latency"),
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


def test_files_that_cannot_be_opened_are_named_alike(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    for path, says in ((tmp_path / "none.json", "no such file"), (tmp_path, "is a directory; expected a file")):
        with pytest.raises(InputError, match=f"{path}: {says}"):
            read_measured(path)
    with pytest.raises(InputError, match=r"empty\.csv: the file is empty"):
        read_measured(tmp_path / "empty.csv")


HEAD = "arrival_s,prompt_tokens,output_tokens,ttft_s,e2e_s\n0,5,5,0.1,0.5\n"


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (
            "1,1000000000000000000,5,0.1,0.5",
            "request 2: prompt tokens are 1e.18: expected a whole number, 1 to 10000000",
        ),
        ("1,5,1000000000000000000,0.1,0.5", "request 2: output tokens are 1e.18"),
        ("1,-5,5,0.1,0.5", "request 2: prompt tokens are -5"),
        ("1,5,-5,0.1,0.5", "request 2: output tokens are -5"),
        ("1,5,3.7,0.1,0.5", "request 2: output tokens are 3.7"),
        ("1,,5,0.1,0.5", "request 2: prompt tokens are missing"),
        (",5,5,0.1,0.5", "arrival is missing in 1 of 2 completed requests, first in number 2"),
        ("inf,5,5,0.1,0.5", "arrival is infinite in 1 of 2"),
        ("1,5,5,soon,0.5", "row 2: ttft_s is 'soon': expected a number"),
        ("yesterday,5,5,0.1,0.5", "row 2: arrival_s is 'yesterday': expected a number"),
    ],
)
def test_a_value_that_no_request_has_is_named_with_its_place(row: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(f"{HEAD}{row}\n")
    with pytest.raises(InputError, match=f"{path}: .*{says}"):
        read_measured(path)


def a_vllm_run(path: Path, **changes: object) -> Path:
    run = json.loads(files.vllm_bench(path).read_text())
    path.write_text(json.dumps(run | changes))
    return path


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"ttfts": [0.1, 0.2]}, "lists of different lengths: .*ttfts 2"),
        ({"ttfts": [0.1, "late", 0.2, 0]}, "request 2: TTFT is 'late': expected a number"),
        ({"input_lens": [100, 10**30, 300, 5]}, "request 2: prompt tokens are 10000"),
        ({"input_lens": [100, None, 300, 5]}, "request 2: prompt tokens are missing"),
    ],
)
def test_lists_of_a_benchmark_are_checked_element_by_element(changes: dict, says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=says):
        read_measured(a_vllm_run(tmp_path / "bench.json", **changes))


@pytest.mark.parametrize("kind", ["guidellm", "aiperf", "inference_perf"])
def test_a_record_without_its_fields_is_named_or_counted(kind: str, tmp_path: Path) -> None:
    """The first value of a kind in the file becomes null: a length or arrival is refused, a latency only missing."""
    whole = files.PER_REQUEST[kind](tmp_path / "whole.json").read_text()
    outcomes = set()
    for field in re.findall(r'"(\w+)": [0-9.]+', whole):
        path = tmp_path / "part.json"
        path.write_text(re.sub(rf'("{field}": )[0-9.]+', r"\1null", whole))
        with contextlib.suppress(InputError):  # nothing else may be raised
            outcomes.add(type(read_measured(path)))
            continue
        outcomes.add(InputError)
    assert outcomes == {Run, InputError}


def test_two_detailed_benchmarks_in_a_file_are_not_taken_for_averages(tmp_path: Path) -> None:
    path = files.vllm_bench(tmp_path / "bench.jsonl")
    path.write_text(f"{path.read_text()}\n{path.read_text()}\n")
    with pytest.raises(InputError, match="holds 2 benchmarks with single requests"):
        read_measured(path)


def test_a_json_list_dates_and_utf16_are_read(tmp_path: Path) -> None:
    """What a data frame writes, and what a spreadsheet does."""
    rows = [("2024-05-10 23:59:59.5", 5, 7, 0.1, 0.5), ("2024-05-11 00:00:01", 6, 8, 0.2, 0.6)]
    names = ("arrival_s", "prompt_tokens", "output_tokens", "ttft_s", "e2e_s")
    (tmp_path / "list.json").write_text(json.dumps([dict(zip(names, row, strict=True)) for row in rows]))
    text = "\n".join([",".join(names), *(",".join(map(str, row)) for row in rows)])
    (tmp_path / "16.csv").write_bytes(text.encode("utf-16"))
    for name in ("list.json", "16.csv"):
        run = read_measured(tmp_path / name)
        assert isinstance(run, Run)
        assert run.arrival_s.tolist() == [0.0, 1.5]
        assert run.e2e_s.tolist() == [0.5, 0.6]
    (tmp_path / "empty.json").write_text("[]")
    with pytest.raises(InputError, match="the list is empty"):
        read_measured(tmp_path / "empty.json")


def test_what_is_left_out_missing_or_doubled_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(f"{HEAD}1,5,5,,0.5\n2,5,,0.1,0.5\n3,5,0,0.1,0.5\n4,5,5,0.1,0.5\n4,5,5,0.1,0.5\n")
    run = read_measured(path)
    assert isinstance(run, Run)
    left_out, missing, copies = run.notes
    assert left_out.startswith("2 of 6 requests are left out")
    assert missing.startswith("the TTFT of 1 of 4 requests is missing")
    assert copies.startswith("1 of 4 requests equal another one")
    path.write_text(HEAD)
    assert read_measured(path).notes == ()


def test_a_latency_that_few_requests_have_has_no_noise_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("arrival,prompt_tokens,output_tokens,ttft_s,e2e_s\n0,5,5,,0.5\n1,5,5,0.1,0.6\n")
    run = read_measured(path)
    assert isinstance(run, Run)
    assert noise([run]) == {}


@pytest.mark.parametrize("share", ["nan", "inf"])
@pytest.mark.parametrize("what", [["log.csv", "--scenario", "s.yaml"], ["live"]], ids=["file", "live"])
def test_a_gate_that_cannot_fail_is_refused(share: str, what: list[str]) -> None:
    refused = CliRunner().invoke(main, ["validate", *what, "--max-error", share])
    assert refused.exit_code == 2
    assert "expected a share such as 0.1" in refused.output
