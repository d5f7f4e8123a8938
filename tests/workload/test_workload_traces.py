"""Trace readers: both Azure formats, Mooncake, the window, and every fault by its line."""

import gzip
import json
from itertools import chain

import pytest
from pydantic import ValidationError

from servesim.errors import InputError
from servesim.workload.arrivals.azure_trace import AzureTraceArrivals
from servesim.workload.arrivals.mooncake_trace import MooncakeTraceArrivals
from servesim.workload.load import ClassLoad

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
AZURE_2023 = HEADER + (
    "2023-11-16 23:59:58.9799600,4808,10\n"
    "2023-11-16 23:59:59.9799601,3180,8\n"
    "2023-11-17 00:00:01.9799600,110,27\n"
    "2023-11-17 00:00:01.9799600,34,12\n"
    "2023-11-17 00:00:08.9799600,2,1"  # the published files, too, end without a newline
)
AZURE_2024 = HEADER + (
    "2024-05-10 00:00:00.009930+00:00,2162,5\n"
    "2024-05-10 00:00:01+00:00,2399,6\n"
    "2024-05-10 00:00:01.000001+00:00,76,15\n"
)
REQUEST = {"timestamp": 0, "input_length": 5, "output_length": 6, "hash_ids": [0]}


def mooncake(*changes: dict) -> str:
    return "".join(json.dumps(REQUEST | change) + "\n" for change in changes)


MOONCAKE = mooncake({}, {"timestamp": 1500}, {"timestamp": 1500, "input_length": 9}, {"timestamp": 3000})


@pytest.fixture
def azure(tmp_path):
    def write(text: str, **keys):
        path = tmp_path / "azure.csv"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return AzureTraceArrivals(path=str(path), **keys)

    return write


@pytest.fixture
def mooncake_trace(tmp_path):
    def write(text: str, **keys):
        path = tmp_path / "mooncake.jsonl"
        path.write_text(text)
        return MooncakeTraceArrivals(path=str(path), **keys)

    return write


def replay(trace):
    return list(chain.from_iterable(zip(*block, strict=True) for block in trace.joint()))


def test_azure_2023(azure):
    expected = [(0.0, 4808, 10), (1.0000001, 3180, 8), (3.0, 110, 27), (3.0, 34, 12), (10.0, 2, 1)]
    assert replay(azure(AZURE_2023)) == expected
    assert replay(azure(AZURE_2023 + "\n")) == expected
    assert replay(azure("\ufeff" + AZURE_2023.replace("\n", "\r\n") + "\r\n\r\n")) == expected


def test_azure_2024(azure):
    assert replay(azure(AZURE_2024)) == [(0.0, 2162, 5), (0.99007, 2399, 6), (0.990071, 76, 15)]


def test_azure_columns_are_found_by_name(azure):
    text = "NumImages,GeneratedTokens,ContextTokens,TIMESTAMP\n3,7,20,2024-05-10 00:00:00+00:00\n"
    assert replay(azure(text)) == [(0.0, 20, 7)]


def test_mooncake(mooncake_trace):
    expected = [(0.0, 5, 6), (1.5, 5, 6), (1.5, 9, 6), (3.0, 5, 6)]
    assert replay(mooncake_trace(MOONCAKE)) == expected
    assert replay(mooncake_trace(MOONCAKE.rstrip().replace("\n", "\n\n"))) == expected


def test_window_scale_and_limit(azure):
    assert replay(azure(AZURE_2023, start_s=3.0)) == [(0.0, 110, 27), (0.0, 34, 12), (7.0, 2, 1)]
    assert replay(azure(AZURE_2023, end_s=3.0)) == [(0.0, 4808, 10), (1.0000001, 3180, 8)]
    assert replay(azure(AZURE_2023, start_s=1.0, end_s=10.0, rate_scale=4.0, max_requests=2)) == [
        (pytest.approx(0.25e-7, rel=1e-6), 3180, 8),
        (0.5, 110, 27),
    ]


def test_limits_of_the_load_apply_to_a_trace(azure):
    trace = azure(AZURE_2023)
    for limits, count in (({"num_requests": 2}, 2), ({"duration_s": 3.0}, 4), ({}, 5)):
        load = ClassLoad("replay", trace, None, seed=0, **limits)
        assert sum(len(block.arrival_s) for block in load.blocks()) == count


def test_blocks_after_the_window_are_not_read(azure):
    sound = HEADER + "".join(f"2023-11-16 18:00:00.{n:07},5,5\n" for n in range(5000))
    late = sound + "2023-11-16 18:00:01.5,5,5\n" * 8192 + "nonsense\n"
    assert len(replay(azure(late, end_s=1.0))) == 5000
    with pytest.raises(InputError, match="cut short"):
        replay(azure(late))


