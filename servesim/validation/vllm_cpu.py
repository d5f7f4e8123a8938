"""Six real runs of vLLM 0.32 on a CPU, replayed blind and with one speed factor per run."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from servesim.catalog import Model
from servesim.catalog.iteration_form import Coefficients
from servesim.catalog.model_errors import DeploymentError
from servesim.engine.settings import EngineSettings
from servesim.service_time.calibrated import FormIterationTime
from servesim.service_time.stretched import StretchedIterationTime
from servesim.validation.book import Section, metric_error
from servesim.validation.drive import drive
from servesim.validation.errors import noise, statistics
from servesim.validation.iteration_logs import (
    LoggedRows,
    fitted,
    joined,
    loop_gap_s,
    read_iterations,
    rows_of,
    speed_factor,
)
from servesim.validation.runs import Run

MODEL = Model(
    name="llama-58m",
    layers=8,
    hidden=512,
    heads=8,
    kv_heads=4,
    head_dim=64,
    intermediate=1536,
    vocab=32000,
    max_context=4096,
    sources={"config": "vllm_cpu/README.md: random weights, for measurement only"},
)
CALIBRATION = ("grid2048", "chunk512", "traffic")
SCHEDULER_TEST_ONLY = "r03_gen_p70_smallkv"
USER_STAGGER_S = 0.02
TARGETS = {"ttft": 0.06, "tpot": 0.03, "e2e": 0.03}
TARGET_P99 = 0.10
STATISTIC_NAMES = ("mean", "p50", "p90", "p99")
STATISTICS = tuple(f"{name}_s.{which}" for name in TARGETS for which in ("mean", "p99"))


@dataclass(frozen=True)
class LoggedRun:
    """A measured run with its engine's settings, its users' first requests (closed loop only) and its batches."""

    run: Run
    settings: EngineSettings
    users_start_s: tuple[float, ...]
    rows: LoggedRows


def read_run(folder: Path, host_time_s: float) -> LoggedRun:
    """Return one run: latencies at the client from the planned arrival on, as the measurement defines them."""
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    meta, iterations = read_iterations(folder / "iters.jsonl.gz")
    with (folder / "requests.csv").open(encoding="utf-8") as file:
        table = sorted(csv.DictReader(file), key=lambda row: (float(row["submit"]), int(row["idx"])))

    def column(name: str) -> Any:
        return np.array([float(row[name] or 0) for row in table])

    arrival_s = column("arrival")
    users = {row["user"] for row in table} if summary["spec"]["arrival"] == "closed" else set()
    run = Run(
        folder.name,
        arrival_s,
        column("prompt").astype(np.int64),
        column("output").astype(np.int64),
        column("first_token") - arrival_s,
        column("last_token") - arrival_s,
        cached_tokens=column("cached_tokens").astype(np.int64) if meta["apc"] else None,
    )
    settings = EngineSettings(
        max_num_seqs=meta["max_num_seqs"],
        max_num_batched_tokens=meta["max_num_batched_tokens"],
        max_model_len=summary["engine_args"]["max_model_len"],
        enable_chunked_prefill=meta["chunked"],
        scheduler_reserve_full_isl=meta["reserve_full_isl"],
        async_scheduling=meta["async"],
        block_size=meta["block_size"],
        num_gpu_blocks=meta["num_gpu_blocks"],
        host_time_s=host_time_s,
    )
    starts = tuple(USER_STAGGER_S * user for user in range(len(users)))
    return LoggedRun(run, settings, starts, rows_of(iterations))


def calibrate(folder: Path) -> tuple[Coefficients, float]:
    """Return the form fitted to the calibration logs alone, and the loop's own time between iterations."""
    logs = [read_iterations(folder / "calibration" / f"{name}_iters.jsonl.gz")[1] for name in CALIBRATION]
    return fitted(joined([rows_of(log) for log in logs]), MODEL), float(np.median([loop_gap_s(log) for log in logs]))


@dataclass(frozen=True)
class Replayed:
    """One run's measurement, its noise, its speed factor, and both replays."""

    name: str
    measured: dict[str, float]
    noise: dict[str, float]
    factor: float
    blind: dict[str, float]
    scaled: dict[str, float]

    def error(self, statistic: str, blind: bool = False) -> float:
        """Return simulated / measured - 1."""
        return (self.blind if blind else self.scaled)[statistic] / self.measured[statistic] - 1.0


