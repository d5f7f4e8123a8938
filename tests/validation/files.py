"""Small measured runs in every format that holds latencies, made from the same three requests."""

from __future__ import annotations

import json
from pathlib import Path

# arrival, prompt, output, TTFT, E2E in seconds
ROWS = ((0.0, 100, 3, 0.1, 0.3), (1.5, 200, 5, 0.2, 1.0), (4.0, 300, 2, 0.15, 0.25))
EPOCH_S = 1_700_000_000.0


def csv_file(path: Path) -> Path:
    lines = ["arrival_s,prompt_tokens,output_tokens,ttft_ms,e2e_s"]
    lines += [f"{a},{p},{o},{1e3 * t},{e}" for a, p, o, t, e in ROWS]
    path.write_text("\n".join(lines) + "\n")
    return path


def stamps(path: Path) -> Path:
    """Return JSON lines with clock readings, out of order, as LLMServingSim's recorder writes them."""
    records = [
        {"input_toks": p, "output_toks": o, "arrival_time": -1.0, "queued_ts": 50 + a}
        | {"first_token_ts": 50 + a + t, "last_token_ts": 50 + a + e}
        for a, p, o, t, e in reversed(ROWS)
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def vllm_bench(path: Path, timed: bool = True) -> Path:
    run = {
        "backend": "vllm",
        "input_lens": [p for _, p, *_ in ROWS] + [5],
        "output_lens": [o for _, _, o, *_ in ROWS] + [0],
        "ttfts": [t for *_, t, _ in ROWS] + [0.0],
        "itls": [[(e - t) / (o - 1)] * (o - 1) for _, _, o, t, e in ROWS] + [[]],
        "errors": ["", "", "", "connection lost"],
    }
    if timed:
        run["start_times"] = [EPOCH_S + a for a, *_ in ROWS] + [EPOCH_S]
    path.write_text(json.dumps(run))
    return path


def guidellm(path: Path) -> Path:
    requests = [
        {"request_start_time": EPOCH_S + a, "prompt_tokens": p, "output_tokens": o}
        | {"time_to_first_token_ms": 1e3 * t, "request_latency": e}
        for a, p, o, t, e in ROWS
    ]
    path.write_text(json.dumps({"benchmarks": [{"requests": {"successful": requests, "errored": []}}]}))
    return path


def aiperf(path: Path) -> Path:
    def record(a: float, p: int, o: int, t: float, e: float, phase: str = "profiling") -> dict:
        metrics = {"input_sequence_length": p, "output_sequence_length": o}
        metrics |= {"time_to_first_token": 1e3 * t, "request_latency": 1e3 * e}
        return {
            "metadata": {"request_start_ns": int((EPOCH_S + a) * 1e9), "benchmark_phase": phase},
            "metrics": {name: {"value": value} for name, value in metrics.items()},
        }

    records = [record(-9, 1, 1, 1, 1, "warmup"), *(record(*row) for row in ROWS)]
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    return path


def inference_perf(path: Path) -> Path:
    records = []
    for a, p, o, t, e in ROWS:
        start = 7000.0 + a
        tokens = [start + t + i * (e - t) / (o - 1) for i in range(o)]
        info = {"input_tokens": p, "output_tokens": o, "output_token_times": tokens}
        records.append({"start_time": start, "end_time": start + e, "info": info, "error": None})
    path.write_text(json.dumps(records))
    return path


def vllm_plain(path: Path, **more: object) -> Path:
    run = {"num_prompts": 100, "completed": 100, "max_concurrency": 4, "request_rate": "inf"}
    run |= {"request_throughput": 1.0, "total_input_tokens": 10_000, "total_output_tokens": 5_000}
    run |= {"mean_ttft_ms": 50.0, "median_ttft_ms": 40.0, "p99_ttft_ms": 90.0, "mean_tpot_ms": 10.0}
    path.write_text(json.dumps(run | more))
    return path


PER_REQUEST = {
    "csv": csv_file,
    "stamps": stamps,
    "vllm_bench": vllm_bench,
    "guidellm": guidellm,
    "aiperf": aiperf,
    "inference_perf": inference_perf,
}
