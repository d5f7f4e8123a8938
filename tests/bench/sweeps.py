"""What a sweep costs beyond its simulations, and what a second worker gives: `python -m tests.bench --sweep`."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

from servesim.experiment import sweep_point
from servesim.experiment.executors import executor
from servesim.experiment.replicate import Replications, replicate
from servesim.experiment.sweep import plan_sweep, run_plan, write_outputs
from servesim.experiment.sweep_folder import SweepFolder
from servesim.scenario.load_sweep import Base, asked_of_texts
from tests.data import ROOT

CHAT = ROOT / "scenarios" / "chat-llama31-8b-a100.yaml"
POINTS, REPLICATIONS = 64, 5
VARY = [
    "workload.classes.chat.arrivals.request_rate_rps=0.5:8:0.5",
    "pools.a100.engine.max_num_seqs=64,128",
    "pools.a100.engine.scheduler=fcfs,shortest_prompt",
]


def _sweep(folder: Path, workers: int, points: int, duration: str) -> tuple[float, float]:
    """Return CPU and wall seconds of the whole command, its start and its workers' included.

    One point instead of all of them is one of a single request, once.
    """
    command = [sys.executable, "-m", "servesim", "sweep", str(CHAT), "--no-pictures", "--quiet"]
    if points == 1:
        command += ["--vary", "seed=1", "--set", "workload.num_requests=1", "--set", "workload.duration_s=null"]
    else:
        command += ["--set", duration, "--replications", str(REPLICATIONS)]
        command += [part for text in VARY for part in ("--vary", text)]
    command += ["--workers", str(workers), "-o", str(folder)]
    before, started_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    wall_s, after = time.perf_counter() - started_s, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall_s


def _beyond(folder: Path, duration: str) -> tuple[float, float]:
    """Return CPU seconds of a sweep in this process: of its simulations, and of all else (planning, keys, files).

    Both are of the same minute, so that what else the machine does cannot pass for a difference.
    """
    simulated_s = 0.0

    def timed(*arguments: Any) -> Replications:
        nonlocal simulated_s
        started_s = time.process_time()
        found = replicate(*arguments)
        simulated_s += time.process_time() - started_s
        return found

    started_s = time.process_time()
    with SweepFolder(folder) as entered, mock.patch.object(sweep_point, "replicate", timed):
        plan = plan_sweep(Base(CHAT, [duration]), asked_of_texts(VARY, zipped=False), REPLICATIONS)
        assert len(plan.points) == POINTS
        write_outputs(run_plan(plan, executor("local", 1), entered), entered)
    return simulated_s, time.process_time() - started_s - simulated_s


def sweeps(duration_s: int) -> None:
    """Print the figures of docs/speed.md, for runs of so many simulated seconds."""
    duration = f"workload.duration_s={duration_s}"
    print(f"{POINTS} points x {REPLICATIONS} replications of {duration_s} s of chat; load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as name:
        _sweep(Path(name) / "first", 1, 1, duration)  # what is read from disk once
        (start_cpu_s, _), (one_cpu_s, one_s), (two_cpu_s, two_s) = (
            _sweep(Path(name) / label, workers, points, duration)
            for label, workers, points in (("start", 1, 1), ("one", 1, POINTS), ("two", 2, POINTS))
        )
        simulated_s, beyond_s = _beyond(Path(name) / "here", duration)
    print(f"in one process: simulations {simulated_s:.1f} CPU-s, all else {1000 * beyond_s / POINTS:.1f} ms a point")
    print(f"servesim sweep of one point of no length: {start_cpu_s:.2f} CPU-s, its start, once")
    print(f"so in all {1000 * (beyond_s + start_cpu_s) / POINTS:.1f} ms a point beyond the simulations")
    more = two_cpu_s / one_cpu_s - 1
    print(f"servesim sweep: {one_cpu_s:.1f} CPU-s; with two workers {two_cpu_s:.1f} CPU-s, {100 * more:+.0f} %")
    print(f"two workers: {one_s / two_s:.2f} times as fast ({one_s:.1f} s, {two_s:.1f} s)")
