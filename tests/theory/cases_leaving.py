"""Rows of queues whose customers leave: M/M/1+D, Erlang A, and the retrial queue."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from servesim import Scenario
from servesim.metrics.attempts import Attempts
from servesim.request import ABANDONED
from tests.theory import controls as c
from tests.theory.book import Case, Row
from tests.theory.sample import Array, Sample
from tests.theory.scenarios import Part, exponential, poisson, scenario, station


def impatient(rate: float, num_requests: int, servers: int = 1, **lives: Any) -> Scenario:
    """Return a station with exponential service of mean 1 s whose clients have `lives`: patience, retries."""
    one = {"arrivals": poisson(rate), "prompt_tokens": 1, "output_tokens": 1, **lives}
    engine: Part = station(servers=servers, **({"max_in_system": servers} if "retry" in lives else {}))
    return scenario({"all-of-them": one}, engine, exponential(), num_requests=num_requests)


def _abandoned(sample: Sample) -> float:
    return float((sample.outcome[sample.skip :] == ABANDONED).mean())


def _in_queue(sample: Sample) -> float:
    """Return everybody's mean time until service, or until leaving."""
    return float((np.fmin(sample.start, sample.finish) - sample.arrival)[sample.skip :].mean())


def _arrivals_alone(rate: float, servers: int) -> tuple[c.Control, ...]:
    """Return twins that take the arrivals alone: the work of who leaves is not known."""
    found = [c.gap(rate), c.work(1.0)]
    for part in (0.95, 0.8):
        twin = c.twin(c.mg1_wait(rate, c.fixed(part / rate))[0], 1.0, c.constant(part / rate))
        found.append(replace(twin, name=f"arrivals at load {part}"))
    return (*found, c.crowded(rate, 1.0, servers))


MM1_D = {"mean_s": 3.0, "distribution": "fixed", "until": "scheduled"}
ERLANG_A = {"mean_s": 2.0, "until": "scheduled"}


def _clients(sample: Sample) -> tuple[Array, Array]:
    """Return each client's first arrival and the work that is done for it in the end."""
    first, later = (column.astype(int) for column in sample.record.retries.column("first_request_id", "request_id"))
    owner = np.arange(len(sample.arrival))
    owner[later] = first
    served = np.zeros(len(owner))
    served[owner[sample.completed]] = (sample.finish - sample.start)[sample.completed]
    clients = owner == np.arange(len(owner))
    return sample.arrival[clients], served[clients]


def _retrying(sample: Sample) -> float:
    """Return the mean number between two attempts over time, without the first and the last twentieth."""
    tried = Attempts(sample.record, "arrival_s", "finish_s")
    again = tried.number > 1
    left, back = tried.previous(tried.columns["finish_s"])[again], tried.columns["arrival_s"][again]
    last = float(_clients(sample)[0][-1])
    begin, end = 0.05 * last, 0.95 * last
    return float((np.clip(back, begin, end) - np.clip(left, begin, end)).sum() / (end - begin))


def _patient(mean_s: float, speed: float) -> c.Control:
    """Return the mean wait of a twin in which clients wait instead of trying again."""

    def measure(sample: Sample) -> float:
        arrival, work = _clients(sample)
        walk = np.concatenate([[0.0], np.cumsum(work[:-1] / speed - np.diff(arrival))])
        skip = len(walk) // 20
        return float((walk - np.minimum.accumulate(np.minimum(walk, 0.0)))[skip:-skip].mean())

    return c.Control(f"wait of a patient twin of speed {speed:g}", measure, mean_s)


def _client_means(which: int, exact: float) -> c.Control:
    def measure(sample: Sample) -> float:
        found = _clients(sample)
        return float((np.diff(found[0]) if which == 0 else found[1]).mean())

    return c.Control(("mean gap of clients", "mean work of clients")[which], measure, exact)


RETRY = {
    "on": ["rejected"],
    "max_attempts": "unlimited",
    "backoff_s": 2.0,
    "multiplier": 1.0,
    "jitter": "exponential",
}


def _retrial() -> Case:
    twins = [_patient(c.mg1_wait(0.7, c.exponential(1.0), speed)[0], speed) for speed in (0.85, 1.0)]
    controls = (_client_means(0, 1 / 0.7), _client_means(1, 1.0), *twins)
    row = Row("retrial", _retrying, controls)
    return Case("retrial queue", lambda: impatient(0.7, 12_000, retry=RETRY), (row,), skip=0)


CASES = (
    _retrial(),
    Case(
        "Erlang A",
        lambda: impatient(12.0, 20_000, servers=10, patience=ERLANG_A),
        (
            Row("erlA-Pab", _abandoned, _arrivals_alone(12.0, 10)),
            Row("erlA-Wq", _in_queue, _arrivals_alone(12.0, 10)),
        ),
    ),
    Case(
        "M/M/1+D",
        lambda: impatient(1.2, 15_000, patience=MM1_D),
        (Row("mm1+D", _abandoned, _arrivals_alone(1.2, 1)),),
    ),
)