@pytest.mark.parametrize("rows", [4095, 4096, 4097, 9000])
def test_blocks_join_seamlessly(azure, mooncake_trace, rows):
    csv = HEADER + "".join(
        f"2023-11-16 {n // 3600:02}:{n // 60 % 60:02}:{n % 60:02}.5,{n + 1},5\n" for n in range(rows)
    )
    assert replay(azure(csv)) == [(float(n), n + 1, 5) for n in range(rows)]
    jsonl = mooncake(*({"timestamp": 1000 * n, "input_length": n + 1} for n in range(rows)))
    assert replay(mooncake_trace(jsonl)) == [(float(n), n + 1, 6) for n in range(rows)]
    assert len(replay(azure(csv, max_requests=4096))) == min(4096, rows)


def test_zero_output_rows(azure, mooncake_trace):
    text = AZURE_2023.replace("3180,8\n", "3180,0\n").replace("34,12\n", "34,0\n")
    with pytest.raises(InputError, match=r"azure\.csv:3: .*0 tokens.*zero_output: drop"):
        replay(azure(text))
    trace = azure(text, zero_output="drop").joint()
    assert [len(block.arrival_s) for block in trace] == [3]
    assert trace.dropped_zero_output == 2
    first = azure(text, zero_output="drop", max_requests=2).joint()
    assert [block.arrival_s for block in first] == [[0.0, 3.0]]
    assert first.dropped_zero_output == 1
    assert len(replay(azure(text, max_requests=1))) == 1
    load = ClassLoad("replay", mooncake_trace(mooncake({}, {"output_length": 0}), zero_output="drop"), None, seed=0)
    assert [len(block.arrival_s) for block in load.blocks()] == [1]
    assert load.dropped_zero_output == 1


AZURE_FAULTS = {
    "empty file": ("", None, "the file is empty"),
    "no rows": (HEADER, None, "no rows"),
    "missing column": ("TIMESTAMP,ContextTokens\n2024-05-10 00:00:00,5\n", 1, "missing column GeneratedTokens"),
    "no header": (AZURE_2023.removeprefix(HEADER), 1, "missing column TIMESTAMP"),
    "unparsable time": (AZURE_2023.replace("2023-11-17 00:00:01.9799600,110", "yesterday,110"), 4, "'yesterday'"),
    "impossible time": (AZURE_2023.replace("16 23:59:59", "16 25:59:59"), 3, "25:59:59"),
    "impossible date": (AZURE_2023.replace("11-16 23:59:59", "13-16 23:59:59"), 3, "2023-13-16"),
    "other time zone": (AZURE_2024.replace("01+00:00", "01+02:00"), 3, "UTC"),
    "empty time": (AZURE_2024.replace("2024-05-10 00:00:01+00:00", ""), 3, "TIMESTAMP is ''"),
    "NaN tokens": (AZURE_2023.replace("3180", "nan"), 3, "ContextTokens is 'nan'"),
    "negative tokens": (AZURE_2023.replace("3180", "-3180"), 3, "ContextTokens is '-3180'"),
    "zero prompt": (AZURE_2023.replace("3180", "0"), 3, "ContextTokens is '0'"),
    "fractional tokens": (AZURE_2023.replace("110,27", "110,27.5"), 4, "GeneratedTokens is '27.5'"),
    "negative output": (AZURE_2023.replace("110,27", "110,-1"), 4, "GeneratedTokens is '-1'"),
    "python-only number": (AZURE_2023.replace("3180", "3_180"), 3, "'3_180'"),
    "absurd tokens": (AZURE_2023.replace("3180", "31800000000000000000000"), 3, "31800000000000000000000"),
    "unsorted": (AZURE_2023.replace("17 00:00:01.9799600,34", "16 23:59:59.9799600,34"), 5, "2.000000 s before"),
    "cut inside the last row": (
        AZURE_2023.removesuffix("34,12\n2023-11-17 00:00:08.9799600,2,1") + "34",
        5,
        "cut short",
    ),
    "cut before the last number": (AZURE_2023.removesuffix("1"), 6, "GeneratedTokens is ''"),
    "cut inside the last time": (AZURE_2023.removesuffix(":08.9799600,2,1"), 6, "cut short"),
    "blank row inside": (AZURE_2023.replace("3180,8\n", "3180,8\n\n"), 4, "cut short: 0 of"),
    "stray quote": (AZURE_2023.replace("3180,8", '"3180,8'), 3, "3180"),
}


@pytest.mark.parametrize("fault", AZURE_FAULTS)
def test_azure_faults(azure, fault):
    text, line, message = AZURE_FAULTS[fault]
    trace = azure(text)
    with pytest.raises(InputError) as caught:
        replay(trace)
    problem = caught.value.problems[0]
    assert (problem.file, problem.line) == (trace.path, line)
    assert message in problem.message