def replay(folder: Path) -> list[Replayed]:
    """Replay every run below `folder`, once with the calibration alone and once with the run's own speed factor."""
    coefficients, gap_s = calibrate(folder)
    found = []
    for place in sorted((folder / "runs").iterdir()):
        logged = read_run(place, gap_s)
        times = FormIterationTime(coefficients, logged.settings.max_num_batched_tokens, logged.settings.max_num_seqs)
        factor = speed_factor(logged.rows, times)
        blind, scaled = (
            statistics(drive(logged.run, logged.settings, StretchedIterationTime(times, by), logged.users_start_s))
            for by in (1.0, factor)
        )
        found.append(Replayed(place.name, statistics(logged.run), noise([logged.run]), factor, blind, scaled))
    return found


def section(data: Path) -> Section:
    """Return the section of the vLLM runs on a CPU."""
    runs = replay(data / "validation" / "vllm_cpu")
    scored = [run for run in runs if run.name != SCHEDULER_TEST_ONLY]
    figures, targets = {}, {}
    for name, target in TARGETS.items():
        for which, limit in (("mean", target), ("p99", TARGET_P99)):
            for how, blind in (("speed_factor", False), ("blind", True)):
                errors = [abs(run.error(f"{name}_s.{which}", blind)) for run in scored]
                figures[f"vllm_cpu.{how}.{name}_{which}.average"] = float(np.mean(errors))
                figures[f"vllm_cpu.{how}.{name}_{which}.worst"] = max(errors)
            targets[f"vllm_cpu.speed_factor.{name}_{which}.average"] = limit
            targets[f"vllm_cpu.speed_factor.{name}_{which}.worst"] = limit
    found: dict[str, Any] = {
        f"{name}_s": metric_error(
            [run.error(f"{name}_s.{which}", blind=True) for run in scored for which in STATISTIC_NAMES]
        )
        for name in TARGETS
    }
    source = "five runs of vLLM 0.32, blind: the speed of the shared core drifted by 10 %; nothing tuned"
    entry = DeploymentError(
        backend="vllm", gpu="cpu", model=MODEL.name, rows=len(scored) * len(STATISTIC_NAMES), source=source, **found
    )
    return Section("vLLM on a CPU", _TEXT + "\n" + _table(runs), figures, targets, errors=[entry])


_TEXT = """vLLM 0.32 (V1 engine) served a small random-weight Llama on one core of a shared machine: five runs of
Poisson traffic (chat, long prompts, shared prefixes, no chunking) and a closed loop of 16 users, with every
client token time. The iteration form is fitted to the separate calibration logs alone (22,000 iterations).
*Blind* replays with that; *speed factor* multiplies all times by one number per run, taken from the run's
own iteration log, because the core ran between 0.90 and 1.14 times as fast from run to run. TTFT and E2E
count from the planned arrival to the client; the replay leaves out the client's own few milliseconds.
Prefix-cache hits at first admission are taken from the log.

`r03_gen_p70_smallkv` is a scheduler test only: with 90 KV blocks it is metastable (686, 109 and 208 preemptions in
three repeats of the same trace), and no latency of it can be predicted; given its iteration times the engine
reproduces every batch and preemption (docs/engine.md). Its row is shown, and not in the figures. Noise: the
standard error of the run's own statistic by block bootstrap; three repeats of one trace scattered by 13 % in mean
TTFT and 23 % in mean TPOT.

The one miss, E2E p99 of `r06_prefix_apc_on`: its longest requests all ran in the first 20 seconds, when the core was 10
to 17 % slower than in the rest of that run; one factor for a whole run cannot say so.
"""


def _table(runs: list[Replayed]) -> str:
    head = "| Run | Speed | Replay | TTFT mean | TTFT p99 | TPOT mean | TPOT p99 | E2E mean | E2E p99 |"
    lines = [head, "|---" * 9 + "|"]
    for run in runs:
        for title, blind in (("blind", True), ("speed factor", False)):
            cells = [f"{100 * run.error(name, blind):+.1f} %" for name in STATISTICS]
            lines.append(f"| {run.name} | {run.factor:.3f} | {title} | " + " | ".join(cells) + " |")
        cells = [f"± {100 * run.noise[name]:.1f} %" for name in STATISTICS]
        lines.append(f"| | | noise | {' | '.join(cells)} |")
    return "\n".join(lines)
