"""M/M/10 at load 0.8 beside a minimal SimPy model and Ciw, in turn, in one process: CPU seconds per request."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator
from typing import Any

import simpy

from servesim import Scenario, simulate

SERVERS, LOAD = 10, 0.8
EXACT_WAIT_S = 0.20459007539822177


def with_servesim(requests: int, seed: int) -> float:
    """Return the mean wait."""
    arrivals = {"kind": "poisson", "request_rate_rps": SERVERS * LOAD}
    scenario = Scenario.model_validate(
        {
            "name": "queue",
            "workload": {
                "num_requests": requests,
                "classes": {"one": {"arrivals": arrivals, "prompt_tokens": 1, "output_tokens": 1}},
            },
            "pools": {
                "pool": {
                    "engine": {"kind": "station", "servers": SERVERS},
                    "service_time": {"kind": "exponential", "mean_s": 1.0},
                }
            },
        }
    )
    arrival, start = simulate(scenario, seed).record.requests.column("arrival_s", "first_scheduled_s")
    return float((start - arrival).mean())


def with_simpy(requests: int, seed: int) -> float:
    """Return the mean wait of the model that SimPy's documentation would have you write: a Resource."""
    rng = random.Random(seed)
    env = simpy.Environment()
    servers = simpy.Resource(env, capacity=SERVERS)
    waits: list[float] = []

    def customer() -> Generator[simpy.Event, Any, None]:
        came_s = env.now
        with servers.request() as turn:
            yield turn
            waits.append(env.now - came_s)
            yield env.timeout(rng.expovariate(1.0))

    def source() -> Generator[simpy.Event, Any, None]:
        for _ in range(requests):
            yield env.timeout(rng.expovariate(SERVERS * LOAD))
            env.process(customer())

    env.process(source())
    env.run()
    return sum(waits) / len(waits)


def with_ciw(requests: int, seed: int) -> float:
    """Return the mean wait; raise ImportError where Ciw is not installed."""
    import ciw

    network = ciw.create_network(
        arrival_distributions=[ciw.dists.Exponential(rate=SERVERS * LOAD)],
        service_distributions=[ciw.dists.Exponential(rate=1.0)],
        number_of_servers=[SERVERS],
    )
    ciw.seed(seed)
    simulation = ciw.Simulation(network)
    simulation.simulate_until_max_customers(requests, method="Finish")
    waits = [record.waiting_time for record in simulation.get_all_records()]
    return float(sum(waits) / len(waits))


def queues(requests: int, repeat: int) -> None:
    """Print requests per CPU second of each, the fastest of `repeat`, and the mean waits, so that all did the work."""
    models: dict[str, Callable[[int, int], float]] = {
        "servesim": with_servesim,
        "SimPy": with_simpy,
        "Ciw": with_ciw,
    }
    best: dict[str, float] = {}
    waits: dict[str, list[float]] = {}
    for seed in range(repeat):
        for name, model in models.items():
            begin = time.process_time()
            try:
                waits.setdefault(name, []).append(model(requests, seed))
            except ImportError:
                continue
            seconds = (time.process_time() - begin) / requests
            best[name] = min(best.get(name, seconds), seconds)
    print(f"M/M/{SERVERS} at load {LOAD}, {requests:,} requests; exact mean wait {EXACT_WAIT_S:.4f} s")
    for name in models:
        if name not in best:
            print(f"{name:10} not installed (pip install 'servesim[bench]')")
            continue
        ratio = best[name] / best["servesim"]
        mean_s = sum(waits[name]) / len(waits[name])
        print(
            f"{name:10} {1 / best[name]:9,.0f} requests/CPU-s   servesim is {ratio:5.2f} times as fast   {mean_s:.4f} s"
        )
