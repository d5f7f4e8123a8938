"""Rows of routers, closed loops and continuous batching."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.theory import controls as c
from tests.theory.book import Case, Row
from tests.theory.sample import Sample, mean, throughput
from tests.theory.scenarios import Part, batching, exponential, poisson, queue, station

SOJOURN = mean("sojourn")
MEMORYLESS = c.exponential(1.0)


def _routed(
    name: str, row: Row, rate: float, replicas: int, router: Part, requests: int, skip: int = 4000, runs: int = 32
) -> Case:
    scenario = queue(poisson(rate), exponential(), requests, replicas=replicas, router=router)
    return Case(name, scenario, (row,), skip, runs, quick=row.id == "jsq-4")


def _inputs(rate: float, servers: int) -> tuple[c.Control, ...]:
    """Return the realised gaps and work, and one fast server in the place of all."""
    return (c.gap(rate), c.work(1.0), *c.twins(rate, MEMORYLESS, servers))


def _every_fourth() -> c.Control:
    return c.replica_twin(c.gim1_wait(c.gamma_gaps(0.8, 4.0), 1 / 1.1), 1.1)


def _split() -> c.Control:
    return c.replica_twin(c.mg1_wait(0.8, MEMORYLESS, 1.1)[0], 1.1)


ROUTED = (
    _routed(
        "round robin",
        Row("rr4-Wq", mean("wait"), (c.gap(3.2), c.work(1.0), _every_fourth())),
        3.2,
        4,
        {"kind": "round_robin"},
        60_000,
    ),
    _routed(
        "random split",
        Row("split", SOJOURN, (c.gap(3.2), c.work(1.0), _split())),
        3.2,
        4,
        {"kind": "random"},
        80_000,
    ),
    _routed(
        "join the shortest of 2",
        Row("jsq-2", SOJOURN, _inputs(1.8, 2), 0.02),
        1.8,
        2,
        {"kind": "least_outstanding"},
        40_000,
    ),
    _routed(
        "join the shortest of 4", Row("jsq-4", SOJOURN, _inputs(3.2, 4)), 3.2, 4, {"kind": "least_outstanding"}, 40_000
    ),
    *(
        _routed(
            f"best of {d} among 1,000",
            Row(f"pod-{d}", SOJOURN, (c.gap(900.0), c.work(1.0)), kind="asymptotic"),
            900.0,
            1000,
            {"kind": "power_of_d", "d": d},
            160_000,
            50_000,
            14,
        )
        for d in (2, 3)
    ),
)

CLIENTS = {"kind": "closed_loop", "max_concurrency": 32, "think_time_s": 1.0, "think": "exponential"}


def _closed(name: str, servers: int, mean_s: float, rows: tuple[Row, ...]) -> Case:
    scenario = queue(CLIENTS, exponential(mean_s), 25_000, station(servers=servers))
    return Case(name, scenario, rows)


WORK = c.work(0.05)
CLOSED = (
    _closed(
        "32 clients, one server",
        1,
        0.05,
        (Row("repair-X", throughput, (WORK,)), Row("repair-R", SOJOURN, (WORK,))),
    ),
    _closed("32 clients, four servers", 4, 0.2, (Row("repair4-X", throughput, (c.work(0.2),)),)),
)


def _iterations(sample: Sample) -> float:
    """Return the share of time in iterations."""
    runs = sample.record.pools[0].replicas[0].runs
    count, first, bend = runs.column("iterations", "first_s", "bend_s")
    return float((count * (first + bend * (count - 1))).sum() / sample.record.end_s)


def _full_batch(sample: Sample) -> np.ndarray:
    """Return what a request is at the pace of a full batch: an iteration of 12 ms serves 16."""
    return sample.tokens * 0.012 / 16


def _batching(
    name: str, rate: float, requests: int, skip: int, row: Row, more: tuple[Row, ...] = (), finer: int = 1
) -> Case:
    """With `finer` iterations the discrete steps no longer matter, and the engine is a server that 16 share."""
    tokens_mean = 64.0 * finer
    work = c.geometric(tokens_mean, 0.012 / 16 / finer)
    tokens = c.Control("mean tokens", lambda s: float(s.tokens[s.skip :].mean()), tokens_mean)
    wait = c.twin(c.mg1_wait(rate, work)[0], 1.0, lambda s: _full_batch(s) / finer)
    row = replace(row, controls=(c.gap(rate), tokens, wait), scale=1e3)
    return Case(name, batching(rate, requests, finer=finer), (row, *more), skip, quick=rate < 15 and finer == 1)


BATCHED = (
    _batching("decode at load 0.58", 12.0, 6_000, 1000, Row("cb-T", SOJOURN), (Row("cb-util", _iterations),)),
    _batching("decode in many short iterations", 12.0, 6_000, 1000, Row("cb-ps", SOJOURN, kind="asymptotic"), finer=20),
    _batching("decode at load 0.94", 19.5, 29_000, 9000, Row("cb-T-heavy", SOJOURN, tolerance=0.02)),
)

CASES = (*ROUTED, *CLOSED, *BATCHED)
