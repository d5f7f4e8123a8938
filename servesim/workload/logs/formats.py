"""The formats by name: where each keeps what, and how a file shows which it is."""

from __future__ import annotations

import json
from typing import Any, Literal

from servesim.errors import InputError, Problem
from servesim.workload.logs.csv_table import csv_header
from servesim.workload.logs.documents import read_document
from servesim.workload.logs.rows import Layout
from servesim.workload.logs.servegen import is_servegen
from servesim.workload.logs.text import PARQUET, first_bytes, open_text

Format = Literal[
    "auto",
    "csv",
    "jsonl",
    "parquet",
    "azure",
    "burstgpt",
    "mooncake",
    "qwen_bailian",
    "sharegpt",
    "servegen",
    "vllm_bench",
    "vllm_timed_trace",
    "sglang_bench",
    "guidellm",
    "inference_perf",
    "aiperf",
]

CSV_FORMATS = {
    # Azure Public Dataset, LLM inference traces 2023 and 2024, LMM trace 2025 (CC-BY-4.0).
    "azure": Layout("TIMESTAMP", "ContextTokens", "GeneratedTokens", "iso8601"),
    # Wang et al., "BurstGPT: A Real-World Workload Dataset to Optimize LLM Serving Systems", arXiv:2401.17644.
    "burstgpt": Layout("Timestamp", "Request tokens", "Response tokens", "s"),
}
_MOONCAKE = Layout("timestamp", "input_length", "output_length", "ms", prefix="hash_ids", prefix_block_tokens=512)
JSONL_FORMATS = {
    # Qin et al., "Mooncake: a KVCache-centric disaggregated architecture for LLM serving", FAST 2025.
    "mooncake": _MOONCAKE,
    # `vllm bench serve --dataset-name timed_trace` takes Mooncake's keys.
    "vllm_timed_trace": _MOONCAKE,
    # Alibaba, "qwen-bailian-usagetraces-anon"; Wang et al., "KVCache Cache in the Wild", USENIX ATC 2025.
    "qwen_bailian": Layout(
        "timestamp",
        "input_length",
        "output_length",
        "s",
        session="chat_id",
        parent="parent_chat_id",
        prefix="hash_ids",
        prefix_block_tokens=16,
    ),
    # NVIDIA aiperf 0.13, profile_export.jsonl.
    "aiperf": Layout(
        "metadata.request_start_ns",
        "metrics.input_sequence_length.value",
        "metrics.output_sequence_length.value",
        "ns",
        session="metadata.session_num",
        error="error",
    ),
}
DOCUMENT_FORMATS = {
    "vllm_bench": Layout("start_times", "input_lens", "output_lens", "s"),
    "sglang_bench": Layout(None, "input_lens", "output_lens", "s"),
    "guidellm": Layout("request_start_time", "prompt_tokens", "output_tokens", "s"),
    "inference_perf": Layout("start_time", "input_tokens", "output_tokens", "s"),
    "sharegpt": Layout(None, "conversations[0]", "conversations[1]", "s", lengths_exact=False),
}
COMPLETION_ORDER = frozenset({"vllm_bench", "guidellm", "inference_perf", "aiperf"})
"""Formats whose requests may stand in the order in which they ended: always sorted by time."""

SEVERAL_BENCHMARKS = frozenset({"vllm_bench", "sglang_bench", "guidellm"})
"""Formats whose files may hold several benchmarks, of which one is read."""


def optional_layout(path: str, format: str) -> Layout:
    """Return a fixed format's layout without what this file does not have (BurstGPT's first release has no session)."""
    layout = {**CSV_FORMATS, **JSONL_FORMATS, **DOCUMENT_FORMATS}[format]
    if format == "burstgpt" and "Session ID" in csv_header(path)[0]:
        return Layout("Timestamp", "Request tokens", "Response tokens", "s", session="Session ID")
    return layout


def is_request(format: str, record: Any) -> bool:
    """Return whether a line is a request of the load: aiperf also writes its warm-up."""
    if format != "aiperf":
        return True
    metadata = record.get("metadata")
    return not isinstance(metadata, dict) or metadata.get("benchmark_phase", "profiling") == "profiling"


def detect(path: str) -> str:
    """Return the format of a log by what it holds; raise InputError where nothing fits."""
    if is_servegen(path):
        return "servegen"
    if first_bytes(path) == PARQUET:
        return "parquet"
    with open_text(path) as file:
        first = next((line for line in file if not line.isspace()), "")
    start = first.lstrip()[:1]
    if start == "":
        raise InputError(Problem("the file is empty", file=path))
    if start == "[":
        return _list_format(path)
    if start == "{":
        return _json_format(path, first)
    header = set(csv_header(path)[0])
    for name, layout in CSV_FORMATS.items():
        if {layout.arrival, layout.prompt_tokens, layout.output_tokens} <= header:
            return name
    return "csv"


def _list_format(path: str) -> str:
    document = read_document(path)
    first = document[0] if isinstance(document, list) and document else None
    return "inference_perf" if isinstance(first, dict) and "start_time" in first else "sharegpt"


def _json_format(path: str, first: str) -> str:
    try:
        record = json.loads(first)
    except ValueError:
        if first.rstrip().endswith("}"):
            return "jsonl"  # a faulty first line, which the reader will name
        record = read_document(path)
    if not isinstance(record, dict):
        return "jsonl"
    keys = set(record)
    if keys & {"median_e2e_latency_ms", "total_throughput"}:
        return "sglang_bench"  # vllm's are called median_e2el_ms and total_token_throughput
    if "input_lens" in keys or {"median_ttft_ms", "request_throughput"} <= keys:
        return "vllm_bench"
    if {"successes", "failures"} <= keys:
        return "inference_perf"
    if "benchmarks" in keys:
        return "guidellm"
    if {"metadata", "metrics"} <= keys:
        return "aiperf"
    if {"timestamp", "input_length", "output_length"} <= keys:
        return "qwen_bailian" if "chat_id" in keys else "mooncake"
    return "jsonl"
