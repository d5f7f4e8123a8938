"""How fast servesim is, as ratios inside one run: `python -m tests.bench [--requests N] [--repeat K] [--million]`.

`--queues` compares a plain queue with other simulators instead, see queues.py; `--sweep` measures sweeps.

Machines differ and are shared, so the figures to quote are ratios to two yardsticks measured in turn with the
workloads: a bare heapq loop, and the step-by-step reference engine. Seconds are CPU seconds of this process; of
several repeats the fastest counts, because everything else only ever adds to it. `simulate()` and the whole process
(`servesim run`, start-up, summary and files included) are reported apart.
"""

from __future__ import annotations

import argparse
import heapq
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from servesim import Scenario, load, simulate
from servesim.metrics.checks import check
from tests.bench.queues import queues
from tests.bench.sweeps import sweeps

SCENARIOS = Path(__file__).parents[2] / "scenarios" / "bench"
LOAD = {"w1": 0.75, "w2": 3.0}
OUTSTANDING = 64


def bare_heapq_loop(requests: int) -> float:
    """Return CPU seconds per request of the smallest event loop there is.

    Each request is two events on a heap, an arrival (times drawn beforehand) and a departure, with 64 outstanding.
    """
    rng = random.Random(1)
    now, arrivals = 0.0, []
    for _ in range(2 * requests + 4 * OUTSTANDING):
        now += rng.expovariate(1.0)
        arrivals.append(now)
    queue: list[tuple[float, int, int]] = []
    push, pop = heapq.heappush, heapq.heappop
    done, total_s = 0, 0.0
    start = time.process_time()
    push(queue, (arrivals[0], 0, 0))
    while done < requests:
        time_s, is_departure, number = pop(queue)
        if is_departure:
            done += 1
            total_s += time_s - arrivals[number]
        else:
            push(queue, (time_s + OUTSTANDING, 1, number))
            push(queue, (arrivals[number + 1], 0, number + 1))
    return (time.process_time() - start) / requests


def cpu_s_per_request(scenario: Scenario, reference: bool = False) -> tuple[float, dict[str, float]]:
    """Run once; return CPU seconds per request and what the run was like."""
    start = time.process_time()
    result = simulate(scenario, reference=reference)
    spent = time.process_time() - start
    (preemptions,) = result.record.requests.column("preemptions")
    replicas = result.record.pools[0].replicas
    facts = {
        "throughput_rps": len(preemptions) / result.record.end_s,
        "preempted": float((preemptions > 0).mean()),
        "runs": sum(len(r.runs) for r in replicas) / len(preemptions),
        "iterations": sum(r.runs.column("iterations")[0].sum() for r in replicas) / len(preemptions),
    }
    return spent / len(preemptions), facts


def scenario(name: str, requests: int, rate_rps: float | None = None) -> Scenario:
    """Return a bench scenario with another number of requests and, if given, another rate."""
    changes = [f"workload.num_requests={requests}"]
    if rate_rps is not None:
        changes.append(f"workload.classes.chat.arrivals.request_rate_rps={rate_rps}")
    return load(SCENARIOS / f"{name}.yaml", changes)


