"""`servesim workload describe` and `fit`, as a user calls them."""

import json
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from servesim.cli import main
from servesim.cli.workload import _FORMATS
from servesim.errors import InputError
from servesim.scenario.load import load
from servesim.workload.arrivals.log import LogArrivals
from servesim.workload.logs.formats import Format
from tests.catalog import configs
from tests.logs import samples


@pytest.fixture
def call():
    return lambda *arguments: CliRunner().invoke(main, ["workload", *map(str, arguments)])


@pytest.fixture
def log(tmp_path):
    """Write twenty minutes of Poisson requests, with two faulty rows and one out of order."""
    rng = np.random.default_rng(1)
    time_s = np.cumsum(rng.exponential(0.5, 2400))
    rows = [f"{t:.3f},{p},{o}\n" for t, p, o in zip(time_s, rng.integers(9, 999, 2400), rng.integers(1, 99, 2400),
                                                      strict=True)]  # fmt: skip
    rows[5], rows[6] = rows[6], rows[5]
    rows[100:100] = ["nan,5,5\n", "77,5,many\n"]
    path = tmp_path / "log.csv"
    path.write_text("ts,in,out\n" + "".join(rows))
    return path


COLUMNS = ("--columns", "arrival=ts,prompt_tokens=in,output_tokens=out")
LENIENT = (*COLUMNS, "--skip-faulty")


def test_formats_are_those_of_the_readers():
    assert get_args(Format) == _FORMATS


