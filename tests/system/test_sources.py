"""Closed loops: when a client asks again."""

from __future__ import annotations

import numpy as np
import pytest

from servesim import Scenario, simulate
from tests.theory.scenarios import Part, constant, queue

CLIENT: Part = {"clock": "client", "request_network_s": 0.1, "response_network_s": 0.15}


def with_network(scenario: Scenario) -> Scenario:
    return Scenario.model_validate({**scenario.model_dump(), "client": CLIENT})


def test_the_next_request_comes_after_answer_network_and_thought() -> None:
    loop = {"kind": "closed_loop", "max_concurrency": 1, "think_time_s": 2.0}
    near = queue(loop, constant(1.0), 5)()
    for scenario, apart_s in ((near, 3.0), (with_network(near), 3.25)):
        (arrival_s,) = simulate(scenario, 1).record.requests.column("arrival_s")
        assert np.diff(np.sort(arrival_s)) == pytest.approx([apart_s] * 4)
