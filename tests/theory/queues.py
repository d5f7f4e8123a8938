"""Engines with continuous batching written as scenarios, and plain means over replications of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from servesim import Scenario, simulate
from servesim.experiment.result import Result


def engine_scenario(
    arrivals: dict[str, Any],
    prompt: Any,
    output: Any,
    times: dict[str, Any],
    num_requests: int,
    engine: dict[str, Any],
    replicas: int = 1,
    router: dict[str, Any] | None = None,
    **request_class: Any,
) -> Scenario:
    """Return a scenario of one class and one pool with unlimited KV blocks and no host time."""
    return Scenario.model_validate(
        {
            "name": "theory",
            "workload": {
                "num_requests": num_requests,
                "classes": {
                    "all-of-them": {
                        "arrivals": arrivals,
                        "prompt_tokens": prompt,
                        "output_tokens": output,
                        **request_class,
                    }
                },
            },
            "pools": {
                "pool": {
                    "replicas": replicas,
                    "router": router or {"kind": "round_robin"},
                    "engine": {
                        "kind": "continuous",
                        "async_scheduling": False,
                        "num_gpu_blocks": "unlimited",
                        **engine,
                    },
                    "service_time": times,
                }
            },
        }
    )


@dataclass(frozen=True)
class Mean:
    """Mean over independent replications, with the standard error of that mean."""

    mean: float
    standard_error: float

    def z(self, exact: float) -> float:
        return (self.mean - exact) / self.standard_error if self.standard_error else math.inf

    def half_width(self) -> float:
        """Half of the 95 % interval, relative to the mean."""
        return 1.96 * self.standard_error / abs(self.mean)


def replicate(scenario: Scenario, measures: Iterable[Callable[[Result], float]], seeds: Iterable[int]) -> list[Mean]:
    """Run once per seed and return an estimate per measure."""
    measures = list(measures)
    values = np.array([[measure(result) for measure in measures] for result in (simulate(scenario, s) for s in seeds)])
    errors = values.std(axis=0, ddof=1) / math.sqrt(len(values))
    return [Mean(float(m), float(e)) for m, e in zip(values.mean(axis=0), errors, strict=True)]


def assert_agrees(estimate: Mean, exact: float, half_width: float = 0.01) -> None:
    """The exact answer lies within four standard errors, and the interval is narrow enough for that to mean much."""
    assert abs(estimate.z(exact)) <= 4, f"{estimate} against {exact}: z = {estimate.z(exact):.2f}"
    assert estimate.half_width() <= half_width, f"{estimate}: half-width {estimate.half_width():.4f}"


def exponential_service(mean_s: float) -> dict[str, Any]:
    """Return the service time of an exponential server."""
    return {"kind": "exponential", "mean_s": mean_s}


def station(
    arrivals: dict[str, Any],
    service: dict[str, Any],
    num_requests: int,
    replicas: int = 1,
    router: dict[str, Any] | None = None,
    **request_class: Any,
) -> Scenario:
    """Return `replicas` single servers behind a router, fed by one class."""
    one = {"arrivals": arrivals, "prompt_tokens": 1, "output_tokens": 1, **request_class}
    pool = {
        "engine": {"kind": "station"},
        "service_time": service,
        "replicas": replicas,
        "router": router or {"kind": "round_robin"},
    }
    workload = {"num_requests": num_requests, "classes": {"all-of-them": one}}
    return Scenario.model_validate({"name": "theory", "workload": workload, "pools": {"pool": pool}})


def settled(result: Result, *columns: str, skip: float = 0.1) -> list[np.ndarray]:
    """Return columns of the requests in order of arrival, without the first `skip` of them (warm-up)."""
    number, *values = result.record.requests.column("request_id", *columns)
    order = np.argsort(number)[int(skip * len(number)) :]
    return [value[order] for value in values]


def mean_sojourn(result: Result) -> float:
    """Return the mean time from arrival to the end, the warm-up left out."""
    arrival, finish = settled(result, "arrival_s", "finish_s")
    return float((finish - arrival).mean())
