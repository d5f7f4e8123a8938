"""What a result was made from, so that it can be made again."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

from servesim.scenario.resolve import Resolved, semantics


def provenance(resolved: Resolved, seed: int) -> dict[str, Any]:
    """Return versions, seed, engine semantics and where each pool's service times come from. Holds no clock time."""
    return {
        "servesim": version("servesim"),
        "python": platform.python_version(),
        "numpy": version("numpy"),
        "seed": seed,
        "engine_semantics": semantics(),
        "service_times": {
            pool.name: {
                "name": pool.times.origin.name,
                "measured": pool.times.origin.measured,
                "note": pool.times.origin.note,
                **pool.times.origin.facts,
            }
            for pool in resolved.pools
        },
    }
