"""What makes TTFT wrong elsewhere: each ingredient as a scenario parameter, and what leaving it out moves here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from servesim.catalog.examples import example
from servesim.experiment.simulate import simulate
from servesim.scenario.load import parse
from servesim.validation.book import Section

SCENARIO = "chat-llama31-8b-a100"
SHORTER = ("workload.duration_s=900",)
_POOL, _CHAT = "pools.a100.engine", "workload.classes.chat"
CLOSED_LOOP = (
    f"{_CHAT}.arrivals={{kind: closed_loop, max_concurrency: 64}}",
    f"{_CHAT}.num_requests=640",
    f"{_CHAT}.lengths=null",
    f"{_CHAT}.prompt_tokens=1024",
    f"{_CHAT}.output_tokens=256",
    "measurement.warmup=none",
)


@dataclass(frozen=True, slots=True)
class Ingredient:
    """A parameter, what it is called in a scenario, and a change of it from a base that both have."""

    name: str
    keys: str
    change: str
    base: tuple[str, ...]
    changed: tuple[str, ...]


INGREDIENTS = (
    Ingredient(
        "host time per iteration",
        "`engine.host_time_s`, `host_time_per_seq_s`",
        "2 ms, left out (one-ahead scheduling off)",
        (f"{_POOL}.async_scheduling=false", f"{_POOL}.host_time_s=0.002"),
        (f"{_POOL}.async_scheduling=false", f"{_POOL}.host_time_s=0"),
    ),
    Ingredient(
        "admission and tokenisation per request",
        "`engine.admission_time_s`, `admission_time_per_token_s`",
        "20 ms, left out",
        (f"{_POOL}.admission_time_s=0.02",),
        (f"{_POOL}.admission_time_s=0",),
    ),
    Ingredient(
        "defaults of the engine's version: token budget",
        "`engine.max_num_batched_tokens`, `max_num_seqs`",
        "2,048 (vLLM on an A100), taken as 8,192",
        (f"{_POOL}.max_num_batched_tokens=2048",),
        (f"{_POOL}.max_num_batched_tokens=8192",),
    ),
    Ingredient(
        "defaults of the engine's version: one-ahead scheduling",
        "`engine.async_scheduling`, `scheduler_reserve_full_isl`, `enable_chunked_prefill`, `resume_from_cache`",
        "on, taken as off",
        (f"{_POOL}.async_scheduling=true",),
        (f"{_POOL}.async_scheduling=false",),
    ),
    Ingredient(
        "real number of KV blocks",
        "`engine.num_gpu_blocks`, else `gpu_memory_utilization`, `non_kv_overhead_bytes`",
        "2,500, taken as unlimited",
        (f"{_POOL}.num_gpu_blocks=2500",),
        (f"{_POOL}.num_gpu_blocks=unlimited",),
    ),
    Ingredient(
        "clock boundary",
        "`client.clock`, `request_network_s`, `response_network_s`",
        "client's with 20 ms of network, taken as the server's",
        ("client={clock: client, request_network_s: 0.01, response_network_s: 0.01}",),
        ("client={clock: server}",),
    ),
    Ingredient(
        "start-up wave of a closed loop",
        "`arrivals: {kind: closed_loop, start_stagger_s}`, `measurement.warmup`",
        "all 64 clients start at once and count; their first requests left out",
        CLOSED_LOOP,
        (*CLOSED_LOOP, "measurement.warmup={requests: 64}"),
    ),
    Ingredient(
        "length distribution",
        "`prompt_tokens`, `output_tokens`, `lengths`, `arrivals: {kind: log}`",
        "the recorded joint law, taken as its means",
        (),
        (f"{_CHAT}.lengths=null", f"{_CHAT}.prompt_tokens=1152", f"{_CHAT}.output_tokens=207"),
    ),
)


def section(data: Path) -> Section:
    """Return the section on what moves TTFT; it needs no measurements."""
    lines = [
        _TEXT,
        "",
        "| Ingredient | Keys of a scenario | Change | TTFT mean | TTFT p99 | TPOT mean |",
        "|---" * 6 + "|",
    ]
    figures = {}
    for one in INGREDIENTS:
        base, changed = _latencies(one.base), _latencies(one.changed)
        moved = [after / before - 1 for before, after in zip(base, changed, strict=True)]
        cells = " | ".join(f"{100 * value:+.1f} %" for value in moved)
        lines.append(f"| {one.name} | {one.keys} | {one.change} | {cells} |")
        figures[f"ttft.{one.name.replace(' ', '_').replace(':', '')}"] = abs(moved[0])
    return Section("What moves TTFT", "\n".join(lines), figures)


def _latencies(overrides: tuple[str, ...]) -> tuple[float, float, float]:
    scenario = parse(example(SCENARIO), overrides=(*SHORTER, *overrides))
    numbers = simulate(scenario).numbers["classes"]["all"]
    return numbers["ttft_s"]["mean"], numbers["ttft_s"]["p99"], numbers["tpot_s"]["mean"]


_TEXT = f"""Simulators are wrong about TTFT for reasons that have names. Each is a parameter here, and the table says
what leaving it out does to `scenarios/{SCENARIO}.yaml` (15 minutes of it). These figures are no errors: they have no
target, and the gate only says when they move. Which of them is wrong in your scenario, `servesim validate` tells from
a measurement (docs/validate.md)."""
