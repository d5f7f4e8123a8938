"""A small inventory with two models, short enough for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


def chat(rate_rps: float, duration_s: float = 8.0) -> dict[str, Any]:
    """Return a scenario of an 8B model with short answers."""
    return {
        "name": "chat",
        "workload": {
            "duration_s": duration_s,
            "classes": {
                "chat": {
                    "arrivals": {"kind": "poisson", "request_rate_rps": rate_rps},
                    "prompt_tokens": 2_000,
                    "output_tokens": 60,
                    "slo": {"ttft_s": 0.5, "attainment": 0.9},
                }
            },
        },
        "pools": {"main": {"model": "llama-3.1-8b", "gpu": "h100_sxm", "router": "least_outstanding"}},
    }


def fleet(folder: Path, **changes: Any) -> Path:
    """Write an inventory of two nodes, and two models that need two or three GPUs each; return the file."""
    document = {
        "name": "fleet",
        "inventory": {"h100_sxm": 6, "per_node": 3},
        "growth": {"from": 1.0, "to": 1.4},
        "replications": 2,
        "models": {
            "first": {"scenario": chat(30.0), "space": {"tensor_parallel_size": [1, 2]}},
            "second": {"scenario": chat(15.0)},
        },
    }
    file = folder / "fleet.yaml"
    file.write_text(yaml.safe_dump({**document, **changes}, sort_keys=False), encoding="utf-8")
    return file
