"""Plans whose answer is known: from Erlang's formula, or by measuring every cell of the space."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from servesim.scenario.load_plan import LoadedPlan, load_plan

WAIT_S = 0.1
MM1 = """
name: slo-qps
workload:
  num_requests: {requests}
  classes:
    all-of-them:
      arrivals: {{kind: poisson, request_rate_rps: 4}}
      prompt_tokens: 1
      output_tokens: 1
      slo: {{e2e_s: 1.0, attainment: 0.99}}
pools:
  main: {{engine: {{kind: station}}, service_time: {{kind: exponential, mean_s: 0.1}}}}
"""
SLO_QPS = 5.394829814011908


def late(servers: int, load: float, wait_s: float = WAIT_S) -> float:
    """Return P(W > wait_s) in M/M/c with mean service 1 s: Erlang's C times exp(-(c - load) wait_s)."""
    blocked = 1.0
    for number in range(1, servers + 1):
        blocked = load * blocked / (number + load * blocked)
    waiting = blocked / (1 - load / servers * (1 - blocked))
    return waiting * math.exp(-(servers - load) * wait_s)


def fewest(load: float, attainment: float) -> int:
    """Return the fewest servers with P(W <= WAIT_S) >= attainment."""
    servers = math.floor(load) + 1
    while late(servers, load) > 1 - attainment:
        servers += 1
    return servers


@dataclass(frozen=True)
class Problem:
    """A plan as a document, and its answer: (settings, size) of the cheapest; `ties`: sizes on the target itself."""

    name: str
    document: dict[str, Any]
    answer: tuple[dict[str, Any], int]
    ties: tuple[int, ...] = ()

    def loaded(self, folder: Path) -> LoadedPlan:
        """Return the plan, loaded as from a file."""
        file = folder / f"{self.name}.yaml"
        file.write_text(yaml.safe_dump(self.document), encoding="utf-8")
        return load_plan(file)


def staffing(
    name: str,
    load: float,
    attainment: float,
    requests: int,
    most: int,
    ties: tuple[int, ...] = (),
    replications: int = 64,
    confidence: float = 0.95,
) -> Problem:
    """Return M/M/c: how many servers; `ties` are those of which the target is the exact attainment."""
    scenario = {
        "name": name,
        "workload": {
            "num_requests": requests,
            "classes": {
                "calls": {
                    "arrivals": {"kind": "poisson", "request_rate_rps": load},
                    "prompt_tokens": 1,
                    "output_tokens": 1,
                    "slo": {"queue_s": WAIT_S, "attainment": attainment},
                }
            },
        },
        "pools": {"main": {"engine": {"kind": "station"}, "service_time": {"kind": "exponential", "mean_s": 1.0}}},
    }
    document = {
        "name": name,
        "scenario": scenario,
        "space": {"servers": {"least": 1, "most": most}},
        "replications": {"first": 4, "most": replications},
        "confidence": confidence,
        "rank": 1,
    }
    answer = max(ties) + 1 if ties else fewest(load, attainment)
    return Problem(name, document, ({}, answer), ties)


def off_target(name: str, servers: int, used: float) -> Problem:
    """Return M/M/c at load 0.5 where so many servers use `used` times the late requests that are allowed."""
    load = 0.5
    attainment = 1 - late(servers, load) / used
    return staffing(name, load, attainment, 20_000, 20, replications=256, confidence=0.99)


def small_space(requests: int = 800) -> Problem:
    """Return 3 GPUs, one of which cannot, and up to 12 replicas of an 8B model; measured cell by cell."""
    scenario = {
        "name": "small-space",
        "workload": {
            "num_requests": requests,
            "classes": {
                "chat": {
                    "arrivals": {"kind": "poisson", "request_rate_rps": 70.0},
                    "prompt_tokens": {"kind": "lognormal", "mean_tokens": 800.0, "sigma": 0.8},
                    "output_tokens": {"kind": "lognormal", "mean_tokens": 200.0, "sigma": 0.7},
                    "slo": {"ttft_s": 0.5, "tpot_s": 0.035, "attainment": 0.9},
                }
            },
        },
        "pools": {
            "main": {
                "model": "llama-3.1-8b",
                "gpu": "h100_sxm",
                "router": "least_outstanding",
                # Given here, since what is fitted to measured runs is fitted anew when there are more of them.
                "engine": {"host_time_s": 0.002, "prefill_factor": 1.5, "prefill_floor_per_layer_s": 6.5e-4},
            }
        },
    }
    document = {
        "name": "small-space",
        "scenario": scenario,
        "space": {
            "gpu": ["l40s", "a100_sxm", "h100_sxm"],
            "engine": {"quantization": ["fp8"]},
            "replicas": {"least": 1, "most": 12},
        },
        "replications": {"first": 4, "most": 64},
        "rank": 1,
    }
    return Problem("small-space", document, ({"gpu": "h100_sxm", "quantization": "fp8"}, 3))