def test_a_fault_in_a_later_block_has_its_line(azure):
    rows = [f"2023-11-16 18:00:00.{n:07},5,5\n" for n in range(6000)]
    rows[5000] = rows[5000].replace(",5,5", ",5,x")
    with pytest.raises(InputError, match=r"azure\.csv:5002: GeneratedTokens is 'x'"):
        replay(azure(HEADER + "".join(rows)))
    rows[5000], rows[4096] = rows[4999], rows[10]  # out of order against the last row of the block before
    with pytest.raises(InputError, match=r"azure\.csv:4098: the time is 0\.000408 s before"):
        replay(azure(HEADER + "".join(rows)))


def test_several_faults_are_reported_at_once(azure):
    with pytest.raises(InputError) as caught:
        replay(azure(AZURE_2023.replace("4808,10", "x,y").replace("34,12", "34,z")))
    assert [problem.line for problem in caught.value.problems] == [2, 2, 5]
    with pytest.raises(InputError) as caught:
        replay(azure(HEADER + "x,y,z\n" * 500))
    assert 10 <= len(caught.value.problems) <= 12


MOONCAKE_FAULTS = {
    "empty file": ("", None, "no rows"),
    "missing key": ('{"timestamp": 0, "input_length": 5}\n', 1, "missing key output_length"),
    "not an object": ("[1, 2]\n", 1, "expected a JSON object, not list"),
    "unparsable time": (mooncake({}, {"timestamp": "soon"}), 2, "timestamp is 'soon'"),
    "NaN time": (mooncake({}, {"timestamp": float("nan")}), 2, "timestamp is nan"),
    "true as time": (mooncake({"timestamp": True}), 1, "timestamp is True"),
    "zero prompt": (mooncake({}, {"input_length": 0}), 2, "input_length is 0"),
    "negative output": (mooncake({}, {"output_length": -4}), 2, "output_length is -4"),
    "fractional tokens": (mooncake({}, {"output_length": 4.5}), 2, "output_length is 4.5"),
    "NaN tokens": (mooncake({}, {"input_length": float("nan")}), 2, "input_length is nan"),
    "null tokens": (mooncake({}, {"input_length": None}), 2, "input_length is None"),
    "unsorted": (mooncake({"timestamp": 9}, {"timestamp": 10}, {"timestamp": 8}), 3, "0.002000 s before"),
    "truncated last line": (MOONCAKE[:-20], 4, "cut short"),
    "garbage": (MOONCAKE.replace('{"timestamp": 3000', "#", 1), 4, "not a JSON object"),
}


@pytest.mark.parametrize("fault", MOONCAKE_FAULTS)
def test_mooncake_faults(mooncake_trace, fault):
    text, line, message = MOONCAKE_FAULTS[fault]
    trace = mooncake_trace(text)
    with pytest.raises(InputError) as caught:
        replay(trace)
    problem = caught.value.problems[0]
    assert (problem.file, problem.line) == (trace.path, line)
    assert message in problem.message


def test_unreadable_files(azure, tmp_path):
    with pytest.raises(InputError, match="no such file"):
        replay(AzureTraceArrivals(path=str(tmp_path / "absent.csv")))
    with pytest.raises(InputError, match="directory"):
        replay(MooncakeTraceArrivals(path=str(tmp_path)))
    with pytest.raises(InputError, match="not readable text"):
        replay(azure(gzip.compress(AZURE_2023.encode())))
    with pytest.raises(InputError, match="not readable text"):
        replay(azure("x" * 200_000))


def test_empty_windows(azure):
    with pytest.raises(InputError, match="inside the window"):
        replay(azure(AZURE_2023, start_s=11.0))
    with pytest.raises(InputError, match="inside the window"):
        replay(azure(AZURE_2023, start_s=4.0, end_s=9.0))
    with pytest.raises(ValidationError, match="must be after"):
        azure(AZURE_2023, start_s=4.0, end_s=4.0)
    for keys in ({"rate_scale": 0}, {"rate_scale": float("nan")}, {"max_requests": 0}, {"start_s": -1.0}):
        with pytest.raises(ValidationError):
            azure(AZURE_2023, **keys)


@pytest.mark.parametrize(("name", "rows", "span_s"), [("conv", 19_366, 3501.721937), ("code", 8_819, 3435.948056)])
def test_recorded_azure_traces(traces, name, rows, span_s):
    trace = AzureTraceArrivals(path=str(traces / "azure2023" / f"AzureLLMInferenceTrace_{name}.csv"))
    requests = replay(trace)
    assert len(requests) == rows
    assert requests[0][0] == 0.0
    assert requests[-1][0] == pytest.approx(span_s, abs=1e-6)


@pytest.mark.parametrize(("name", "rows"), [("conversation", 12_031), ("synthetic", 3_993)])
def test_recorded_mooncake_traces(traces, name, rows):
    assert len(replay(MooncakeTraceArrivals(path=str(traces / "mooncake" / f"{name}_trace.jsonl")))) == rows
