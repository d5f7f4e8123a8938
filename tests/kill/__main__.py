"""Kill sweeps at random moments and compare what they leave: `python -m tests.kill [--moments N] [--seed S]`.

Each moment starts `servesim sweep` in a fresh folder, kills it with SIGKILL a random part of its usual time later
(every third time the one that goes on, too), lets it go on with `--resume` to its end, and compares every file with
those of a sweep that nobody disturbed: the same bytes, nothing lost, nothing there twice.

A sweep is a fork of this process, which has everything imported, so that moments fall on its work and not on its
start; every twentieth moment is the command itself, with two worker processes and with pictures.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.data import ROOT

SCENARIO = """\
name: killed
workload:
  num_requests: 60
  classes:
    chat:
      arrivals: {kind: poisson, request_rate_rps: 5.0}
      prompt_tokens: 64
      output_tokens: {kind: uniform, min_tokens: 8, max_tokens: 32}
      slo: {ttft_s: 1.0, attainment: 0.9}
pools:
  main: {service_time: {kind: affine, base_s: 0.01}}
sweep:
  vary:
    workload.classes.chat.arrivals.request_rate_rps: {from: 4, to: 16, steps: 3}
    pools.main.replicas: [1, 2]
    pools.main.engine.max_num_seqs: [1, 64]
  replications: 2
"""
WHOLE_COMMAND_EVERY = 20
POLL_S = 0.002

Start = Callable[[Path], int]


def arguments(folder: Path) -> list[str]:
    """Return what `servesim` is called with."""
    scenario = folder.parent / "killed.yaml"
    scenario.write_text(SCENARIO)
    return ["sweep", str(scenario), "-o", str(folder), "--resume", "--quiet"]


def forked(folder: Path) -> int:
    """Start a sweep in a fork of this process and return its process id; without pictures."""
    given = [*arguments(folder), "--no-pictures"]
    pid = os.fork()
    if pid:
        return pid
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    from servesim.cli import main

    try:
        main(given, standalone_mode=False)
    finally:
        os._exit(1 if sys.exc_info()[0] else 0)


def commanded(folder: Path) -> int:
    """Start the command itself, with two workers, and return its process id."""
    command = [sys.executable, "-m", "servesim", *arguments(folder), "--workers", "2"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL).pid


def files(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file of a finished sweep but its lock."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def finish(start: Start, folder: Path) -> float:
    """Run a sweep to its end and return the seconds it took."""
    started_s = time.monotonic()
    _, status = os.waitpid(start(folder), 0)
    if code := os.waitstatus_to_exitcode(status):
        raise SystemExit(f"the sweep in {folder} ended with {code}")
    return time.monotonic() - started_s


def kill_after(start: Start, folder: Path, wait_s: float) -> bool:
    """Start a sweep and kill it after so long; True if it was still at work."""
    pid, until_s = start(folder), time.monotonic() + wait_s
    while time.monotonic() < until_s:
        if os.waitpid(pid, os.WNOHANG)[0]:
            return False
        time.sleep(POLL_S)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return True


def between(folder: Path) -> bool:
    """Say whether some point is there, but not the end."""
    return any((folder / "points").glob("*.json")) and not (folder / "sweep.json").exists()


def warm_up() -> None:
    """Import what a sweep imports, and digest its sources, so that forks begin with its work."""
    import pyarrow.parquet

    import servesim.cli.sweep
    import servesim.experiment.sensitivity
    import servesim.report.sweep_text
    from servesim.experiment.sweep_key import source_digest

    source_digest()
    assert pyarrow.parquet
    assert servesim.cli.sweep
    assert servesim.experiment.sensitivity
    assert servesim.report.sweep_text


def main() -> None:
    """Kill, resume and compare."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--moments", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warm_up()
    rng = random.Random(options.seed)
    starts: dict[str, Start] = {"forked": forked, "commanded": commanded}
    killed = inside = 0
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        usual_s = {how: finish(start, base / f"whole-{how}") for how, start in starts.items()}
        expected = {how: files(base / f"whole-{how}") for how in starts}
        pictures = {path for path in expected["commanded"] if path.endswith(".png")}
        same = {path: data for path, data in expected["commanded"].items() if path not in pictures}
        assert pictures
        assert same == expected["forked"], "the number of workers changed a byte"
        for moment in range(options.moments):
            how = "commanded" if moment % WHOLE_COMMAND_EVERY == WHOLE_COMMAND_EVERY - 1 else "forked"
            folder, start = base / f"moment-{moment}", starts[how]
            for _ in range(1 + (moment % 3 == 0)):
                killed += kill_after(start, folder, rng.uniform(0.0, 1.0) * usual_s[how])
                inside += between(folder)
            finish(start, folder)
            found = files(folder)
            different = [path for path in {**found, **expected[how]} if found.get(path) != expected[how].get(path)]
            if different:
                raise SystemExit(f"moment {moment}: not the same after a kill: {', '.join(sorted(different))}")
            if (moment + 1) % 10 == 0:
                print(
                    f"{moment + 1} moments, {killed} kills, {inside} of them between the first point and the end",
                    flush=True,
                )
    print(
        f"{len(expected['commanded'])} files the same byte for byte every time; undisturbed {usual_s['forked']:.1f} s"
    )


if __name__ == "__main__":
    main()
