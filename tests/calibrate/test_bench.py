from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from servesim.calibrate.bench_files import read_loads
from servesim.calibrate.loads import Aggregate, Requests
from servesim.calibrate.reconstruct import reconstruct
from servesim.catalog.calibrations import read_calibration
from servesim.cli import main
from tests.calibrate.made_up import BENCH_TRUTH, simulated, vllm_detailed

TARGET = ["--model", "llama-3.1-8b", "--gpu", "h100_sxm", "--max-num-batched-tokens", "2048"]


def bench(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["calibrate", "bench", *map(str, arguments), *TARGET])


@cache
def detailed(rate: float, jitter_s: float = 0.0) -> dict[str, Any]:
    return vllm_detailed(simulated(rate), jitter_s)


def written(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def facts(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.output)
    return found


def fitted(content: dict[str, Any]) -> dict[str, float]:
    """Return the coefficients by column, of a fit that needs no knots."""
    coefficients = content["coefficients"]
    return {
        "base": coefficients["base_s"],
        "dense_0": coefficients["dense"]["s_per_token"][0],
        "context_0": coefficients["context"]["s_per_token"][0],
        "per_prefill_pair": coefficients["per_prefill_pair_s"],
    }


@pytest.mark.parametrize("jitter_s", [0.0, 2e-4], ids=["exact", "0.2 ms of network jitter"])
def test_known_coefficients_come_back_from_token_times(jitter_s: float, tmp_path: Path) -> None:
    """The truth of a simulated server, from what its clients saw. The target is 5 %; jitter is 2 % of an iteration."""
    file = written(tmp_path / "b.json", detailed(4.0, jitter_s))
    found = facts(bench(file, "-o", tmp_path / "o.yaml", "--format", "json"))
    for name, truth in BENCH_TRUTH.items():
        assert fitted(found)[name] == pytest.approx(truth, rel=0.05), name
    assert found["host"]["admission_s"] == pytest.approx(0.006, rel=0.06 if jitter_s else 0.001)
    assert not found["estimates"]["confounded"]
    assert found["host"]["iteration_s"] == 0.0  # in the base, so that no run calls it left out
    assert found["engine"]["max_num_batched_tokens"] == 2048


def test_the_batches_rebuilt_from_outside_are_those_of_the_engine(tmp_path: Path) -> None:
    result = simulated(8.0)
    load = read_loads(written(tmp_path / "b.json", vllm_detailed(result)))[0]
    assert isinstance(load, Requests)
    rows, share = reconstruct(load, 2048, 0.006)
    frame = result.iterations
    assert share > 0.99
    true = {(r.decode_seqs, r.context_tokens, r.prefill_tokens) for r in frame.itertuples()}
    seen = list(zip(rows.decode_seqs, rows.decode_context, rows.prefill_tokens, strict=True))
    assert np.mean([one in true for one in seen]) > 0.995
    ignorant, _ = reconstruct(load, 1_000_000, 0.006)  # a budget that the engine does not have
    seen = list(zip(ignorant.decode_seqs, ignorant.decode_context, ignorant.prefill_tokens, strict=True))
    assert np.mean([one in true for one in seen]) < 0.9995


def test_a_load_that_is_always_the_same_cannot_tell_its_terms_apart_and_says_so(tmp_path: Path) -> None:
    """Equal prompts one at a time: base, tokens and context only ever come in one proportion."""
    count, output = 40, 30
    step = 0.008 + 4e-5 + 5e-8 * 300
    run = {
        "backend": "vllm",
        "request_throughput": 1.0,
        "median_ttft_ms": 1.0,
        "start_times": [2.0 * i for i in range(count)],
        "input_lens": [300] * count,
        "output_lens": [output] * count,
        "ttfts": [0.03] * count,
        "itls": [[step] * (output - 1)] * count,
        "errors": [""] * count,
    }
    result = bench(written(tmp_path / "b.json", run), "-o", tmp_path / "o.yaml")
    assert result.exit_code == 0, result.output
    assert "cannot be told apart" in result.output
    groups = [set(one.terms) for one in read_calibration(tmp_path / "o.yaml").estimates.confounded]  # type: ignore[union-attr]
    assert any({"base", "dense_0"} <= group for group in groups)


def plain(rate: float) -> dict[str, Any]:
    frame = simulated(rate).requests
    return {
        "backend": "vllm",
        "request_rate": rate,
        "burstiness": 1.0,
        "max_concurrency": None,
        "request_throughput": rate,
        "completed": len(frame),
        "total_input_tokens": int(frame.prompt_tokens.sum()),
        "total_output_tokens": int(frame.output_tokens.sum()),
        "mean_ttft_ms": 1e3 * frame.ttft_s.mean(),
        "median_ttft_ms": 1e3 * frame.ttft_s.median(),
        "mean_tpot_ms": 1e3 * frame.tpot_s.mean(),
        "median_tpot_ms": 1e3 * frame.tpot_s.median(),
    }


@pytest.mark.slow
def test_plain_files_tell_less_and_the_intervals_say_how_much(tmp_path: Path) -> None:
    files = [written(tmp_path / f"{rate}.json", plain(rate)) for rate in (2.0, 5.0, 8.0)]
    found = facts(bench(*files, "-o", tmp_path / "o.yaml", "--format", "json"))
    assert fitted(found)["base"] == pytest.approx(BENCH_TRUTH["base"], rel=0.05)
    errors = found["estimates"]["standard_error"]
    for name, truth in BENCH_TRUTH.items():
        assert abs(fitted(found)[name] - truth) <= 3 * errors[name] + 0.02 * truth, name
    assert any("not told by these files" in note for note in found["notes"])


@pytest.mark.slow
def test_requests_without_token_times_are_replayed_as_they_came(tmp_path: Path) -> None:
    frame = simulated(8.0).requests
    records = [
        {
            "request_start_time": 50.0 + row.arrival_s,
            "first_token_iteration": 50.0 + row.arrival_s + row.ttft_s,
            "last_token_iteration": 50.0 + row.arrival_s + row.e2e_s,
            "prompt_tokens": row.prompt_tokens,
            "output_tokens": row.output_tokens,
        }
        for row in frame.itertuples()
    ]
    content = {"metadata": {}, "benchmarks": [{"requests": {"successful": records}}]}
    found = facts(bench(written(tmp_path / "g.json", content), "-o", tmp_path / "o.yaml", "--format", "json"))
    for name in ("base", "dense_0"):
        assert fitted(found)[name] == pytest.approx(BENCH_TRUTH[name], rel=0.05), name


def test_every_tool_gives_the_same_requests(tmp_path: Path) -> None:
    start, prompt, output, ttft, gap = 3.0, 100, 4, 0.05, 0.01
    times = [start + ttft + gap * i for i in range(output)]
    e2e = ttft + gap * (output - 1)
    vllm = {"median_ttft_ms": 50, "request_throughput": 1, "start_times": [start], "input_lens": [prompt],
            "output_lens": [output], "ttfts": [ttft], "itls": [[gap] * 3], "errors": [""]}  # fmt: skip
    metrics = {
        "input_sequence_length": {"value": prompt, "unit": "tokens"},
        "output_sequence_length": {"value": output, "unit": "tokens"},
        "time_to_first_token": {"value": 1e3 * ttft, "unit": "ms"},
        "request_latency": {"value": 1e3 * e2e, "unit": "ms"},
        "inter_chunk_latency": {"value": [1e3 * gap] * 3, "unit": "ms"},
    }
    files = {
        "vllm": vllm,
        "guidellm": {"benchmarks": [{"requests": {"successful": [
            {"request_start_time": start, "prompt_tokens": prompt, "output_tokens": output,
             "time_to_first_token_ms": 1e3 * ttft, "request_end_time": start + e2e}]}}]},
        "aiperf": {"metadata": {"request_start_ns": int(start * 1e9), "benchmark_phase": "profiling"},
                   "metrics": metrics, "error": None},
        "inference-perf": [{"start_time": start, "end_time": times[-1], "error": None,
                            "info": {"input_tokens": prompt, "output_token_times": times}}],
    }  # fmt: skip
    for name, content in files.items():
        load = read_loads(written(tmp_path / f"{name}.json", content))[0]
        assert isinstance(load, Requests), name
        found = (load.start_s[0], load.prompt_tokens[0], load.output_tokens[0], load.ttft_s[0], load.e2e_s[0])
        assert found == pytest.approx((0.0, prompt, output, ttft, e2e)), name
        assert (load.token_s is None) == (name == "guidellm"), name
        if load.token_s is not None:
            np.testing.assert_allclose(load.token_s[0], np.array(times) - start, atol=1e-9)


def test_summaries_of_other_tools_are_loads_too(tmp_path: Path) -> None:
    aiperf = {
        "request_count": {"unit": "requests", "avg": 50.0},
        "input_sequence_length": {"unit": "tokens", "avg": 512.0},
        "output_sequence_length": {"unit": "tokens", "avg": 64.0},
        "time_to_first_token": {"unit": "ms", "avg": 80.0, "p50": 70.0},
        "inter_token_latency": {"unit": "ms", "avg": 9.0, "p50": 9.0},
        "input_config": {"loadgen": {"concurrency": 8}},
    }
    sglang = {"request_rate": 2.0, "completed": 10,
              "total_input_tokens": 1000, "total_output_tokens": 200,
              "median_e2e_latency_ms": 310, "total_throughput": 900,
              "mean_ttft_ms": 40.0, "mean_tpot_ms": 8.0}  # fmt: skip
    lifecycle = {
        "load_summary": {"count": 20, "requested_rate": 3.0},
        "successes": {
            "count": 20,
            "latency": {"time_to_first_token": {"mean": 0.05}, "time_per_output_token": {"mean": 0.01}},
            "prompt_len": {"mean": 100.0},
            "output_len": {"mean": 20.0},
        },
        "failures": {"count": 0},
    }
    found = [read_loads(written(tmp_path / f"{i}.json", c))[0] for i, c in enumerate((aiperf, sglang, lifecycle))]
    assert [type(load) for load in found] == [Aggregate] * 3
    assert [(x.request_rate_rps, x.max_concurrency, x.num_requests) for x in found] == [  # type: ignore[union-attr]
        (None, 8, 50), (2.0, None, 10), (3.0, None, 20)]  # fmt: skip
    assert [x.measured["ttft_s", "mean"] for x in found] == [0.08, 0.04, 0.05]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("hello\n", "not a result file of a load generator"),
        ('{"median_ttft_ms": 1, "request_throughput": 2}', "not a finished benchmark"),
        ('{"benchmarks": []}', "not a guidellm benchmarks.json"),
        ('{"median_ttft_ms": 1, "request_throughput": 1, "start_times": [1], "input_lens": [1, 2], "output_lens": [1], '
         '"ttfts": [1], "itls": [[]]}', "different lengths"),
        ('{"median_ttft_ms": 1, "request_throughput": 1, "start_times": [1, 2], "input_lens": [9, 9], '
         '"output_lens": [5, 5], "ttfts": [0.1, 0.1], "itls": [[0.1], [0.1]]}', "several at once"),
    ],
)  # fmt: skip
def test_what_is_no_result_is_refused_in_one_line(content: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text(content)
    result = bench(file, "-o", tmp_path / "o.yaml")
    assert result.exit_code == 2, result.output
    assert said in result.output
    assert "x.json" in result.output
    assert not (tmp_path / "o.yaml").exists()


def test_settings_that_no_engine_takes_are_refused(tmp_path: Path) -> None:
    file = written(tmp_path / "b.json", detailed(4.0))
    result = bench(file, "-o", tmp_path / "o.yaml", "--max-num-seqs", "4096")
    assert result.exit_code == 2
    assert "a full batch could not decode" in result.output


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("input_lens", 10**18, "answered request 4 has 1e+18 prompt tokens"),
        ("input_lens", -7, "answered request 4 has -7 prompt tokens"),
        ("input_lens", 7.5, "answered request 4 has 7.5 prompt tokens"),
        ("ttfts", -1.0, "answered request 4 has a TTFT of -1 s"),
        ("ttfts", "late", "request 4: 'late' where a number is expected"),
        ("ttfts", math.nan, "answered request 4 has no start, length or latency"),
        ("itls", [0.01, -5.0, 5.0], "answered request 4 has token times that go back"),
        ("itls", [0.01, None], "request 4: None where a number is expected"),
    ],
)
def test_a_value_that_no_request_has_is_no_part_of_a_fit(key: str, value: Any, says: str, tmp_path: Path) -> None:
    run = {name: list(one) if isinstance(one, list) else one for name, one in detailed(4.0).items()}
    run[key][3] = value
    result = bench(written(tmp_path / "b.json", run), "-o", tmp_path / "o.yaml")
    assert result.exit_code == 2, result.output
    assert f"b.json: {says}" in result.output
    assert not (tmp_path / "o.yaml").exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"total_input_tokens": None}, "neither single requests with start_times nor total_input_tokens"),
        ({"total_input_tokens": 10**18}, "mean prompt tokens"),
        ({"request_rate": -4}, "request rate: -4"),
        ({"request_rate": "often"}, "request_rate is 'often'"),
        ({"completed": 10**18}, "number of requests: 1e+18"),
    ],
)
def test_a_load_that_cannot_be_is_refused(changes: dict[str, Any], says: str, tmp_path: Path) -> None:
    run = {"backend": "vllm", "request_rate": 4, "request_throughput": 4, "completed": 10, "total_input_tokens": 1000,
           "total_output_tokens": 500, "mean_ttft_ms": 40, "median_ttft_ms": 40, "mean_tpot_ms": 9}  # fmt: skip
    (load,) = read_loads(written(tmp_path / "good.json", run | {"request_rate": "4"}))
    assert isinstance(load, Aggregate)
    assert load.request_rate_rps == 4.0
    result = bench(written(tmp_path / "b.json", run | changes), "-o", tmp_path / "o.yaml")
    assert result.exit_code == 2, result.output
    assert says in result.output


