"""servesim: a discrete-event simulator of AI serving systems with calibrated GPU service times.

import servesim
scenario = servesim.load("scenarios/chat-llama31-8b-a100.yaml")
result = servesim.simulate(scenario, seed=0)
result.summary["classes"]["all"]["ttft_s"]["p99"]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from servesim.experiment.compare import Comparison, compare
    from servesim.experiment.result import Result
    from servesim.experiment.simulate import simulate
    from servesim.experiment.sweep import sweep
    from servesim.scenario.load import load
    from servesim.scenario.schema import Scenario

__all__ = ["Comparison", "Result", "Scenario", "compare", "load", "simulate", "sweep"]

_WHERE = {
    "Comparison": "servesim.experiment.compare",
    "Result": "servesim.experiment.result",
    "Scenario": "servesim.scenario.schema",
    "compare": "servesim.experiment.compare",
    "load": "servesim.scenario.load",
    "simulate": "servesim.experiment.simulate",
    "sweep": "servesim.experiment.sweep",
}


def __getattr__(name: str) -> Any:
    # Importing servesim costs nothing until something is used: `servesim --help` must not wait for numpy.
    if name in _WHERE:
        from importlib import import_module

        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'servesim' has no attribute {name!r}")
