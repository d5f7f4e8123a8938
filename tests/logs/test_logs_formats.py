"""The same requests come out of every format, detected or named; every fault is named by file and row."""

import gzip
import json
import math
from itertools import chain

import numpy as np
import pytest
from pydantic import ValidationError

from servesim.errors import InputError
from servesim.workload.arrivals.log import LogArrivals
from servesim.workload.arrivals.mooncake_trace import MooncakeTraceArrivals
from servesim.workload.arrivals.servegen import ServegenArrivals
from servesim.workload.lengths.log import LogLengths
from servesim.workload.load import ClassLoad
from tests.logs import samples

NESTED = {"arrival": "at", "prompt_tokens": "usage.prompt", "output_tokens": "usage.completion"}
FORMATS = {
    "csv": (samples.csv_text(), {}),
    "azure": (samples.AZURE, {}),
    "burstgpt": (samples.BURSTGPT, {}),
    "mooncake": (samples.MOONCAKE, {}),
    "qwen_bailian": (samples.QWEN, {}),
    "vllm_bench": (samples.VLLM_BENCH, {}),
    "guidellm": (samples.GUIDELLM, {}),
    "inference_perf": (samples.INFERENCE_PERF, {}),
    "aiperf": (samples.AIPERF, {}),
    "jsonl": (samples.FREE_JSONL, {"columns": NESTED}),
}


@pytest.fixture
def log(tmp_path):
    def write(text, name="log", **keys):
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return LogArrivals(path=str(path), **keys)

    return write


def replay(arrivals):
    return list(chain.from_iterable(zip(*block, strict=True) for block in arrivals.joint()))


def refused(arrivals):
    with pytest.raises(InputError) as caught:
        replay(arrivals)
    return [(problem.line, problem.message) for problem in caught.value.problems]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("named", [False, True])
def test_every_format_gives_the_same_requests(log, format, named):
    text, keys = FORMATS[format]
    arrivals = log(text, **keys, **({"format": format} if named else {}))
    assert arrivals.found_format() == format
    np.testing.assert_allclose(replay(arrivals), samples.ROWS)


def test_timed_trace_is_read_as_mooncake(log):
    assert replay(log(samples.MOONCAKE, format="vllm_timed_trace")) == list(samples.ROWS)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("text", [samples.csv_text(newline="\r\n"), samples.MOONCAKE, samples.VLLM_BENCH])
def test_encodings_and_compression_are_seen_by_their_first_bytes(log, encoding, text):
    assert replay(log(gzip.compress(text.encode(encoding)))) == list(samples.ROWS)
    assert replay(log(text.encode(encoding))) == list(samples.ROWS)


def test_unmarked_utf_16_and_zstandard_are_refused_by_name(log):
    assert "UTF-16 without a byte order mark" in refused(log(samples.csv_text().encode("utf-16-le")))[0][1]
    assert "Zstandard" in refused(log(b"\x28\xb5\x2f\xfd" + bytes(20)))[0][1]


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_delimiters_and_quotes(log, delimiter):
    text = samples.csv_text('"arrival_s",prompt_tokens,output_tokens', delimiter=delimiter)
    assert replay(log(text)) == list(samples.ROWS)


