"""Rows of stations with one queue: M/M/1, M/G/1, GI/M/1, M/M/c, M/D/c, and those that reject."""

from __future__ import annotations

from dataclasses import replace

from tests.theory import controls as c
from tests.theory import long_run
from tests.theory.book import Case, Row, quantile
from tests.theory.known import KNOWN
from tests.theory.sample import (
    Measure,
    Sample,
    blocked,
    mean,
    seen,
    share_above,
)
from tests.theory.scenarios import Part, constant, exponential, hyperexponential, poisson, queue, station

WAIT = mean("wait")
PLANNED = (1.959964 / (0.01 * 4.0)) ** 2
"""Customers for a half-width of 1 % of Wq = 4, for each unit of asymptotic variance."""
SPEEDS = (0.97, 1.03, 1.06, 1.12)
"""Of twins near enough on either side that what they are off by says what M/M/1's variances are off by."""


def _mm1() -> Case:
    """No controls for the mean: 4.8 million customers, of which `runlen` says that they suffice."""
    own = c.Control("mean wait", WAIT, 4.0)
    inputs = (c.gap(0.8), c.work(1.0), own)
    waits = long_run.twins(SPEEDS)
    return Case(
        "M/M/1",
        queue(poisson(0.8), exponential(), 31_000),
        (
            Row("mm1-T", mean("sojourn")),
            quantile("mm1-p99T", "sojourn", 0.99, *inputs),
            quantile("mm1-p95W", "wait", 0.95, *inputs, tolerance=0.01),
            Row("avar-W", long_run.of_waits(), waits, kind="variance"),
            Row("avar-L", long_run.of_number_inside(), long_run.twins(SPEEDS, inside=True), kind="variance"),
            Row("runlen", long_run.of_waits(), waits, kind="variance", scale=PLANNED),
        ),
        skip=1_000,
        replications=160,
    )


def _mg1(name: str, row: str, service: Part, moments: c.Moments, requests: int) -> Case:
    controls = (c.gap(0.8), c.work(1.0), *c.twins(0.8, moments, 1.1))
    return Case(name, queue(poisson(0.8), service, requests), (Row(row, WAIT, controls),), skip=4000)


def _md1() -> Case:
    controls = (c.gap(0.8), *c.twins(0.8, c.fixed(1.0), 1.1))
    wait = c.Control("mean wait", WAIT, 2.0)
    rows = (
        Row("md1-Wq", WAIT, controls),
        quantile("md1-p99W", "wait", 0.99, *controls, wait),
        quantile("md1-p99W-des", "wait", 0.99, *controls, wait),
    )
    return Case("M/D/1", queue(poisson(0.8), constant(), 60_000), rows, quick=True)


def _gim1() -> tuple[Case, Case]:
    dm1 = c.gim1_wait(c.constant_gaps(0.8), 1 / 1.1)
    bursty = c.gim1_wait(c.gamma_gaps(0.8, 0.25), 1 / 1.1)
    controls = (c.gap(0.8), c.work(1.0), c.twin(bursty, 1.1))
    rows = (
        Row("gammaCV2-Wq", WAIT, controls),
        Row("kingman", WAIT, controls, kind="bound"),
        Row("kingman-vut", WAIT, controls, kind="approximation"),
    )
    gamma = {"kind": "gamma", "request_rate_rps": 0.8, "burstiness": 0.25}
    return (
        Case(
            "D/M/1",
            queue({"kind": "constant", "request_rate_rps": 0.8}, exponential(), 40_000),
            (Row("dm1-Wq", WAIT, (c.work(1.0), c.twin(dm1, 1.1))),),
        ),
        Case("Gamma(cv 2)/M/1", queue(gamma, exponential(), 80_000), rows, skip=4000),
    )


