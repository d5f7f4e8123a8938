"""Closed-loop runs ready to be replayed many times, and which numbers of the simulation are tuned on them.

Three numbers per engine, GPU and model: `NAMES`, as `Subject.times` takes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from servesim.catalog import model
from servesim.catalog.deployments import Fitted
from servesim.engine.continuous_plan import ContinuousPlan
from servesim.scenario.resolve import resolve
from servesim.service_time.adjusted import AdjustedIterationTime, Adjustment
from servesim.validation.closed_loop import SHORTEST, Loop, saturates, scenario_of
from servesim.validation.drive import drive
from servesim.validation.runs import Run

Floats = NDArray[np.float64]

NAMES = ("communication_time_per_layer_s", "prefill_factor", "prefill_floor_per_layer_s")
NEUTRAL = np.array([0.0, 1.0, 0.0])
SCALE = np.array([2e-6, 0.2, 2e-4])  # what counts as a step, and as a noticeable difference
LEAST = np.array([-6e-5, 0.4, 0.0])
START = np.array([0.0, 1.3, 7e-4])
# How long kernels of a prefill take compared with the operator data, and how many there are to launch, is the model's;
# what communication takes beyond the data is not.
OF_THE_MODEL = np.array([False, True, True])
CLIENTS_IN_FULL = 32


@dataclass(frozen=True)
class Subject:
    """A run ready to be replayed many times; `share` is what every client's first requests weigh in the means.

    So do the last ones: at the end clients run out, and those left have the server to themselves.
    """

    loop: Loop
    plan: ContinuousPlan
    run: Run
    layers: int
    share: float

    def times(self, values: Floats) -> Floats:
        """Return simulated mean (TTFT, TPOT, E2E) in seconds with these parameters."""
        given = Fitted(**dict(zip(NAMES, values.tolist(), strict=True)))
        further = self.plan.gpus_per_replica - 1
        per_layer_s = given.iteration_time_per_layer_s + further * given.communication_time_per_layer_s
        adjustment = Adjustment(
            self.layers * per_layer_s, given.prefill_factor, self.layers * given.prefill_floor_per_layer_s
        )
        settings = replace(self.plan.settings, admission_time_s=given.admission_time_s)
        done = drive(self.run, settings, AdjustedIterationTime(self.plan.times, adjustment), (0.0,) * self.loop.clients)
        clients, share = self.loop.clients, self.share
        parts = ((slice(clients), share), (slice(clients, -clients), 1.0 - 2.0 * share), (slice(-clients, None), share))
        columns = (done.ttft_s, done.tpot_s, done.e2e_s)
        return np.array([sum(weight * c[part].mean() for part, weight in parts) for c in columns])


def subject(loop: Loop) -> Subject:
    """Return a run with neutral parameters. Large loops are shortened to 4 requests per client."""
    plan = resolve(scenario_of(loop, **Fitted().model_dump())).pools[0].plan
    assert isinstance(plan, ContinuousPlan)
    per_client = 10 if loop.clients < CLIENTS_IN_FULL else 4
    rng = np.random.default_rng(0)
    count = per_client * loop.clients
    prompts, outputs = (
        rng.integers(int(SHORTEST * n), n, count, endpoint=True) for n in (loop.prompt_tokens, loop.output_tokens)
    )
    unknown = np.full(count, np.nan)
    run = Run(loop.name, np.zeros(count), prompts, outputs, unknown, unknown)
    return Subject(loop, plan, run, model(loop.model).layers, 0.1)


def measured(loops: Sequence[Loop]) -> Floats:
    """Return log of measured TTFT, TPOT, E2E, shape (runs, 3)."""
    times = np.array([(loop.ttft_s, loop.tpot_s, loop.e2e_s) for loop in loops])
    return np.asarray(np.log(times), dtype=np.float64)


def usable(loops: Sequence[Loop]) -> list[Loop]:
    """Return the visible runs to fit: none with a reason to leave it out, none where KV blocks decide."""
    chosen = [loop for loop in loops if loop.split == "visible" and not loop.exclude]
    return [loop for loop in chosen if not saturates(loop, subject(loop).plan)]
