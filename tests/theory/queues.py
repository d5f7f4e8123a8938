"""Queues of the textbooks written as scenarios, and how an estimate is judged against an exact answer.

A request with a prompt of geometric length and a service time proportional to it, one at a time, is an exponential
server up to 1 part in its mean length (10,000 tokens here): M/M/1 is a degenerate engine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from servesim import Scenario, simulate
from servesim.experiment.result import Result

TOKENS = 10_000


def exponential_service(mean_s: float) -> tuple[Any, dict[str, Any]]:
    """Return (prompt length law, service time) of an exponential server."""
    return {"kind": "geometric", "mean_tokens": float(TOKENS)}, {
        "kind": "affine",
        "per_prefill_token_s": mean_s / TOKENS,
    }


def constant_service(mean_s: float) -> tuple[Any, dict[str, Any]]:
    """Return (prompt length law, service time) of a deterministic server."""
    return 1, {"kind": "affine", "base_s": mean_s}


def station(
    arrivals: dict[str, Any],
    service: tuple[Any, dict[str, Any]],
    num_requests: int,
    servers: int = 1,
    router: dict[str, Any] | None = None,
    scheduler: str = "fcfs",
    **request_class: Any,
) -> Scenario:
    """Return `servers` single servers behind a router, fed by one class."""
    prompt, times = service
    return engine_scenario(
        arrivals,
        prompt,
        1,
        times,
        num_requests,
        {"max_num_seqs": 1, "max_num_batched_tokens": 10_000_000, "scheduler": {"kind": scheduler}},
        servers,
        router,
        **request_class,
    )


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
class Estimate:
    """Mean over independent replications, with the standard error of that mean."""

    mean: float
    standard_error: float

    def z(self, exact: float) -> float:
        return (self.mean - exact) / self.standard_error if self.standard_error else math.inf

    def half_width(self) -> float:
        """Half of the 95 % interval, relative to the mean."""
        return 1.96 * self.standard_error / abs(self.mean)


def replicate(
    scenario: Scenario, measures: Iterable[Callable[[Result], float]], seeds: Iterable[int]
) -> list[Estimate]:
    """Run once per seed and return an estimate per measure."""
    measures = list(measures)
    values = np.array([[measure(result) for measure in measures] for result in (simulate(scenario, s) for s in seeds)])
    errors = values.std(axis=0, ddof=1) / math.sqrt(len(values))
    return [Estimate(float(m), float(e)) for m, e in zip(values.mean(axis=0), errors, strict=True)]


def settled(result: Result, *columns: str, skip: float = 0.1) -> list[np.ndarray]:
    """Return columns of the requests in order of arrival, without the first `skip` of them (warm-up)."""
    number, *values = result.record.requests.column("request_id", *columns)
    order = np.argsort(number)[int(skip * len(number)) :]
    return [value[order] for value in values]


def sojourn(result: Result) -> np.ndarray:
    arrival, finish = settled(result, "arrival_s", "finish_s")
    return finish - arrival


def wait(result: Result) -> np.ndarray:
    arrival, start = settled(result, "arrival_s", "first_scheduled_s")
    return start - arrival


def mean_sojourn(result: Result) -> float:
    return float(sojourn(result).mean())


def mean_wait(result: Result) -> float:
    return float(wait(result).mean())


def assert_agrees(estimate: Estimate, exact: float, half_width: float = 0.01) -> None:
    """The exact answer lies within four standard errors, and the interval is narrow enough for that to mean much."""
    assert abs(estimate.z(exact)) <= 4, f"{estimate} against {exact}: z = {estimate.z(exact):.2f}"
    assert estimate.half_width() <= half_width, f"{estimate}: half-width {estimate.half_width():.4f}"