def _mmc(servers: int, rate: float, requests: int, skip: int, tolerance: float = 0.01) -> Case:
    controls = (c.gap(rate), c.work(1.0), *c.twins(rate, c.exponential(1.0), servers))
    wait = c.Control("mean wait", WAIT, KNOWN[f"mmc-Wq-{servers}"])
    rows = [
        Row(f"mmc-Pw-{servers}", share_above("wait", 1e-12), controls, tolerance),
        Row(f"mmc-Wq-{servers}", WAIT, controls, tolerance),
        quantile(f"mmc-p99W-{servers}", "wait", 0.99, *controls, wait),
    ]
    if servers == 10:
        rows.append(quantile("mmc-p99T-10", "sojourn", 0.99, *controls, wait))
    scenario = queue(poisson(rate), exponential(), requests, station(servers=servers))
    return Case(f"M/M/{servers}", scenario, tuple(rows), skip)


def _mdc(servers: int, rate: float, requests: int, tolerance: float) -> Case:
    controls = (c.gap(rate), *c.twins(rate, c.fixed(1.0), servers))
    rows = [Row(f"mdc-{servers}", WAIT, controls, tolerance)]
    if servers == 8:
        rows.append(quantile("mdc-8-p99", "wait", 0.99, *controls))
    scenario = queue(poisson(rate), constant(), requests, station(servers=servers))
    return Case(f"M/D/{servers}", scenario, tuple(rows), quick=servers == 2)


LAWS = {"constant": constant(), "exponential": exponential(), "hyperexponential": hyperexponential()}


def _erlang_b(servers: int, rate: float, law: str, requests: int) -> Case:
    controls = (c.gap(rate), c.work(1.0)) if law != "constant" else (c.gap(rate),)
    controls = (*controls, c.crowded(rate, 1.0, servers))
    row = Row(f"erlB-{servers}", blocked, controls, 0.02 if rate / servers >= 0.9 else 0.01, what=law)
    scenario = queue(poisson(rate), LAWS[law], requests, station(servers=servers, max_in_system=servers))
    return Case(f"M/{law}/{servers}/{servers}", scenario, (row,), quick=servers == 10 and law == "constant")


def _finite(name: str, servers: int, rate: float, limit: int, rows: dict[str, Measure], requests: int) -> Case:
    """The twins take the arrivals alone: the work of who is rejected is not known."""
    steady = []
    for part in (0.95, 0.8):
        twin = c.twin(c.mg1_wait(rate, c.fixed(part / rate))[0], 1.0, c.constant(part / rate))
        steady.append(replace(twin, name=f"arrivals at load {part}"))
    controls = (c.gap(rate), c.work(1.0), *steady)
    scenario = queue(poisson(rate), exponential(), requests, station(servers=servers, max_in_system=limit))
    return Case(name, scenario, tuple(Row(id, m, controls, 0.02) for id, m in rows.items()))


def _more_than_forty(sample: Sample) -> float:
    return float((seen(sample) > 40).mean())


def _unlimited() -> Case:
    controls = tuple(c.occupancy(30.0, power) for power in (1, 2, 3, 4))
    scenario = queue(poisson(20.0), hyperexponential(1.5), 150_000, station(servers="unlimited"))
    return Case("M/G/inf", scenario, (Row("mginf", _more_than_forty, controls),))


CASES = (
    _mm1(),
    _mg1("M/H2/1", "mg1-H2", hyperexponential(), c.hyperexponential(1.0, 4.0), 80_000),
    _mg1(
        "M/E4/1",
        "mg1-Erlang-4",
        {"kind": "erlang", "mean_s": 1.0, "phases": 4},
        c.erlang(1.0, 4),
        40_000,
    ),
    _md1(),
    *_gim1(),
    _mmc(2, 1.6, 60_000, 2000),
    _mmc(10, 8.0, 60_000, 2000),
    _mmc(100, 95.0, 250_000, 30_000, 0.02),
    _mdc(2, 1.6, 40_000, 0.01),
    _mdc(8, 7.2, 60_000, 0.02),
    *(_erlang_b(10, 8.0, law, 30_000) for law in LAWS),
    *(_erlang_b(100, 95.0, law, 60_000) for law in LAWS),
    _finite("M/M/1/10", 1, 0.9, 10, {"mm1K": blocked}, 60_000),
    _finite("M/M/4/20", 4, 3.8, 20, {"mmcK-pb": blocked, "mmcK-Wq": WAIT}, 80_000),
    _unlimited(),
)