def test_describe_tells_figures_and_faults(call, log):
    result = call("describe", log, *COLUMNS, "--format", "json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["requests"] == 2400
    assert found["faults"]["faulty_rows"] == 2
    assert found["faults"]["out_of_order"] == 1
    assert [text.split(": ")[0].split(":")[-1] for text in found["faults"]["first"]] == ["102", "103"]
    assert found["arrivals"]["rate_rps"] == pytest.approx(2, rel=0.08)
    minute = next(row for row in found["arrivals"]["windows"] if row["window_s"] == 60)
    assert minute["burstiness"] == pytest.approx(1, abs=0.1)
    assert minute["constant_rate_p"] > 0.001
    assert found["lengths"]["prompt_tokens"]["p50"] == pytest.approx(504, abs=40)
    assert found["sessions"] is found["prefixes"] is None


def test_describe_sessions_and_prefixes(call, tmp_path):
    path = tmp_path / "qwen.jsonl"
    path.write_text(samples.QWEN)
    found = json.loads(call("describe", path, "--format", "json").stdout)
    counts = {"sessions": 2, "requests_in_sessions": 3, "mean_turns": 1.5, "max_turns": 2}
    assert found["sessions"].items() >= counts.items()
    # The first block of 16 tokens is reused twice, of 600 tokens in all.
    assert found["prefixes"]["reusable_share_of_prompt_tokens"] == pytest.approx(32 / 600)
    text = call("describe", path).stdout
    assert "sessions: 2 with 3 requests" in text


def test_describe_estimates_are_labelled(call, tmp_path):
    path = tmp_path / "sharegpt.json"
    path.write_text(samples.SHAREGPT)
    result = call("describe", path)
    assert result.exit_code == 0
    assert "estimates: characters / 4" in result.stdout
    assert "no times" in result.stdout


def test_fit_writes_a_part_and_a_check(call, log, tmp_path):
    part, picture = tmp_path / "part.yaml", tmp_path / "fit.png"
    result = call("fit", log, *COLUMNS, "--skip-faulty", "-o", part, "--picture", picture)
    assert result.exit_code == 0, result.output
    assert "not kept" in result.stdout
    document = yaml.safe_load(part.read_text())
    (spec,) = document["workload"]["classes"].values()
    assert spec["arrivals"]["kind"] == "gamma"
    assert spec["arrivals"]["request_rate_rps"] == pytest.approx(2, rel=0.08)
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    check = json.loads(call("fit", log, *COLUMNS, "--skip-faulty", "-o", part, "--force", "--format", "json").stdout)
    assert check["ks"]["prompt_tokens"] < 0.05


def test_whole_scenario_runs(call, log, tmp_path):
    whole = tmp_path / "whole.yaml"
    assert call("fit", log, *LENIENT, "-o", whole, "--whole").exit_code == 2
    result = call("fit", log, *LENIENT, "-o", whole, "--whole", "--model", "llama-3.1-8b", "--gpu", "h100_sxm")
    assert result.exit_code == 0, result.output
    run = CliRunner().invoke(main, ["run", str(whole), "--format", "json", "--set", "workload.duration_s=60"])
    assert run.exit_code == 0, run.output
    assert json.loads(run.stdout)["classes"]["all"]["offered"] > 60
    assert load(whole).pools["main"].service_time.kind == "calibrated"
    whole_again = call("fit", log, *LENIENT, "-o", whole, "--whole", "--model", "llama-3.1-8b", "--gpu", "h100_sxm")
    assert whole_again.exit_code == 2
    assert "exists already" in whole_again.stderr
    (tmp_path / "config.json").write_text(json.dumps(configs.LLAMA_32_1B))
    own = tmp_path / "own.yaml"
    assert call("fit", log, *LENIENT, "-o", own, "--whole", "--model", "config.json", "--gpu", "l4").exit_code == 0
    assert load(own).pools["main"].service_time.kind == "roofline"
    wrong = call("fit", log, *LENIENT, "-o", tmp_path / "x.yaml", "--whole", "--model", "lama", "--gpu", "h100_sxm")
    assert wrong.exit_code == 2
    assert not (tmp_path / "x.yaml").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--columns", "when=ts"], "when"),
        (["--log-format", "azure"], "missing column"),
        ([], "no column looks like"),
        (["--log-format", "parquet"], "Parquet"),
    ],
)
def test_bad_usage_is_one_message_and_exit_code_2(call, log, arguments, message):
    result = call("describe", log, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_a_missing_file_is_named(call, tmp_path):
    result = call("describe", tmp_path / "nothing.csv")
    assert result.exit_code == 2
    assert "nothing.csv: no such file" in result.stderr


@pytest.mark.parametrize("rows", [1, 2, 40])
def test_describe_takes_logs_of_any_size_and_sameness(call, tmp_path, rows):
    path = tmp_path / "same.csv"
    path.write_text("arrival_s,prompt_tokens,output_tokens\n" + "".join(f"{n},7,7\n" for n in range(rows)))
    found = json.loads(call("describe", path, "--format", "json").stdout, parse_constant=pytest.fail)
    assert found["requests"] == rows
    assert found["lengths"]["spearman"] is None
    assert call("describe", path).exit_code == 0
    fit = call("fit", path, "-o", tmp_path / "part.yaml")
    assert fit.exit_code == 2
    assert "200 requests" in fit.stderr


def test_a_gateways_log_is_understood(call, tmp_path):
    rows = [f"r{i},2026-03-02T09:{i:02}:00.250+01:00,{90 + i},{i if i % 9 else ''},{200 if i % 9 else 429}"
            for i in range(1, 60)]  # fmt: skip
    path = tmp_path / "gateway.csv"
    path.write_text("id,ts,in_tok,out_tok,status\n" + "\n".join(rows) + "\n")
    left_out = call("describe", path)
    assert "53 requests" in left_out.stdout
    assert "6 faulty rows left out" in left_out.stdout
    assert "59 requests, 6 of them without output" in call("describe", path, "--columns", "error=status").stdout


def test_fit_refuses_faulty_rows_or_says_what_it_left_out(call, log, tmp_path):
    part = tmp_path / "part.yaml"
    refused = call("fit", log, *COLUMNS, "-o", part)
    assert (refused.exit_code, part.exists()) == (2, False)
    first, second, summary = refused.stderr.splitlines()
    assert "log.csv:102: ts is 'nan'" in first
    assert "log.csv:103: out is 'many'" in second
    assert "2 faulty rows: ts (1), out (1)" in summary
    assert "--skip-faulty" in summary
    going_on = call("fit", log, *LENIENT, "-o", part)
    for note in ("Left out (--skip-faulty): 2 faulty rows: ts (1), out (1).", "Sorted by time: 1 rows"):
        assert note in going_on.stdout
        assert f"# {note}" in part.read_text()
    assert "typically off by a factor" in going_on.stdout
    check = json.loads(call("fit", log, *LENIENT, "-o", part, "--force", "--format", "json").stdout)
    assert check["left_out"] == {"faulty_rows": 2, "by_fault": {"ts": 1, "out": 1}}
    assert check["sorted_rows"] == 1


@pytest.mark.parametrize("option", ["-o", "--picture", "--structure"])
def test_fit_overwrites_nothing_and_sees_first_whether_it_can_write(call, log, tmp_path, option):
    mine = tmp_path / "mine"
    mine.write_text("mine")
    others = () if option == "-o" else ("-o", tmp_path / "part.yaml")
    faults = {
        mine: "exists already",
        tmp_path: "is a directory",
        tmp_path / "no" / "x": "there is no directory",
        mine / "x": "not a writable directory",
        tmp_path / ("x" * 300): "cannot be written",
    }
    for place, message in faults.items():
        result = call("fit", tmp_path / "no_such_log.csv", *others, option, place)
        assert (result.exit_code, mine.read_text()) == (2, "mine")
        assert result.stderr.startswith(f"{option} {place}: ")
        assert message in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--columns", "arrival,prompt_tokens=in"], "KEY one of arrival, prompt_tokens, output_tokens, session, error"),
        (["--columns", "foo=x"], "got 'foo=x'"),
        (["--columns", "arrival=ts,arrival=in"], "arrival is given twice, as 'ts' and 'in'"),
        (["--start-s", "10", "--end-s", "5"], "--end-s (5) must be after --start-s (10)"),
        ([], "name it with --columns prompt_tokens=NAME"),
    ],
)
def test_advice_is_about_the_flags(call, log, arguments, message):
    result = call("describe", log, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_fit_finds_a_model_elsewhere_where_allowed(call, log, tmp_path):
    place, away = tmp_path / "place", tmp_path / "away"
    place.mkdir()
    away.mkdir()
    (away / "config.json").write_text(json.dumps(configs.LLAMA_32_1B))
    fit = ("fit", log, *LENIENT, "-o", place / "own.yaml", "--whole", "--model", away / "config.json", "--gpu", "l4")
    assert "--allow-path" in call(*fit).stderr
    assert call(*fit, "--allow-path", away).exit_code == 0


def test_servesims_own_requests_are_replayed_in_the_order_of_their_arrival(tmp_path):
    (tmp_path / "first.yaml").write_text(SCENARIO)
    result = CliRunner().invoke(main, ["run", str(tmp_path / "first.yaml"), "-o", str(tmp_path / "first")])
    assert result.exit_code == 0, result.output
    (tmp_path / "requests.parquet").write_bytes((tmp_path / "first" / "requests.parquet").read_bytes())
    arrivals = LogArrivals(path=str(tmp_path / "requests.parquet"))
    frame = pd.read_parquet(arrivals.path)
    assert (frame["arrival_s"].diff() < 0).any()
    frame = frame.sort_values("arrival_s", kind="stable")
    replayed = np.concatenate([np.array(block).T for block in arrivals.joint()])
    np.testing.assert_allclose(replayed[:, 0], frame["arrival_s"] - frame["arrival_s"].iloc[0])
    np.testing.assert_array_equal(replayed[:, 1], frame["prompt_tokens"])
    frame.drop(columns="pool").sort_values("finish_s").to_parquet(tmp_path / "other.parquet")
    with pytest.raises(InputError, match=r"before the row above.*unsorted: sort"):
        list(LogArrivals(path=str(tmp_path / "other.parquet")).joint())


SCENARIO = """\
name: first
workload:
  num_requests: 300
  classes:
    chat:
      arrivals: {kind: poisson, request_rate_rps: 20}
      prompt_tokens: {kind: uniform, min_tokens: 10, max_tokens: 900}
      output_tokens: {kind: geometric, mean_tokens: 40}
pools:
  main: {service_time: {kind: affine, base_s: 0.01}}
"""
