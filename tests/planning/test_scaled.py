"""Load times a factor: as many times the requests, and the same random numbers."""

from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from servesim.errors import InputError
from servesim.registry import kinds
from servesim.workload.base import Arrivals, TimedArrivals
from servesim.workload.scaled import scaled

KINDS: list[dict[str, Any]] = [
    {"kind": "poisson", "request_rate_rps": 5.0},
    {"kind": "constant", "request_rate_rps": 5.0},
    {"kind": "gamma", "request_rate_rps": 5.0, "burstiness": 0.5},
    {"kind": "weibull", "request_rate_rps": 5.0, "shape": 0.7},
    {"kind": "mmpp", "rates_rps": [1.0, 9.0], "mean_stays_s": [10.0, 10.0]},
    {"kind": "hawkes", "base_rps": 2.0, "jump_rps": 0.6, "decay_per_s": 1.0},
    {"kind": "piecewise_gamma", "window_s": 10.0, "rates_rps": [1.0, 9.0]},
    {"kind": "nhpp", "rate": {"kind": "sinusoid", "mean_rps": 5.0, "amplitude": 0.5, "period_s": 100.0}},
    {"kind": "nhpp", "rate": {"kind": "points", "points": [[0, 2], [100, 8]], "repeat": True}},
    {"kind": "batch", "bursts": {"kind": "poisson", "request_rate_rps": 2.0}, "size": 3},
    {
        "kind": "superposition",
        "processes": [{"kind": "poisson", "request_rate_rps": 2.0}, {"kind": "constant", "request_rate_rps": 3.0}],
    },
]


def built(fields: dict[str, Any]) -> Arrivals:
    cls = kinds("arrivals")[fields["kind"]]
    found: Arrivals = TypeAdapter(cls).validate_python(fields)
    return found


def arrived(arrivals: Arrivals, until_s: float) -> int:
    assert isinstance(arrivals, TimedArrivals)
    count = 0
    for times in arrivals.times(np.random.default_rng(1)):
        count += int(np.count_nonzero(times <= until_s))
        if times[-1] > until_s:
            break
    return count


@pytest.mark.parametrize("fields", KINDS, ids=lambda fields: str(fields["kind"]))
def test_twice_the_load_is_twice_the_requests(fields: dict[str, Any]) -> None:
    arrivals = built(fields)
    once, twice = arrived(arrivals, 4000.0), arrived(scaled(arrivals, 2.0), 4000.0)
    assert twice / once == pytest.approx(2.0, rel=0.1)


def test_a_poisson_process_keeps_its_random_numbers() -> None:
    arrivals = built(KINDS[0])
    assert isinstance(arrivals, TimedArrivals)
    faster = scaled(arrivals, 2.0)
    assert isinstance(faster, TimedArrivals)
    first = next(arrivals.times(np.random.default_rng(3)))
    assert np.allclose(first / 2, next(faster.times(np.random.default_rng(3))))


def test_a_factor_of_one_changes_nothing() -> None:
    arrivals = built(KINDS[0])
    assert scaled(arrivals, 1.0) is arrivals


def test_a_day_keeps_its_length() -> None:
    day = scaled(built(KINDS[7]), 3.0)
    rate = day.rate  # type: ignore[attr-defined]
    assert (rate.mean_rps, rate.period_s) == (15.0, 100.0)


def test_what_has_no_rate_is_refused() -> None:
    with pytest.raises(InputError, match="no rate to scale"):
        scaled(built({"kind": "closed_loop", "max_concurrency": 4}), 2.0)
