"""Queues of the textbooks written as scenarios."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from servesim import Scenario

Part = dict[str, Any]
TOKENS = 10_000
"""Mean length where size must be known before: a geometric law that coarse is exponential to 1 part in 10,000."""


def poisson(rate_rps: float) -> Part:
    return {"kind": "poisson", "request_rate_rps": rate_rps}


def exponential(mean_s: float = 1.0) -> Part:
    return {"kind": "exponential", "mean_s": mean_s}


def constant(mean_s: float = 1.0) -> Part:
    return {"kind": "constant", "mean_s": mean_s}


def hyperexponential(mean_s: float = 1.0, scv: float = 4.0) -> Part:
    return {"kind": "hyperexponential", "mean_s": mean_s, "scv": scv}


def station(**options: Any) -> Part:
    return {"kind": "station", **options}


def scenario(classes: dict[str, Part], engine: Part, service: Part, **workload_and_pool: Any) -> Scenario:
    """Return one pool; `replicas` and `router` go to it, `num_requests` and `duration_s` to the workload."""
    pool = {key: workload_and_pool.pop(key) for key in ("replicas", "router") if key in workload_and_pool}
    return Scenario.model_validate(
        {
            "name": "theory",
            "workload": {"classes": classes, **workload_and_pool},
            "pools": {"pool": {"engine": engine, "service_time": service, **pool}},
        }
    )


def queue(
    arrivals: Part, service: Part, num_requests: int, engine: Part | None = None, **pool: Any
) -> Callable[[], Scenario]:
    """Return what makes a scenario of one class whose requests have one token each way."""
    one = {"arrivals": arrivals, "prompt_tokens": 1, "output_tokens": 1}
    return lambda: scenario({"all-of-them": one}, engine or station(), service, num_requests=num_requests, **pool)


def sized_queue(rate_rps: float, mean_s: float, num_requests: int, engine: Part) -> Callable[[], Scenario]:
    """Return a queue whose requests' prompts say how much work they are, exponential with `mean_s`."""
    prompt = {"kind": "geometric", "mean_tokens": float(TOKENS)}
    one = {"arrivals": poisson(rate_rps), "prompt_tokens": prompt, "output_tokens": 1}
    service = {"kind": "per_token", "per_prompt_token_s": mean_s / TOKENS}
    return lambda: scenario({"all-of-them": one}, engine, service, num_requests=num_requests)


def priorities(rates_rps: list[float], laws: list[Part], duration_s: float, engine: Part) -> Callable[[], Scenario]:
    """Return one class per rate, the first most urgent; all arrivals stop at `duration_s`."""
    names = [f"class{number}" for number in range(1, len(laws) + 1)]
    classes = {
        name: {"arrivals": poisson(rate), "prompt_tokens": 1, "output_tokens": 1, "priority": number}
        for number, (name, rate) in enumerate(zip(names, rates_rps, strict=True))
    }
    service = {"kind": "by_class", "laws": dict(zip(names, laws, strict=True))}
    return lambda: scenario(classes, engine, service, duration_s=duration_s)


def batching(rate_rps: float, num_requests: int, max_num_seqs: int = 16, finer: int = 1) -> Callable[[], Scenario]:
    """Return a decode-only engine: an iteration of b sequences takes 8 + 0.25 b ms, lengths are geometric, mean 64.

    With `finer`, as many times more iterations, each as many times shorter.
    """
    tokens = {"kind": "geometric", "mean_tokens": 64.0 * finer}
    one = {"arrivals": poisson(rate_rps), "prompt_tokens": 1, "output_tokens": tokens}
    engine = {
        "kind": "continuous",
        "async_scheduling": False,
        "num_gpu_blocks": "unlimited",
        "max_num_seqs": max_num_seqs,
        "max_num_batched_tokens": 64,
    }
    service = {"kind": "affine", "base_s": 0.008 / finer, "per_seq_s": 0.00025 / finer}
    return lambda: scenario({"all-of-them": one}, engine, service, num_requests=num_requests)