@pytest.mark.parametrize(("unit", "factor"), [("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_time_units(log, unit, factor):
    start = samples.EPOCH_S * factor
    rows = "".join(f"{start + round(time * factor)},{prompt},{output}\n" for time, prompt, output in samples.ROWS)
    text = "when,prompt_tokens,output_tokens\n" + rows
    assert replay(log(text, columns={"arrival": "when"}, time_unit=unit)) == list(samples.ROWS)
    if unit != "ms":
        line, message = refused(log(text, columns={"arrival": "when"}))[0]
        assert line == 2
        assert "time_unit" in message


@pytest.mark.parametrize("as_time", [False, True])
def test_parquet(log, tmp_path, as_time):
    import pandas as pd

    times = np.array(samples.TIMES_S)
    arrival = pd.to_datetime(samples.EPOCH_S + times, unit="s") if as_time else times
    frame = pd.DataFrame({"arrival_s": arrival, "prompt_tokens": samples.PROMPTS, "output_tokens": [10.0, 20.0, 30.0]})
    frame.to_parquet(tmp_path / "rows.parquet")
    assert replay(LogArrivals(path=str(tmp_path / "rows.parquet"))) == list(samples.ROWS)
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "rows.parquet").read_bytes()[:200])
    assert "Parquet" in refused(LogArrivals(path=str(tmp_path / "cut.parquet")))[0][1]


HEADER = "arrival_s,prompt_tokens,output_tokens\n"
FAULTS = {
    "no number": (HEADER + "0,5,5\nx,5,5\n", 3, "arrival_s is 'x'"),
    "not a number": (HEADER + "0,5,5\nnan,5,5\n", 3, "arrival_s is 'nan'"),
    "infinite": (HEADER + "0,5,5\ninf,5,5\n", 3, "arrival_s is 'inf'"),
    "underscore": (HEADER + "0,5,5\n1_0,5,5\n", 3, "arrival_s is '1_0'"),
    "negative": (HEADER + "0,5,5\n1,-5,5\n", 3, "prompt_tokens is '-5'"),
    "no tokens": (HEADER + "0,5,5\n1,0,5\n", 3, "prompt_tokens is '0'"),
    "fraction": (HEADER + "0,5,5\n1,5,5.5\n", 3, "output_tokens is '5.5'"),
    "huge": (HEADER + "0,5,5\n1,5,99999999999\n", 3, "output_tokens is '99999999999'"),
    "gap": (HEADER + "0,5,5\n1,,5\n", 3, "prompt_tokens is missing"),
    "cut short": (HEADER + "0,5,5\n\n1,5", 4, "output_tokens is missing"),
    "unsorted": (HEADER + "5,5,5\n1,5,5\n", 3, "before the row above"),
    "missing column": ("arrival_s,tokens,output_tokens\n0,5,5\n", 1, "no column looks like prompt_tokens"),
    "missing key": (samples.MOONCAKE + '{"timestamp": 99999, "input_length": 4}\n', 4, "output_length is missing"),
    "cut JSON": (samples.MOONCAKE + '{"timestamp": 99999, "inp', 4, "cut short?"),
    "JSON NaN": (samples.MOONCAKE + '{"timestamp": NaN, "input_length": 4, "output_length": 3}', 4, "timestamp is nan"),
    "JSON list": (samples.MOONCAKE + "[1]\n", 4, "expected a JSON object"),
    "JSON truth": (samples.MOONCAKE + samples.jsonl({"timestamp": 99999, "input_length": True, "output_length": 3}),
                   4, "input_length is True"),
    "quote to the end": (HEADER + '0,5,5\n1,"5,5\n' + "2,5,5\n" * 40, 3,
                         "swallows the 40 lines that follow, to the end"),
    "quote over many lines": (HEADER + '0,5,5\n1,"5,5\n' + "2,5,5\n" * 1200 + '3,5",5\n', 3, "more than 1000 lines"),
    "quote on the last line": (HEADER + '0,5,5\n1,5,"5\n', 3, "a quote opens here and is not closed"),
    "quote over some lines": (HEADER + '0,5,5\n1,"5,5\n2,5,5\n3,5",5\n', 3, "takes in 2 more lines"),
    "column twice": ("arrival_s,prompt_tokens,prompt_tokens,output_tokens\n0,1,5,5\n", 1,
                     "columns 2 and 3 have the same name 'prompt_tokens'"),
    "JSON cut inside": (samples.MOONCAKE + '{"timestamp": 99, "inp\n' + samples.MOONCAKE, 4,
                        "not a JSON object: it breaks off after 22 characters"),
    "JSON with a word": (samples.MOONCAKE + '{"timestamp": often}\n' + samples.MOONCAKE, 4,
                         "not a JSON object: Expecting value at column 15"),
    "JSON cut after a colon": (samples.MOONCAKE + '{"timestamp": \n' + samples.MOONCAKE, 4, "breaks off after 13"),
    "empty": ("\n", None, "empty"),
    "document cut short": (samples.VLLM_BENCH[:-5], None, "cut short?"),
    "bench not detailed": ('{"input_lens": []}', None, "--save-detailed"),
    "bench unequal": ('{"input_lens": [1], "output_lens": [], "start_times": [0]}', None, "1, 1 and 0 entries"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named_by_row(log, fault):
    text, line, message = FAULTS[fault]
    found = refused(log(text))
    assert message in found[0][1]
    if line is not None:
        assert found[0][0] == line


def test_quoted_text_over_several_lines_is_sound(log):
    text = "prompt,arrival_s,prompt_tokens,output_tokens,other,other\n"
    text += "".join(f'"one ""two""\nthree\n",{time},{prompt},{output},,\n' for time, prompt, output in samples.ROWS)
    assert replay(log(text)) == list(samples.ROWS)
    assert refused(log(text + '"a\nb",9,x,1,,\n'))[0][0] == 11


def test_a_damaged_gzip_file_is_named(log):
    text = samples.csv_text() + "".join(f"{n + 5},{n * 7919 % 1000 + 1},5\n" for n in range(5000))
    assert "compressed log is cut short" in refused(log(gzip.compress(text.encode())[:-200]))[0][1]


def test_many_faults_are_reported_together_but_not_all(log):
    found = refused(log(HEADER + "x,5,5\n" * 50))
    assert [line for line, _ in found] == list(range(2, 12))


def test_unsorted_rows_can_be_sorted(log):
    text = HEADER + "4,300,30\n0,100,10\n1.5,200,20\n"
    assert replay(log(text, unsorted="sort")) == list(samples.ROWS)


def test_failed_requests_follow_zero_output(log):
    failed = samples.aiperf_record(9, None, None, error={"code": 500})
    arrivals = log(samples.AIPERF + samples.jsonl(failed))
    assert "0 tokens" in refused(arrivals)[0][1]
    assert replay(arrivals.model_copy(update={"zero_output": "drop"})) == list(samples.ROWS)
    burst = log(samples.BURSTGPT + "99,s9,1,GPT-4,17,0,17,API log\n", zero_output="drop")
    assert replay(burst) == list(samples.ROWS)
    table = "arrival_s,prompt_tokens,output_tokens,status\n0,100,10,\n1,50,7,timeout\n1.5,200,20,0\n4,300,30,\n"
    assert len(replay(log(table, format="csv"))) == 4
    assert replay(log(table, format="csv", columns={"error": "status"}, zero_output="drop")) == list(samples.ROWS)


def test_sharegpt_is_for_lengths_only(log):
    arrivals = log(samples.SHAREGPT)
    assert "no times" in refused(arrivals)[0][1]
    prompt, output = LogLengths(path=arrivals.path).draw(np.random.default_rng(0), 100)
    assert set(zip(prompt.tolist(), output.tolist(), strict=True)) == {(100, 10), (1, 20)}


def test_lengths_of_a_log_leave_out_what_failed(log):
    text = HEADER + "0,5,0\n1,7,3\n2,8,4\n3,9,5\n"
    path = log(text).path
    prompt, _ = LogLengths(path=path, max_requests=2).draw(np.random.default_rng(0), 200)
    assert set(prompt.tolist()) == {7, 8}


def test_window_and_speed_are_those_of_any_trace(log):
    assert replay(log(samples.csv_text(), start_s=1, end_s=4, rate_scale=0.5)) == [(1.0, 200, 20)]


def test_columns_are_for_free_formats_only():
    with pytest.raises(ValidationError, match="knows its columns"):
        LogArrivals(path="x", format="azure", columns={"arrival": "TIMESTAMP"})


def guidellm_sweep():
    """A sweep: the usual three requests at a constant rate, between two runs of one request each."""
    document = json.loads(samples.GUIDELLM)
    (middle,) = document["benchmarks"]
    strategies = ({"type_": "synchronous"}, {"type_": "constant", "rate": 2.5}, {"type_": "throughput", "rate": None})
    document["benchmarks"] = [json.loads(json.dumps(middle)) for _ in strategies]
    for entry, strategy in zip(document["benchmarks"], strategies, strict=True):
        entry["config"] = {"strategy": strategy}
        if strategy["type_"] != "constant":
            del entry["requests"]["successful"][1:]
    return document


@pytest.mark.parametrize("which", [2, "constant@2.5"])
def test_one_guidellm_benchmark_of_a_sweep_is_chosen(log, which):
    arrivals = log(json.dumps(guidellm_sweep()), benchmark=which)
    np.testing.assert_allclose(replay(arrivals), samples.ROWS)


@pytest.mark.parametrize("which", [None, 4, "constant@3"])
def test_what_a_sweep_holds_is_listed(log, which):
    message = refused(log(json.dumps(guidellm_sweep()), benchmark=which))[0][1]
    assert "1 (synchronous), 2 (constant@2.5), 3 (throughput)" in message


def test_a_sample_of_guidellm_requests_is_no_load(log):
    document = json.loads(samples.GUIDELLM)
    document["benchmarks"][0]["metrics"] = {"request_totals": {"successful": 500, "total": 500}}
    assert "3 of its 500 requests" in refused(log(json.dumps(document)))[0][1]


def test_vllm_runs_appended_to_one_file(log):
    runs = [json.loads(samples.VLLM_BENCH) | {"request_rate": rate} for rate in (1.0, "inf")]
    runs[0]["input_lens"] = [1, 1, 1]
    text = samples.jsonl(*runs)
    assert "1 (request_rate=1.0), 2 (request_rate=inf)" in refused(log(text))[0][1]
    assert replay(log(text, benchmark="request_rate=inf")) == list(samples.ROWS)
    line, message = refused(log(text + '{"request_rate": 3, "input_le', format="vllm_bench"))[0]
    assert (line, "cut short" in message) == (3, True)


def test_sglang_has_lengths_and_no_times(log):
    arrivals = log(samples.SGLANG_BENCH)
    assert arrivals.found_format() == "sglang_bench"
    assert "no times" in refused(arrivals)[0][1]
    several = log(samples.SGLANG_BENCH.replace("300]", "999]") + samples.SGLANG_BENCH.replace("night", "day"))
    prompt, output = LogLengths(path=several.path, benchmark="day request_rate=2.0").draw(np.random.default_rng(0), 99)
    assert set(zip(prompt.tolist(), output.tolist(), strict=True)) == set(
        zip(samples.PROMPTS, samples.OUTPUTS, strict=True)
    )
    with pytest.raises(InputError, match=r"2 benchmarks.*1 \(night request_rate=2.0\), 2 \(day request_rate=2.0\)"):
        LogLengths(path=several.path).draw(np.random.default_rng(0), 1)
    summary = log('{"backend": "sglang", "total_throughput": 5.0}\n')
    with pytest.raises(InputError, match="--output-details"):
        LogLengths(path=summary.path).draw(np.random.default_rng(0), 1)


def test_inference_perf_fallbacks_failures_and_summaries(log):
    records = json.loads(samples.INFERENCE_PERF)
    for record in records:
        record["info"] = {"input_tokens": record["info"]["input_tokens"], "output_tokens": 9}  # older versions
    records[0]["error"] = {"error_type": "timeout", "error_msg": ""}
    assert replay(log(json.dumps(records), zero_output="drop")) == [(0.0, 100, 9), (1.5, 200, 9)]
    assert "per_request" in refused(log('{"load_summary": {}, "successes": {}, "failures": {}}'))[0][1]


def test_benchmarks_are_for_formats_that_hold_several(log):
    assert "holds no benchmarks" in refused(log(samples.csv_text(), benchmark=1))[0][1]


@pytest.fixture
def client(tmp_path):
    """A ServeGen client: 100 s at 5 requests/s, 100 s at none, 100 s at 20, lengths known from the start."""
    rows = ["0,5,1.0,Gamma,0.5,0.4", "100,0,0,,0,0", "200,20,1.0,Weibull,0.8,0.04"]
    (tmp_path / "chunk-3-trace.csv").write_text("\n".join(rows))
    laws = {"0": {"input_tokens": "{10: 0.25, 20: 0.75}", "output_tokens": "{5: 1.0}"}}
    (tmp_path / "chunk-3-dataset.json").write_text(json.dumps(laws))
    return tmp_path


def test_servegen_is_drawn_from_its_description(client):
    arrivals = LogArrivals(path=str(client / "chunk-3-trace.csv"))
    assert replay(arrivals) == replay(LogArrivals(path=str(client)))
    rows = np.array(replay(arrivals))
    late = rows[rows[:, 0] > 150]
    assert len(late) == pytest.approx(2000, rel=0.15)
    assert len(rows) - len(late) == pytest.approx(500, rel=0.25)
    assert np.mean(rows[:, 1] == 20) == pytest.approx(0.75, abs=0.05)


def test_servegen_clients_without_lengths_are_left_out_and_said(client):
    from servesim.workload.logs.log_file import LogFile
    from servesim.workload.logs.read import read_log

    (client / "chunk-4-trace.csv").write_text("0,50,1.0,Gamma,0.5,0.4\n")
    log = read_log(LogFile(path=str(client)))
    assert log.notes == ("client 4: 1 of 1 active windows left out (no dataset file)",)
    (client / "chunk-3-trace.csv").write_text("0,50,1.0,Pareto,0.5,0.4\n")
    with pytest.raises(InputError, match=r"chunk-3-trace\.csv:1"):
        read_log(LogFile(path=str(client)))


def requests_of(seed=1, **keys):
    blocks = ClassLoad("chat", ServegenArrivals(**keys), None, seed=seed).blocks()
    return np.array(list(chain.from_iterable(zip(*block, strict=True) for block in blocks)))


def test_servegen_arrivals_superpose_clients(client):
    """Two clients at once are the sum of each alone, drawn anew for each seed."""
    for ending in ("trace.csv", "dataset.json"):
        (client / f"chunk-5-{ending}").write_text((client / f"chunk-3-{ending}").read_text())
    both = requests_of(path=str(client))
    alone = [requests_of(path=str(client), clients=[number]) for number in (3, 5)]
    assert np.array_equal(np.sort(both[:, 0]), np.sort(np.concatenate(alone)[:, 0]))
    assert not np.array_equal(alone[0][:100], alone[1][:100])
    other = requests_of(seed=2, path=str(client))
    assert not np.array_equal(both[:100], other[:100])
    # Gamma of shape 0.5 for 100 s at 5/s and Weibull of shape 0.8 for 100 s at 20/s, twice; four standard errors.
    expected, spread = 5000, math.sqrt(2 * (500 / 0.5 + 2000 * 1.6))
    assert abs(len(both) - expected) < 4 * spread
    assert abs(len(other) - expected) < 4 * spread


def test_servegen_window_rate_and_speed(client):
    late = requests_of(path=str(client), start_s=200, request_rate_rps=50.0)
    assert 0 <= late[0, 0] < 5
    assert late[-1, 0] < 100
    assert len(late) == pytest.approx(5000, rel=0.15)
    fast = requests_of(path=str(client), start_s=200, request_rate_rps=50.0, rate_scale=10.0)
    np.testing.assert_allclose(fast[:, 0] * 10, late[:, 0])
    early = requests_of(path=str(client), end_s=200)
    assert early[-1, 0] < 100
    assert len(early) == pytest.approx(500, rel=0.3)


def test_servegen_says_what_is_wrong(client, tmp_path):
    (client / "chunk-4-trace.csv").write_text("0,50,1.0,Gamma,0.5,0.4\n")
    with pytest.raises(InputError, match=r"client 4: 1 of 1 active windows.*unknown_lengths: drop"):
        requests_of(path=str(client))
    assert len(requests_of(path=str(client), unknown_lengths="drop")) == len(requests_of(path=str(client), clients=[3]))
    with pytest.raises(InputError, match="no client 8; there are 3, 4"):
        requests_of(path=str(client), clients=[3, 8])
    with pytest.raises(InputError, match="inside the window"):
        requests_of(path=str(client), clients=[3], start_s=900)


def test_servegen_folder_in_a_scenario_stays_inside_it(client, tmp_path):
    from servesim.scenario.load import load

    inside = tmp_path / "place"
    inside.mkdir()
    pool = "pools: {main: {service_time: {kind: affine, base_s: 0.01}}}"
    scenario = inside / "scenario.yaml"
    text = "name: x\nworkload: {classes: {a: {arrivals: {kind: %s, path: %s}}}}\n" + pool
    scenario.write_text(text % ("servegen", ".."))
    with pytest.raises(InputError, match="outside the scenario's folder"):
        load(scenario)
    assert load(scenario, allow_paths=[client]).workload.classes["a"].arrivals.path == str(client.resolve())
    scenario.write_text(text % ("mooncake_trace", "."))
    with pytest.raises(InputError, match="not a regular file"):
        load(scenario)
    (inside / "chunk-3-trace.csv").symlink_to(client / "chunk-3-trace.csv")
    scenario.write_text(text % ("servegen", "."))
    with pytest.raises(InputError, match="a link that leads out"):
        requests_of(path=load(scenario).workload.classes["a"].arrivals.path)


@pytest.mark.parametrize("name", ["azure2023/AzureLLMInferenceTrace_code.csv", "mooncake/synthetic_trace.jsonl"])
def test_published_traces_replay_as_by_their_own_kinds(name):
    from servesim.workload.arrivals.azure_trace import AzureTraceArrivals
    from tests.data import shared_data

    path = str(shared_data("traces", *name.split("/")))
    own = AzureTraceArrivals if "azure" in name else MooncakeTraceArrivals
    assert replay(LogArrivals(path=path)) == replay(own(path=path))


@pytest.mark.parametrize(("pattern", "shape"), [("Gamma", 0.1), ("Weibull", 0.4), ("Gamma", 4.0)])
def test_servegen_windows_hold_what_their_rate_says(tmp_path, pattern, shape):
    """Windows of six mean gaps each: beginning each with a whole gap would add 69 % to the burstiest of these."""
    windows = 4000
    rows = "".join(f"{600 * n},0.01,1,{pattern},{shape},0\n" for n in range(windows))
    (tmp_path / "chunk-0-trace.csv").write_text(rows)
    law = '{"input_tokens": "{10: 1.0}", "output_tokens": "{5: 1.0}"}'
    laws = ",".join(f'"{600 * n}": {law}' for n in range(windows))
    (tmp_path / "chunk-0-dataset.json").write_text("{" + laws + "}")
    arrivals = ServegenArrivals(path=str(tmp_path))
    per_window = sum(len(rows.time_s) for rows in arrivals.rows()) / windows
    assert per_window == pytest.approx(6.0, rel=0.12)
