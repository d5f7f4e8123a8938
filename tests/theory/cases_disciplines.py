"""Rows of single servers with other orders of service: priorities, processor sharing, shortest first."""

from __future__ import annotations

from tests.theory import controls as c
from tests.theory.book import Case, Row
from tests.theory.sample import Sample, mean
from tests.theory.scenarios import (
    Part,
    constant,
    exponential,
    hyperexponential,
    poisson,
    priorities,
    queue,
    sized_queue,
    station,
)

SOJOURN = mean("sojourn")
BY_PRIORITY = station(scheduler={"kind": "priority"})
RESUME: Part = {"kind": "preemptive_station", "order": "priority"}


def _mixed(rates: list[float], moments: list[c.Moments]) -> tuple[float, c.Moments]:
    """Return the rate and the work's moments of several classes together."""
    rate = sum(rates)
    first, second, third = (sum(r * m[i] for r, m in zip(rates, moments, strict=True)) / rate for i in range(3))
    return rate, (first, second, third)


def _priorities(
    name: str, prefix: str, engine: Part, rates: list[float], laws: list[Part], moments: list[c.Moments], end_s: float
) -> Case:
    """Controls: the load and the work found at a first-come-first-served twin, of all classes and of the upper ones.

    The twin of the first class alone would be that class's own queue where it preempts; at speed 1.15 it is not.
    """
    count = len(rates)
    rows = []
    for number in range(1, count + 1):
        rate, work = _mixed(rates[:number], moments[:number])
        speed = 1.15 if number < count else 1.0
        # Every arrival, of whatever class, sees the time average of the work of the upper classes.
        upper = c.twin(c.mg1_wait(rate, work, speed)[0], speed, c.of_class(number - 1))
        upper = c.Control(f"{upper.name}, {number} classes", upper.measure, upper.mean)
        controls = (c.load(end_s, rate * work[0], number), upper)
        if number < count:
            total_rate, total = _mixed(rates, moments)
            controls = (*controls, c.twin(c.mg1_wait(total_rate, total)[0], 1.0))
        rows.append(Row(f"{prefix}-{number}", mean("sojourn", number - 1), controls))
    return Case(name, priorities(rates, laws, end_s, engine), tuple(rows))


TWO = ([0.4, 0.4], [exponential(), exponential()], [c.exponential(1.0)] * 2, 60_000.0)
THREE = (
    [0.2, 0.3, 0.1],
    [constant(), exponential(0.8), hyperexponential(1.5)],
    [c.fixed(1.0), c.exponential(0.8), c.hyperexponential(1.5, 4.0)],
    60_000.0,
)


def _size_three(sample: Sample) -> float:
    """Return E[T | size 3] from requests of size 2.5 to 3.5: E[T | x] is proportional to x."""
    sojourn, work = sample.sojourn[sample.skip :], sample.work[sample.skip :]
    near = (work > 2.5) & (work < 3.5)
    return float(3 * sojourn[near].sum() / work[near].sum())


def _sharing(name: str, law: Part, moments: c.Moments, requests: int) -> Case:
    # Equal sizes make the sojourn a function of the work found, all but the ends of the run: another speed there.
    speed = 1.1 if name == "D" else 1.0
    wait, _ = c.mg1_wait(0.8, moments, speed)
    controls = (c.gap(0.8), *([] if name == "D" else [c.work(1.0)]), c.twin(wait, speed))
    rows = [Row(f"ps-{name}", SOJOURN, controls)]
    if name == "M":
        rows.append(Row("ps-cond", _size_three, controls))
    scenario = queue(poisson(0.8), law, requests, {"kind": "processor_sharing"})
    return Case(f"M/{name}/1 processor sharing", scenario, tuple(rows))


SIZES = (c.gap(0.8), c.work(1.0), *c.twins(0.8, c.geometric(10_000, 1e-4), 1.0))

CASES = (
    _priorities("two classes, not preemptive", "np", BY_PRIORITY, *TWO),
    _priorities("two classes, preemptive", "pr", RESUME, *TWO),
    _priorities("three classes, not preemptive", "np3", BY_PRIORITY, *THREE),
    _priorities("three classes, preemptive", "pr3", RESUME, *THREE),
    _sharing("D", constant(), c.fixed(1.0), 30_000),
    _sharing("M", exponential(), c.exponential(1.0), 60_000),
    _sharing("H2", hyperexponential(), c.hyperexponential(1.0, 4.0), 60_000),
    Case(
        "shortest remaining work",
        sized_queue(0.8, 1.0, 40_000, {"kind": "preemptive_station", "order": "remaining_work"}),
        (Row("srpt-mm1", SOJOURN, SIZES),),
    ),
    Case(
        "shortest job first",
        sized_queue(0.8, 1.0, 40_000, station(scheduler={"kind": "shortest_prompt"})),
        (Row("sjf-mm1", SOJOURN, SIZES),),
    ),
)
