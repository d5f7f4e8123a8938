"""Wrong models must fail: for each family of rows, one that is nearly right.

A mistake in the inputs (a law, a rate) may show in a control instead of the row, which the control then corrects; a
mistake in what the engine does with them shows in the row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest

from servesim import Scenario
from servesim.workload.base import FloatArray, TimedArrivals
from tests.theory.book import Case
from tests.theory.cases import CASES
from tests.theory.cases_arrivals import FIVES, HAWKES, INSTANT
from tests.theory.cases_batches import INOUE, TAKE_ALL, batch_server, static_answers
from tests.theory.cases_leaving import ERLANG_A, MM1_D, RETRY, impatient
from tests.theory.scenarios import (
    Part,
    batching,
    constant,
    exponential,
    hyperexponential,
    poisson,
    priorities,
    queue,
    sized_queue,
    station,
)

BY_NAME = {case.name: case for case in CASES if isinstance(case, Case)}
LAST_COME = {"kind": "preemptive_station", "order": "last_come"}
SHARING = {"kind": "processor_sharing"}
CLOSED = {"kind": "closed_loop", "max_concurrency": 31, "think_time_s": 1.0, "think": "exponential"}
EVEN = [exponential(), exponential()]


def batches(batcher: Part, service: Part, rate: float, requests: int, **options: Any) -> Any:
    return queue(poisson(rate), service, requests, batch_server(batcher, **options))


def at_most(size: int) -> Part:
    return {**TAKE_ALL, "max_batch_size": size}


SOONER = batches(
    {"kind": "timeout", "max_batch_size": 7, "timeout_s": 0.02}, constant(1e-6), 200.0, 10_000, instances="unlimited"
)

WRONG: list[tuple[str, str, Any]] = [
    ("M/M/1", "mm1-p99T", queue(poisson(0.8), exponential(), 16_000, LAST_COME)),
    ("M/D/1", "md1-Wq", queue(poisson(0.8), {"kind": "erlang", "mean_s": 1.0, "phases": 10}, 40_000)),
    ("M/H2/1", "mg1-H2", queue(poisson(0.8), hyperexponential(scv=3.0), 20_000)),
    ("D/M/1", "dm1-Wq", queue(poisson(0.8), exponential(), 10_000)),
    ("M/M/10", "mmc-Pw-10", queue(poisson(8.0), exponential(), 20_000, station(servers=9))),
    ("M/M/2", "mmc-Wq-2", queue(poisson(1.6), exponential(0.5), 20_000)),
    ("M/D/8", "mdc-8", queue(poisson(7.2), exponential(), 20_000, station(servers=8))),
    (
        "M/exponential/10/10",
        "erlB-10",
        queue(poisson(8.0), exponential(), 20_000, station(servers=10, max_in_system=11)),
    ),
    ("M/M/4/20", "mmcK-pb", queue(poisson(3.8), exponential(), 40_000, station(servers=4, max_in_system=15))),
    ("two classes, not preemptive", "np-1", priorities([0.4, 0.4], EVEN, 20_000.0, station())),
    (
        "two classes, preemptive",
        "pr-1",
        priorities([0.4, 0.4], EVEN, 20_000.0, station(scheduler={"kind": "priority"})),
    ),
    ("M/D/1 processor sharing", "ps-D", queue(poisson(0.8), constant(), 20_000)),
    ("M/M/1 processor sharing", "ps-cond", queue(poisson(0.8), exponential(), 20_000)),
    (
        "shortest remaining work",
        "srpt-mm1",
        sized_queue(0.8, 1.0, 20_000, station(scheduler={"kind": "shortest_prompt"})),
    ),
    ("shortest job first", "sjf-mm1", sized_queue(0.8, 1.0, 20_000, station())),
    (
        "join the shortest of 4",
        "jsq-4",
        queue(poisson(3.2), exponential(), 20_000, replicas=4, router={"kind": "power_of_d", "d": 2}),
    ),
    (
        "random split",
        "split",
        queue(poisson(3.2), exponential(), 20_000, replicas=4, router={"kind": "round_robin"}),
    ),
    ("32 clients, one server", "repair-X", queue(CLOSED, exponential(0.05), 20_000)),
    ("up to 8, exponential", "bailey-mm", batches(at_most(7), exponential(), 5.0, 60_000)),
    ("up to 8, constant", "bailey-md", batches(at_most(7), constant(), 5.0, 12_000)),
    ("up to 8, linear", "batch-b8-W", batches(at_most(7), INOUE, 2.0, 12_000)),
    ("4 to 8, exponential", "neuts-4-8", batches(at_most(8), exponential(), 5.0, 30_000)),
    ("always 8, exponential", "fullbatch-8", batches({"kind": "static", "batch_size": 7}, exponential(), 5.0, 30_000)),
    ("all, linear", "inoue-W", batches(at_most(7), INOUE, 2.0, 30_000)),
    # A cap hardly changes the mean batch of a server that is always busy; waiting for six does.
    ("all, linear", "inoue-EB", batches({**TAKE_ALL, "min_batch_size": 6}, INOUE, 2.0, 30_000)),
    ("all, linear, low load", "inoue-low-W", batches({"kind": "static", "batch_size": 1}, INOUE, 0.2, 15_000)),
    *(("batches by count or time", id, SOONER) for id in ("timeout-EN", "timeout-wait", "timeout-rate")),
    ("a static batch waits for its longest", "static-max", static_answers(28)),
    ("retrial queue", "retrial", lambda: impatient(0.7, 12_000, retry={**RETRY, "jitter": "none"})),
    ("Erlang A", "erlA-Pab", lambda: impatient(12.0, 10_000, 10, patience={**ERLANG_A, "until": "first_token"})),
    ("Erlang A", "erlA-Wq", lambda: impatient(12.0, 10_000, 10, patience={**ERLANG_A, "distribution": "fixed"})),
    ("M/M/1+D", "mm1+D", lambda: impatient(1.2, 10_000, patience={**MM1_D, "distribution": "exponential"})),
    ("bursts of five at a server", "mx5m1-L", queue({**FIVES, "size": 4}, exponential(), 60_000)),
    ("MMPP", "mmpp-scv", queue({"kind": "poisson", "request_rate_rps": 1.0}, INSTANT, 20_000)),
    ("Hawkes", "hawkes-mean", queue({**HAWKES, "jump_rps": 0.55}, INSTANT, 14_000)),
    ("decode at load 0.94", "cb-T-heavy", batching(19.5, 29_000, max_num_seqs=17)),
]


@pytest.mark.statistical
@pytest.mark.slow
@pytest.mark.parametrize(("name", "id", "wrong"), WRONG, ids=[f"{name}: {id}" for name, id, _ in WRONG])
def test_a_wrong_model_is_refused(name: str, id: str, wrong: Any) -> None:
    case = BY_NAME[name]
    (row, *_) = (row for row in case.rows if row.id == id)
    rows, controls = replace(case, rows=(row,), scenario=wrong, replications=16).run()
    assert max(abs(one.z) for one in (*rows, *controls)) > 4, (rows, controls)


class Clipped(TimedArrivals):
    """Exponential gaps cut at three means, a mistake that another simulator makes: the rate is 5 % too high."""

    kind: Literal["clipped"] = "clipped"

    def times(self, rng: np.random.Generator) -> Iterator[FloatArray]:
        now_s = 0.0
        while True:
            block = now_s + np.cumsum(np.minimum(rng.exponential(1 / 0.8, 4096), 3 / 0.8))
            now_s = float(block[-1])
            yield block


def _clipped() -> Scenario:
    scenario = queue(poisson(0.8), exponential(), 16_000)()
    (name,) = scenario.workload.classes
    one = scenario.workload.classes[name].model_copy(update={"arrivals": Clipped()})
    workload = scenario.workload.model_copy(update={"classes": {name: one}})
    return scenario.model_copy(update={"workload": workload})


@pytest.mark.statistical
def test_clipped_arrivals_cannot_hide_in_their_control() -> None:
    """What is taken away with a control would be taken away from a mistake too: so the control itself must fail."""
    _, controls = replace(BY_NAME["M/M/1"], scenario=_clipped, replications=12).run()
    (gap,) = (control for control in controls if control.id == "mean gap")
    assert gap.z < -4
