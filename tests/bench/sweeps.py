"""What a sweep costs beyond its simulations, and what a second worker gives: `python -m tests.bench --sweep`."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from servesim.experiment.executors import executor
from servesim.experiment.replicate import replicate
from servesim.experiment.sweep import plan_sweep, run_plan, write_outputs
from servesim.experiment.sweep_folder import SweepFolder
from servesim.scenario.load_sweep import Base, asked_of_texts
from tests.data import ROOT

CHAT = ROOT / "scenarios" / "chat-llama31-8b-a100.yaml"
POINTS, REPLICATIONS, DURATION_S = 64, 5, 60
VARY = [
    "workload.classes.chat.arrivals.request_rate_rps=0.5:8:0.5",
    "pools.a100.engine.max_num_seqs=64,128",
    "pools.a100.engine.scheduler=fcfs,shortest_prompt",
]
SHORT = f"workload.duration_s={DURATION_S}"


def _sweep(folder: Path, workers: int) -> tuple[float, float]:
    """Return CPU and wall seconds of the whole command, its start and its workers' included."""
    command = [sys.executable, "-m", "servesim", "sweep", str(CHAT), "--set", SHORT, "--no-pictures", "--quiet"]
    command += [part for text in VARY for part in ("--vary", text)]
    command += ["--replications", str(REPLICATIONS), "--workers", str(workers), "-o", str(folder)]
    before, started_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    wall_s, after = time.perf_counter() - started_s, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall_s


def sweeps() -> None:
    """Print the figures of docs/speed.md."""
    base = Base(CHAT, [SHORT])
    plan = plan_sweep(base, asked_of_texts(VARY, zipped=False), REPLICATIONS)
    assert len(plan.points) == POINTS
    start_s = time.process_time()
    for one in plan.points:
        replicate(one.point.scenario, REPLICATIONS, one.seed)
    alone_s = time.process_time() - start_s
    print(f"{POINTS} points x {REPLICATIONS} replications of {DURATION_S} s of chat; load {os.getloadavg()[0]:.1f}")
    print(f"replicate() alone: {alone_s:.1f} CPU-s")
    with tempfile.TemporaryDirectory() as name:
        with SweepFolder(Path(name) / "here") as folder:
            start_s = time.process_time()
            again = plan_sweep(base, asked_of_texts(VARY, zipped=False), REPLICATIONS)
            write_outputs(run_plan(again, executor("local", 1), folder), folder)
            here_s = time.process_time() - start_s
        one_cpu_s, one_s = _sweep(Path(name) / "one", 1)
        two_cpu_s, two_s = _sweep(Path(name) / "two", 2)
    print(f"the sweep in this process: {here_s:.1f} CPU-s, {1000 * (here_s - alone_s) / POINTS:.0f} ms a point more")
    print(f"servesim sweep: {one_cpu_s:.1f} CPU-s, with two workers {two_cpu_s:.1f} CPU-s, start-up included")
    print(f"two workers: {one_s / two_s:.2f} times as fast ({one_s:.1f} s, {two_s:.1f} s)")
