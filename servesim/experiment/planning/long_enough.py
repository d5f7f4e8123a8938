"""Runs that last long enough for a backlog to be felt: a run that starts empty and ends soon flatters any load."""

from __future__ import annotations

import math
from collections.abc import Callable

from servesim.experiment.planning.observe import Observation, Trial
from servesim.scenario.schema import Scenario

# Arrivals have to last so many times the longest latency that is allowed or seen. At r times the load that can be
# served, what comes last waits 1 - 1/r of the time that arrivals last: of a load too large by a quarter half misses.
LEAST_TIMES = 10.0
# A longer run shows longer latencies, too: so much is let pass of one that was made longer, else it is done again.
_SLACK, _ROUNDS = 1.25, 3
# A run is made no longer than this, even for a target of a day.
MOST_REQUESTS = 200_000


def long_enough(trial: Trial, number: int, holds: Callable[[list[Observation]], bool]) -> Trial:
    """Return the trial or, where its runs end too soon, one whose arrivals last longer; each has `number` replications.

    Only what `holds` is made longer. It is the same trial where nothing can be, as a recording cannot.
    """
    for round_ in range(_ROUNDS):
        seen = trial.extend(number)
        soon = still_too_short if round_ else too_short
        if not soon(trial.scenario, seen) or not holds(seen):
            break
        longer = _longer(trial.scenario, seen)
        if longer == trial.scenario:
            break
        trial = Trial(trial.laboratory, longer)
    trial.extend(number)
    return trial


def too_short(scenario: Scenario, observations: list[Observation]) -> bool:
    """Say whether arrivals end before a backlog would be felt."""
    return _lengthening(scenario, observations) > 1


def still_too_short(scenario: Scenario, observations: list[Observation]) -> bool:
    """Say whether arrivals that were made to last longer, or cannot be, clearly end too soon."""
    return _lengthening(scenario, observations) > _SLACK


def _lengthening(scenario: Scenario, observations: list[Observation]) -> float:
    """Return how many times longer arrivals would have to last; bursts at one moment cannot last."""
    lasted_s = min(one.arrivals_s for one in observations)
    return LEAST_TIMES * max(_allowed_s(scenario), _seen_s(observations)) / lasted_s if lasted_s > 0 else 0.0


def _longer(scenario: Scenario, observations: list[Observation]) -> Scenario:
    """Return the scenario with arrivals that would last long enough if latencies stayed as seen, within reason."""
    offered = max(sum(one.offered.values()) for one in observations)
    times = min(_lengthening(scenario, observations), MOST_REQUESTS / max(1, offered))
    return lengthened(scenario, max(1.0, times))


def lengthened(scenario: Scenario, times: float) -> Scenario:
    """Return the scenario with numbers of requests and durations `times` as large; recorded requests stay as many."""

    def longer(number: int | None, duration_s: float | None) -> dict[str, float | None]:
        return {
            "num_requests": None if number is None else math.ceil(number * times),
            "duration_s": None if duration_s is None else duration_s * times,
        }

    load = scenario.workload
    classes = {
        name: one.model_copy(update=longer(one.num_requests, one.duration_s)) for name, one in load.classes.items()
    }
    workload = load.model_copy(update={"classes": classes, **longer(load.num_requests, load.duration_s)})
    return scenario.model_copy(update={"workload": workload})


def _allowed_s(scenario: Scenario) -> float:
    slos = [one.slo for one in scenario.workload.classes.values()]
    return max((limit for slo in slos for limit in (slo.ttft_s, slo.e2e_s, slo.queue_s) if limit), default=0.0)


def _seen_s(observations: list[Observation]) -> float:
    means = [one.numbers.get("classes", {}).get("all", {}).get("e2e_s", {}).get("mean") for one in observations]
    return max((mean for mean in means if mean is not None), default=0.0)
