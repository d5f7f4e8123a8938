"""Aggregate rows of closed-loop runs on real engines: each row becomes a scenario, is replayed, and judged.

What the measurement did is part of the scenario: lengths uniform in 0.8 to 1.0 of the nominal ones, ten requests per
client, all clients starting at once and counted in the mean, latencies as the client sees them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from servesim.catalog import model
from servesim.catalog.layout import Layout, layout_of
from servesim.engine.continuous_plan import ContinuousPlan
from servesim.errors import InputError
from servesim.experiment.simulate import simulate
from servesim.scenario.resolve import resolve
from servesim.scenario.schema import Scenario
from servesim.validation.book import Section

SHORTEST = 0.8
REQUESTS_PER_CLIENT = 10
MEAN_LENGTH = (1.0 + SHORTEST) / 2.0
LEAST_REQUESTS = 320  # in all replays of a run: mean TTFT of 40 requests scatters by several percent with their lengths
_PARALLELISM = {
    "tensor_parallel_size": ("true_tp", "tp_size"),
    "data_parallel_size": ("true_attention_dp", "attention_dp_size"),
    "expert_parallel_size": ("true_moe_ep", "moe_ep_size"),
}
_NUMBERS = {
    "max_num_batched_tokens": int,
    "max_num_seqs": int,
    "block_size": int,
    "gpu_memory_utilization": float,
    "batch_wait_timeout_iters": int,
    "batch_wait_max_tokens_ratio": float,
}


@dataclass(frozen=True)
class Loop:
    """One measured run: mean TTFT and TPOT (seconds) of a load, and the settings of the engine that served it."""

    name: str
    backend: str
    gpu: str
    model: str
    precision: str
    prompt_tokens: int
    output_tokens: int
    clients: int
    ttft_s: float
    tpot_s: float
    engine: dict[str, Any] = field(default_factory=dict)
    split: str = "visible"
    exclude: str = ""
    warmed_up: bool | None = None

    @property
    def e2e_s(self) -> float:
        """Mean end-to-end latency: the first token and the mean number of gaps after it."""
        return self.ttft_s + self.tpot_s * (MEAN_LENGTH * self.output_tokens - 1.0)

    @property
    def group(self) -> tuple[str, str, str]:
        """(engine, GPU, model): what parameters are fitted for."""
        return self.backend, self.gpu, self.model

    @property
    def layout(self) -> Layout:
        """Number formats and parallelism."""
        engine = self.engine
        return layout_of(
            model(self.model),
            self.precision,
            engine.get("kv_cache_dtype", "auto"),
            engine["tensor_parallel_size"],
            engine["data_parallel_size"],
            engine["enable_expert_parallel"],
        )

    @property
    def deployment(self) -> str:
        """The engine, GPU, model, precision and parallelism in one name."""
        engine = self.engine
        kv = "" if engine.get("kv_cache_dtype", "auto") == "auto" else f" kv {engine['kv_cache_dtype']}"
        shared = f" dp{engine['data_parallel_size']}" if engine["data_parallel_size"] > 1 else ""
        shared += " ep" if engine["enable_expert_parallel"] else ""
        size = f"tp{engine['tensor_parallel_size']}{shared}"
        return f"{self.backend} {self.gpu} {self.model} {self.precision}{kv} {size}"

    @property
    def load(self) -> str:
        """Prompt and output tokens and the number of clients."""
        return f"{self.prompt_tokens}/{self.output_tokens} x {self.clients}"


def read_loops(path: Path) -> list[Loop]:
    """Return the rows of a table of closed-loop runs; settings whose columns are missing are left to the engine."""
    try:
        table = pd.read_csv(path)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    needed = {"backend", "model_path", "system", "isl", "osl", "conc", "measured_ttft_ms", "measured_tpot_ms"}
    if missing := sorted(needed - set(table.columns)):
        raise InputError(f"{path}: no column {', '.join(missing)}")
    return [_loop(number, row) for number, row in enumerate(table.to_dict("records"), 1)]


def _loop(number: int, row: dict[Any, Any]) -> Loop:
    entry = model(str(row["model_path"]))
    precision = str(_value(row, "precision") or entry.native_quantization or "bf16")
    if precision == "fp4":
        precision = "mxfp4" if entry.native_quantization == "mxfp4" else "nvfp4"
    engine: dict[str, Any] = {}
    for name, columns in _PARALLELISM.items():
        engine[name] = int(next((v for c in columns if (v := _value(row, c)) is not None), 1))
    engine["enable_expert_parallel"] = engine.pop("expert_parallel_size") > 1
    for name, number_type in _NUMBERS.items():
        if (value := _value(row, name)) is not None:
            engine[name] = number_type(value)
    engine["quantization"] = precision
    if (dtype := _value(row, "kv_cache_dtype")) is not None:
        engine["kv_cache_dtype"] = "auto" if dtype == "bf16" else str(dtype)
    if (chunked := _value(row, "enable_chunked_prefill")) is not None:
        engine["enable_chunked_prefill"] = bool(chunked) and not engine.get("batch_wait_timeout_iters")
    whole = _value(row, "reserve_full_sequence")
    if whole is not None and row["backend"] == "trtllm":
        engine["capacity_scheduler_policy"] = "guaranteed_no_evict" if whole else "max_utilization"
    elif whole is not None:
        engine["scheduler_reserve_full_isl"] = bool(whole)
    warmed = _value(row, "server_warmed_up")
    return Loop(
        name=str(_value(row, "id") or f"row {number}"),
        backend=str(row["backend"]),
        gpu=str(row["system"]),
        model=entry.name,
        precision=precision,
        prompt_tokens=int(row["isl"]),
        output_tokens=int(row["osl"]),
        clients=int(row["conc"]),
        ttft_s=float(row["measured_ttft_ms"]) / 1e3,
        tpot_s=float(row["measured_tpot_ms"]) / 1e3,
        engine=engine,
        split=str(_value(row, "split") or "visible"),
        exclude=str(_value(row, "exclude") or ""),
        warmed_up=None if warmed is None else bool(warmed),
    )


def _value(row: dict[Any, Any], column: str) -> Any:
    value = row.get(column)
    return None if value is None or pd.isna(value) else value


def scenario_of(loop: Loop, **settings: Any) -> Scenario:
    """Return the measurement as a scenario; `settings` are engine settings to add or replace."""
    shortest = [int(SHORTEST * tokens) for tokens in (loop.prompt_tokens, loop.output_tokens)]
    client = {
        "arrivals": {"kind": "closed_loop", "max_concurrency": loop.clients},
        "prompt_tokens": {"kind": "uniform", "min_tokens": shortest[0], "max_tokens": loop.prompt_tokens},
        "output_tokens": {"kind": "uniform", "min_tokens": shortest[1], "max_tokens": loop.output_tokens},
        "num_requests": REQUESTS_PER_CLIENT * loop.clients,
    }
    pool = {"model": loop.model, "gpu": loop.gpu, "backend": loop.backend, "engine": {**loop.engine, **settings}}
    return Scenario.model_validate(
        {
            "name": "closed-loop",
            "workload": {"classes": {"clients": client}},
            "pools": {"main": pool},
            "client": {"clock": "client"},
            "measurement": {"warmup": "none"},
        }
    )


@dataclass(frozen=True)
class Replayed:
    """A measured run beside its replay: simulated means in seconds."""

    loop: Loop
    ttft_s: float
    tpot_s: float
    e2e_s: float
    saturated: bool

    @property
    def errors(self) -> tuple[float, float, float]:
        """Simulated / measured - 1 of TTFT, TPOT and end-to-end latency."""
        loop = self.loop
        pairs = ((self.ttft_s, loop.ttft_s), (self.tpot_s, loop.tpot_s), (self.e2e_s, loop.e2e_s))
        ttft, tpot, e2e = (ours / theirs - 1.0 for ours, theirs in pairs)
        return ttft, tpot, e2e


def saturates(loop: Loop, plan: ContinuousPlan) -> bool:
    """Return whether all clients at the end of their longest requests would need more KV blocks than there are."""
    settings = plan.settings
    needed = loop.clients * (loop.prompt_tokens + loop.output_tokens)
    return needed > (settings.num_gpu_blocks - 1) * settings.block_size


def replay_loop(loop: Loop, without_start: bool = False, **settings: Any) -> Replayed:
    """Return what the simulator says of the run; InputError if it has no service times for it.

    Small runs are averaged over several seeds (`replays_of`): the lengths that the measurement drew are not known.
    `without_start` leaves the first request of every client out of the means, which the measurement does not.
    """
    scenario = scenario_of(loop, **settings)
    plan = resolve(scenario).pools[0].plan
    assert isinstance(plan, ContinuousPlan)
    means = [
        _means(loop, scenario.model_copy(update={"seed": seed}), without_start) for seed in range(replays_of(loop))
    ]
    ttft_s, tpot_s, e2e_s = np.mean(means, axis=0).tolist()
    return Replayed(loop, ttft_s, tpot_s, e2e_s, saturates(loop, plan))


def replays_of(loop: Loop) -> int:
    """Return how many replays of a run it takes to see LEAST_REQUESTS requests."""
    return -(-LEAST_REQUESTS // (REQUESTS_PER_CLIENT * loop.clients))


def _means(loop: Loop, scenario: Scenario, without_start: bool) -> tuple[float, float, float]:
    """Return mean TTFT, TPOT and E2E in seconds of one replay."""
    requests = simulate(scenario).requests
    done = requests[requests["outcome"] == "completed"].sort_values("request_id")
    if done.empty:
        raise InputError(f"{loop.name}: no request could be served")
    if without_start:
        done = done.iloc[loop.clients :]
    ttft_s, e2e_s = done["ttft_s"].to_numpy(float), done["e2e_s"].to_numpy(float)
    tpot_s = (e2e_s - ttft_s) / (done["output_tokens"].to_numpy(float) - 1.0)
    return float(ttft_s.mean()), float(tpot_s.mean()), float(e2e_s.mean())


def replay_all(loops: Sequence[Loop], **settings: Any) -> Iterator[Replayed | tuple[Loop, str]]:
    """Yield each run's replay, or the run and why it cannot be replayed."""
    for loop in loops:
        try:
            yield replay_loop(loop, **settings)
        except InputError as error:
            yield loop, str(error)


def section(data: Path) -> Section:
    """Return the section of the book on the closed-loop runs under `data`."""
    from servesim.validation.closed_loop_book import closed_loop_section

    return closed_loop_section(data / "validation" / "closed_loop_gpu_runs.csv")