def workloads(requests: int, repeat: int) -> None:
    """Print the table of w1 to w5 and of the reference."""
    _, facts = cpu_s_per_request(scenario("w3", requests))
    capacity = facts["throughput_rps"]
    print(f"throughput of w3 {capacity:.3f} requests/s; w1 runs at {LOAD['w1']}, w2 at {LOAD['w2']} times that\n")
    cases = {
        "w1": (scenario("w1", requests, LOAD["w1"] * capacity), False),
        "w2": (scenario("w2", requests, LOAD["w2"] * capacity), False),
        "w3": (scenario("w3", requests), False),
        "w4": (scenario("w4", requests // 5), False),
        "w5": (scenario("w5", requests // 5), False),
        "w1 reference": (scenario("w1", requests // 10, LOAD["w1"] * capacity), True),
        "w5 reference": (scenario("w5", max(requests // 250, 100)), True),
    }
    best: dict[str, float] = {}
    about: dict[str, dict[str, float]] = {}
    for _ in range(repeat):
        best["heapq"] = min(best.get("heapq", 1.0), bare_heapq_loop(requests // 2))
        for name, (case, reference) in cases.items():
            seconds, about[name] = cpu_s_per_request(case, reference)
            best[name] = min(best.get(name, 1.0), seconds)
    print(f"{'':14} {'requests/CPU-s':>15} {'heapq / this':>13} {'runs/req':>9} {'iter/req':>9} {'preempted':>10}")
    print(f"{'bare heapq':14} {1 / best['heapq']:15,.0f} {1.0:13.3f}")
    for name in cases:
        row = about[name]
        print(
            f"{name:14} {1 / best[name]:15,.0f} {'1/' + format(best[name] / best['heapq'], '.1f'):>13}"
            f" {row['runs']:9.2f} {row['iterations']:9.1f} {row['preempted']:10.1%}"
        )
    print(f"w1: the always-on checks take {check_share(cases['w1'][0], repeat):.1%} of the time of simulate()")
    for name in ("w1", "w5"):
        print(f"{name}: {best[name + ' reference'] / best[name]:.1f} times the reference")


def check_share(case: Scenario, repeat: int) -> float:
    """Return the CPU time of conservation, causality and Little's law checks as a share of the simulation's."""
    shares = []
    for _ in range(repeat):
        start = time.process_time()
        result = simulate(case)
        middle = time.process_time()
        check(result.record)
        shares.append((time.process_time() - middle) / (middle - start))
    return min(shares)


def whole_process(requests: int) -> None:
    """Print what `servesim run` takes from start to files, and `servesim --help`."""
    servesim = [sys.executable, "-m", "servesim"]
    with tempfile.TemporaryDirectory() as folder:
        for label, command, per in (
            ("servesim --help", [*servesim, "--help"], False),
            (
                f"servesim run w1, {requests:,} requests, with files",
                [
                    *servesim,
                    "run",
                    str(SCENARIOS / "w1.yaml"),
                    "--set",
                    f"workload.num_requests={requests}",
                    "-o",
                    f"{folder}/out",
                ],
                requests,
            ),
        ):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            rate = f", {per / spent:,.0f} requests/CPU-s" if per else ""
            print(f"{label}: {spent:.2f} CPU-s{rate}")


def million() -> None:
    """Print the memory that one million requests take, beyond what the tenth of them takes."""
    peaks = {}
    for requests in (100_000, 1_000_000):
        code = (
            "import resource\nfrom tests.bench.__main__ import scenario\nfrom servesim import simulate\n"
            "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
            f"result = simulate(scenario('w1', {requests}))\nprint(peak())\nresult.summary\nprint(peak())"
        )
        out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        peaks[requests] = [int(line) for line in out.stdout.split()]
    for label, small, large in zip(("simulate()", "with its summary"), *peaks.values(), strict=True):
        growth = (large - small) / 900_000
        print(f"one million requests, {label}: peak {large / 1e6:.0f} MB, {growth:.0f} bytes of growth each")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--million", action="store_true", help="also measure the memory of a million requests")
    parser.add_argument("--queues", action="store_true", help="only M/M/10 beside SimPy and Ciw")
    parser.add_argument("--sweep", action="store_true", help="only what a sweep costs beyond its simulations")
    parser.add_argument("--sweep-seconds", type=int, default=300, help="simulated seconds of each of its runs")
    options = parser.parse_args()
    if options.queues:
        queues(options.requests, options.repeat)
        return
    if options.sweep:
        sweeps(options.sweep_seconds)
        return
    workloads(options.requests, options.repeat)
    print()
    whole_process(options.requests)
    if options.million:
        million()


if __name__ == "__main__":
    main()
