"""The requests of a stretch of time, held in memory and replayed as a trace."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from servesim.experiment.simulate import lengths_of
from servesim.scenario.schema import ClassSpec, Scenario
from servesim.workload.base import Block
from servesim.workload.load import ClassLoad
from servesim.workload.trace import TraceArrivals, TraceReplay, TraceRows


class Excerpt(TraceArrivals):
    """Requests in memory, at their times of the replay. Not a kind that a scenario can name."""

    kind: Literal["excerpt"] = "excerpt"
    path: str = "-"
    requests: Any

    def rows(self) -> Iterator[TraceRows]:
        """Yield the requests as rows."""
        arrival_s, prompt, output = (np.array(column) for column in self.requests)
        yield TraceRows(arrival_s, prompt, output, np.arange(1, len(arrival_s) + 1))

    def joint(self, seed: int = 0, class_name: str = "") -> TraceReplay:
        """Return the requests as they are: unlike a trace's, their times do not begin with the first of them."""
        return _Held(self)


class _Held(TraceReplay):
    def _read(self) -> Iterator[Block]:
        assert isinstance(self.spec, Excerpt)
        if self.spec.requests.arrival_s:
            yield self.spec.requests


def offered(scenario: Scenario, seed: int) -> dict[str, Block]:
    """Return the requests that each class offers under a seed; InputError for loads that depend on the system."""
    return {name: _offered(scenario, name, spec, seed) for name, spec in scenario.workload.classes.items()}


def _offered(scenario: Scenario, name: str, spec: ClassSpec, seed: int) -> Block:
    number = spec.num_requests or (None if spec.duration_s else scenario.workload.num_requests)
    duration_s = spec.duration_s or (None if spec.num_requests else scenario.workload.duration_s)
    load = ClassLoad(name, spec.arrivals, lengths_of(spec), seed=seed, num_requests=number, duration_s=duration_s)
    whole = Block([], [], [])
    for block in load.blocks():
        whole.arrival_s.extend(block.arrival_s)
        whole.prompt_tokens.extend(block.prompt_tokens)
        whole.output_tokens.extend(block.output_tokens)
    return whole


def between(requests: Block, start_s: float, end_s: float) -> Block:
    """Return the requests from `start_s` to before `end_s`, with times from `start_s` on."""
    first, last = np.searchsorted(requests.arrival_s, [start_s, end_s])
    times = [time_s - start_s for time_s in requests.arrival_s[first:last]]
    return Block(times, requests.prompt_tokens[first:last], requests.output_tokens[first:last])


def replayed(scenario: Scenario, requests: dict[str, Block]) -> Scenario:
    """Return the scenario with these requests in place of its arrivals, and without the classes that have none."""
    gone: dict[str, None] = dict.fromkeys(
        ("prompt_tokens", "output_tokens", "lengths", "max_total_tokens", "num_requests", "duration_s")
    )
    classes = {
        name: spec.model_copy(update={**gone, "arrivals": Excerpt(requests=requests[name])})
        for name, spec in scenario.workload.classes.items()
        if requests[name].arrival_s
    }
    workload = scenario.workload.model_copy(update={"classes": classes, "num_requests": None, "duration_s": None})
    return scenario.model_copy(update={"workload": workload})