def test_a_measurement_is_neither_read_twice_nor_replaced(tmp_path: Path) -> None:
    file = written(tmp_path / "b.json", detailed(4.0))
    before = file.read_bytes()
    twice = bench(file, tmp_path / "." / "b.json", "-o", tmp_path / "o.yaml")
    assert twice.exit_code == 2
    assert "is given twice" in twice.output
    for options in (["-o", file], ["-o", tmp_path / "o.yaml", "--picture", file]):
        replaced = bench(file, *options, "--force")
        assert replaced.exit_code == 2
        assert "is one of the measured files" in replaced.output
    assert file.read_bytes() == before
    assert not (tmp_path / "o.yaml").exists()


def test_a_file_joined_twice_is_asked_about(tmp_path: Path) -> None:
    """Every iteration would seem to decode twice as many sequences, each at half the cost."""
    once = detailed(4.0)
    doubled = {name: 2 * one if isinstance(one, list) else one for name, one in once.items()}
    count = len(once["ttfts"])
    for run, said in ((doubled, f"{count} of {2 * count} requests equal another one"), (once, None)):
        result = bench(written(tmp_path / "b.json", run), "-o", tmp_path / "o.yaml", "--force")
        assert result.exit_code == 0, result.output
        assert ("joined twice" in result.output) == (said is not None)
        assert said is None or said in result.output


def test_milliseconds_in_fields_of_seconds_are_asked_about(tmp_path: Path) -> None:
    once = detailed(4.0)
    slow = once | {
        "ttfts": [1e3 * t for t in once["ttfts"]],
        "itls": [[1e3 * g for g in gaps] for gaps in once["itls"]],
    }
    result = bench(written(tmp_path / "latencies.json", slow), "-o", tmp_path / "o.yaml")
    assert result.exit_code == 2
    assert "milliseconds in a field of seconds?" in result.output
    result = bench(
        written(tmp_path / "all.json", slow | {"start_times": [1e3 * t for t in once["start_times"]]}),
        "-o",
        tmp_path / "o.yaml",
    )
    assert result.exit_code == 0, result.output
    assert "about 1000 times as long as this GPU should need" in result.output
