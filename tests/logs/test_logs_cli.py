"""`servesim workload describe` and `fit`, as a user calls them."""

import json
from typing import get_args

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from servesim.cli import main
from servesim.cli.workload import _FORMATS
from servesim.scenario.load import load
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
    result = call("fit", log, *COLUMNS, "-o", part, "--picture", picture)
    assert result.exit_code == 0, result.output
    assert "not kept" in result.stdout
    document = yaml.safe_load(part.read_text())
    (spec,) = document["workload"]["classes"].values()
    assert spec["arrivals"]["kind"] == "gamma"
    assert spec["arrivals"]["request_rate_rps"] == pytest.approx(2, rel=0.08)
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    check = json.loads(call("fit", log, *COLUMNS, "-o", part, "--format", "json").stdout)
    assert check["ks"]["prompt_tokens"] < 0.05


def test_whole_scenario_runs(call, log, tmp_path):
    whole = tmp_path / "whole.yaml"
    assert call("fit", log, *COLUMNS, "-o", whole, "--whole").exit_code == 2
    result = call("fit", log, *COLUMNS, "-o", whole, "--whole", "--model", "llama-3.1-8b", "--gpu", "h100_sxm")
    assert result.exit_code == 0, result.output
    run = CliRunner().invoke(main, ["run", str(whole), "--format", "json", "--set", "workload.duration_s=60"])
    assert run.exit_code == 0, run.output
    assert json.loads(run.stdout)["classes"]["all"]["offered"] > 60
    assert load(whole).pools["main"].service_time.kind == "calibrated"
    (tmp_path / "config.json").write_text(json.dumps(configs.LLAMA_32_1B))
    own = tmp_path / "own.yaml"
    assert call("fit", log, *COLUMNS, "-o", own, "--whole", "--model", "config.json", "--gpu", "l4").exit_code == 0
    assert load(own).pools["main"].service_time.kind == "roofline"
    wrong = call("fit", log, *COLUMNS, "-o", tmp_path / "x.yaml", "--whole", "--model", "lama", "--gpu", "h100_sxm")
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
    assert "nothing.csv: cannot read the log" in result.stderr


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
