"""Kill sweeps at random moments and compare what they leave: `python -m tests.kill [--moments N] [--seed S]`.

Each moment starts `servesim sweep` in a fresh folder, kills it with SIGKILL a random part of its usual time later
(every third time the one that goes on, too), lets it go on with `--resume` to its end, and compares every file with
those of a sweep that nobody disturbed. Every second moment has two worker processes.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.data import ROOT

SCENARIO = """\
name: killed
workload:
  num_requests: 400
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


def sweep(folder: Path, workers: int) -> list[str]:
    """Return the command."""
    scenario = folder.parent / "killed.yaml"
    scenario.write_text(SCENARIO)
    command = [sys.executable, "-m", "servesim", "sweep", str(scenario), "-o", str(folder), "--resume"]
    return [*command, "--workers", str(workers)]


def files(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file of a finished sweep but its lock."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def finish(folder: Path, workers: int) -> None:
    """Run a sweep to its end."""
    done = subprocess.run(sweep(folder, workers), cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"the sweep in {folder} ended with {done.returncode}:\n{done.stderr}")


def kill_after(folder: Path, workers: int, wait_s: float) -> bool:
    """Start a sweep and kill it after so long; True if it was still at work."""
    with subprocess.Popen(sweep(folder, workers), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as sent:
        try:
            sent.wait(wait_s)
        except subprocess.TimeoutExpired:
            sent.kill()
            return True
    return False


def main() -> None:
    """Kill, resume and compare."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--moments", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    killed = with_points = 0
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        usual_s, expected = {}, {}
        for workers in (1, 2):
            started_s = time.monotonic()
            finish(base / f"whole-{workers}", workers)
            usual_s[workers] = time.monotonic() - started_s
            expected[workers] = files(base / f"whole-{workers}")
        assert expected[1] == expected[2], "the number of workers changed a byte"
        for moment in range(options.moments):
            folder, workers = base / f"moment-{moment}", 1 + moment % 2
            for _ in range(1 + (moment % 3 == 0)):
                killed += kill_after(folder, workers, rng.uniform(0.1, 1.0) * usual_s[workers])
                with_points += any((folder / "points").glob("*.json")) and not (folder / "sweep.json").exists()
            finish(folder, workers)
            found = files(folder)
            different = [name for name in {**found, **expected[1]} if found.get(name) != expected[1].get(name)]
            if different:
                raise SystemExit(f"moment {moment}: not the same after a kill: {', '.join(sorted(different))}")
    print(f"{options.moments} moments, {killed} kills, {with_points} of them between the first point and the end")
    print(f"{len(expected[1])} files the same byte for byte every time; undisturbed {usual_s[1]:.1f} s")


if __name__ == "__main__":
    main()
