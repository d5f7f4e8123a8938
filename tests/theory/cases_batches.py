"""Rows of servers that take batches of whole requests: bulk queues, batches by count or time, static batches.

Times are seconds where the literature has milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from servesim import Scenario
from tests.theory import controls as c
from tests.theory.book import Case, Row
from tests.theory.sample import Array, Measure, Sample, mean
from tests.theory.scenarios import Part, constant, exponential, poisson, queue, scenario

SOJOURN = mean("sojourn")
TAKE_ALL: Part = {"kind": "take_all"}
UP_TO_8: Part = {**TAKE_ALL, "max_batch_size": 8}
INOUE: Part = {"kind": "batch_affine", "base_s": 1.8874, "per_item_s": 0.1438}


def batch_server(batcher: Part, **options: Any) -> Part:
    return {"kind": "request_batching", "batcher": batcher, **options}


def sizes(sample: Sample) -> Array:
    """Return the sizes of the batches after a twentieth of them."""
    found: Array = sample.record.pools[0].replicas[0].runs.column("prefill_seqs")[0]
    return found[len(found) // 20 :]


def mean_size(sample: Sample) -> float:
    return float(sizes(sample).mean())


def jobs_per_energy(sample: Sample) -> float:
    """A batch of b costs b + 10."""
    found = sizes(sample)
    return float(found.sum() / (found + 10.0).sum())


def _mean_batch_s(sample: Sample) -> float:
    return float(sample.record.pools[0].replicas[0].runs.column("first_s")[0].mean())


def _arrivals(rate: float) -> tuple[c.Control, ...]:
    """Return the mean gap, and how the arrivals alone would queue at a server of constant service."""
    twins = []
    for part in (0.5, 0.85):
        twin = c.twin(c.mg1_wait(rate, c.fixed(part / rate))[0], 1.0, c.constant(part / rate))
        twins.append(replace(twin, name=f"arrivals at load {part}"))
    return (c.gap(rate), *twins)


def _bulk(name: str, id: str, batcher: Part, service: Part, rate: float, requests: int, quick: bool = False) -> Case:
    controls = _arrivals(rate)
    if service["kind"] == "exponential":
        controls = (*controls, c.Control("mean batch time", _mean_batch_s, 1.0))
    engine = batch_server(batcher)
    return Case(name, queue(poisson(rate), service, requests, engine), (Row(id, SOJOURN, controls),), quick=quick)


def _linear(name: str, rate: float, requests: int, rows: tuple[Row, ...], quick: bool = False) -> Case:
    return Case(name, queue(poisson(rate), INOUE, requests, batch_server(TAKE_ALL)), rows, quick=quick)


def _summary(*path: str) -> Measure:
    """Return a number of the summary; the warm-up is the summary's own."""

    def measure(sample: Sample) -> float:
        found = sample.result.numbers
        for key in path:
            found = found[key]
        return float(found)  # type: ignore[arg-type]

    return measure


def _timeout() -> Case:
    """A server is always free, and a batch ends with its eighth request or 20 ms after its first."""
    engine = batch_server({"kind": "timeout", "max_batch_size": 8, "timeout_s": 0.02}, instances="unlimited")
    formation = _summary("classes", "all", "split", "e2e_s", "formation_s")
    rows = (
        Row("timeout-EN", mean_size, (c.gap(200.0),)),
        Row("timeout-wait", formation, (c.gap(200.0),)),
        Row("timeout-rate", _summary("pools", "pool", "batches_per_s"), (c.gap(200.0),)),
    )
    return Case("batches by count or time", queue(poisson(200.0), constant(1e-6), 10_000, engine), rows, quick=True)


def static_answers(batch_size: int, batches: int = 300) -> Callable[[], Scenario]:
    """Return geometric answers, generated in batches until the longest is done; one second for a step."""
    one = {
        "arrivals": {"kind": "all_at_once"},
        "prompt_tokens": 1,
        "output_tokens": {"kind": "geometric", "mean_tokens": 128.0},
    }
    step = {"kind": "affine", "base_s": 1.0}
    engine = batch_server({"kind": "static", "batch_size": batch_size})
    return lambda: scenario({"all-of-them": one}, engine, step, num_requests=batch_size * batches)


def _static() -> Case:
    tokens = c.Control("mean tokens", lambda s: float(s.tokens.mean()), 128.0)
    row = Row("static-max", _mean_batch_s, (tokens,))
    return Case("a static batch waits for its longest", static_answers(32), (row,), quick=True)


CASES = (
    _bulk("up to 8, exponential", "bailey-mm", UP_TO_8, exponential(), 5.0, 120_000),
    _bulk("4 to 8, exponential", "neuts-4-8", {**UP_TO_8, "min_batch_size": 4}, exponential(), 5.0, 60_000),
    _bulk("always 8, exponential", "fullbatch-8", {"kind": "static", "batch_size": 8}, exponential(), 5.0, 60_000),
    _bulk("up to 8, linear", "batch-b8-W", UP_TO_8, INOUE, 2.0, 12_000, quick=True),
    _bulk("up to 8, constant", "bailey-md", UP_TO_8, constant(), 5.0, 12_000, quick=True),
    _linear(
        "all, linear",
        2.0,
        30_000,
        (
            Row("inoue-W", SOJOURN, _arrivals(2.0)),
            Row("inoue-EB", mean_size, _arrivals(2.0)),
            Row("inoue-energy", jobs_per_energy, _arrivals(2.0)),
            Row("inoue-bound", SOJOURN, _arrivals(2.0), kind="ceiling"),
        ),
    ),
    _linear(
        "all, linear, low load",
        0.2,
        15_000,
        (Row("inoue-low-W", SOJOURN, _arrivals(0.2)), Row("inoue-low-bound", SOJOURN, _arrivals(0.2), kind="bound")),
        quick=True,
    ),
    _timeout(),
    _static(),
)
