"""Engines whose iteration times are known, and the files that tools would write of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

TRUTH = {"base_s": 0.004, "per_token_s": 6e-5, "per_context_token_s": 2.5e-8, "per_prefill_pair_s": 2e-8}
HOST_S, HOST_PER_SEQ_S = 4e-4, 5e-6


def device_s(prefill_tokens: float, pairs: float, decode_seqs: float, context: float) -> float:
    """Return the true device time of an iteration."""
    tokens = prefill_tokens + decode_seqs
    return (
        TRUTH["base_s"]
        + TRUTH["per_token_s"] * tokens
        + TRUTH["per_context_token_s"] * context
        + TRUTH["per_prefill_pair_s"] * pairs
    )


def recorded_lines(count: int = 600, seed: int = 1, sigma: float = 0.0) -> list[dict[str, Any]]:
    """Return iterations of a made-up engine as the hook records them, meta line first."""
    rng = np.random.default_rng(seed)
    lines: list[dict[str, Any]] = [
        {"meta": {"vllm": "0.32.0", "num_gpu_blocks": 1000, "block_size": 16, "async": False}}
    ]
    now = 100.0
    for i in range(count):
        seqs = int(rng.integers(1, 64))
        context = seqs * int(rng.integers(50, 4000))
        chunks: list[list[Any]] = []
        if rng.random() < 0.4:
            tokens, before = int(rng.integers(16, 1024)), int(rng.integers(0, 2)) * 512
            chunks = [["p", tokens, before, before + tokens]]
        pairs = sum(n * b + n * (n + 1) // 2 for _, n, b, _ in chunks)
        work = device_s(sum(c[1] for c in chunks), pairs, seqs, context) * float(np.exp(sigma * rng.normal()))
        host = HOST_S + HOST_PER_SEQ_S * (seqs + len(chunks))
        t0, t1 = now, now + 0.3 * host
        t2 = t1 + work
        t3 = t2 + 0.3 * host
        now = t3 + 0.4 * host
        lines.append(
            {"i": i, "t0": t0, "t1": t1, "t2": t2, "t3": t3, "pf": chunks, "nd": seqs, "dctx": context, "run": seqs,
             "wait": 1, "fin": []}
        )  # fmt: skip
    return lines


def write_lines(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


SCENARIO = """
name: truth
workload:
  duration_s: {duration_s}
  classes:
    c:
      arrivals: {{kind: poisson, request_rate_rps: {rate}}}
      prompt_tokens: {{kind: lognormal, median_tokens: 300, sigma: 0.8, max_tokens: 4000}}
      output_tokens: {{kind: uniform, min_tokens: 20, max_tokens: 120}}
pools:
  p:
    model: llama-3.1-8b
    gpu: h100_sxm
    engine: {{kind: continuous, max_num_batched_tokens: 2048, max_num_seqs: 256, admission_time_s: {admission_s}}}
    service_time:
      {{kind: affine, base_s: 0.008, per_token_s: 4.0e-5, per_context_token_s: 5.0e-8, per_prefill_pair_s: 8.0e-9}}
"""
BENCH_TRUTH = {"base": 0.008, "dense_0": 4e-5, "context_0": 5e-8, "per_prefill_pair": 8e-9}


def simulated(rate: float = 4.0, duration_s: float = 60.0, admission_s: float = 0.006, seed: int = 0) -> Any:
    """Return a run of the made-up server."""
    import servesim
    from servesim.scenario.load import parse

    text = SCENARIO.format(duration_s=duration_s, rate=rate, admission_s=admission_s)
    return servesim.simulate(parse(text), seed=seed)


def vllm_detailed(result: Any, jitter_s: float = 0.0, seed: int = 0) -> dict[str, Any]:
    """Return what `vllm bench serve --save-result --save-detailed` would have written of a run."""
    rng = np.random.default_rng(seed)
    frame = result.requests
    found: dict[str, list[Any]] = {
        key: [] for key in ("start_times", "input_lens", "output_lens", "ttfts", "itls", "errors")
    }
    for row in frame.itertuples():
        times = np.asarray(result.token_times(row.request_id))
        times = times + rng.exponential(jitter_s, len(times)) if jitter_s else times
        found["start_times"].append(1000.0 + row.arrival_s)
        found["input_lens"].append(int(row.prompt_tokens))
        found["output_lens"].append(len(times))
        found["ttfts"].append(float(times[0] - row.arrival_s))
        found["itls"].append(np.diff(times).tolist())
        found["errors"].append("")
    head = {"backend": "vllm", "completed": len(frame), "median_ttft_ms": 1.0, "request_throughput": 1.0}
    return {**head, **found}
