"""Closed-loop runs ready to be replayed many times, and which numbers of the simulation are tuned on them.

Three numbers per engine, GPU and model: `NAMES`, as `Subject.times` takes them. `ENGINE_WIDE` is the same for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from servesim.catalog import model
from servesim.catalog.deployments import EngineWide, Fitted
from servesim.engine.continuous_plan import ContinuousPlan
from servesim.scenario.resolve import resolve
from servesim.service_time.adjusted import AdjustedIterationTime, Adjustment
from servesim.validation.closed_loop import REQUESTS_PER_CLIENT, SHORTEST, Loop, replays_of, saturates, scenario_of
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
# Round numbers between which and their neighbours the errors of runs left out do not tell (0.2 points of TPOT at most).
_WIDE = EngineWide(context_factor=1.2, expert_batch_factor=0.85, admission_time_per_token_s=2e-6)
ENGINE_WIDE = {"vllm": _WIDE.model_copy(update={"nvfp4_time_per_layer_s": 1e-5}), "trtllm": _WIDE}


@dataclass(frozen=True)
class Subject:
    """A run ready to be replayed many times: small ones with several drawings of their lengths, `runs`."""

    loop: Loop
    plan: ContinuousPlan
    runs: tuple[Run, ...]
    layers: int

    def times(self, values: Floats) -> Floats:
        """Return simulated mean (TTFT, TPOT, E2E) in seconds with these parameters."""
        given = Fitted(**dict(zip(NAMES, values.tolist(), strict=True)))
        further = self.plan.gpus_per_replica - 1
        adjustment = Adjustment(
            self.layers * further * given.communication_time_per_layer_s,
            given.prefill_factor,
            self.layers * given.prefill_floor_per_layer_s,
        )
        times = AdjustedIterationTime(self.plan.times, adjustment)
        clients = (0.0,) * self.loop.clients
        done = [drive(run, self.plan.settings, times, clients) for run in self.runs]
        means = [[one.ttft_s.mean(), one.tpot_s.mean(), one.e2e_s.mean()] for one in done]
        result: Floats = np.mean(means, axis=0)
        return result


def subject(loop: Loop) -> Subject:
    """Return a run with neutral parameters."""
    entry = model(loop.model)
    wide = ENGINE_WIDE[loop.backend].settings(entry.experts > 0, loop.precision)
    plan = resolve(scenario_of(loop, **Fitted().model_dump(), **wide)).pools[0].plan
    assert isinstance(plan, ContinuousPlan)
    runs = tuple(_drawn(loop, seed) for seed in range(replays_of(loop)))
    return Subject(loop, plan, runs, entry.layers)


def _drawn(loop: Loop, seed: int) -> Run:
    """Return the run's requests with lengths drawn as the measurement drew them."""
    rng = np.random.default_rng(seed)
    count = REQUESTS_PER_CLIENT * loop.clients
    prompts, outputs = (
        rng.integers(int(SHORTEST * n), n, count, endpoint=True) for n in (loop.prompt_tokens, loop.output_tokens)
    )
    unknown = np.full(count, np.nan)
    return Run(loop.name, np.zeros(count), prompts, outputs, unknown, unknown)


def measured(loops: Sequence[Loop]) -> Floats:
    """Return log of measured TTFT, TPOT, E2E, shape (runs, 3)."""
    times = np.array([(loop.ttft_s, loop.tpot_s, loop.e2e_s) for loop in loops])
    return np.asarray(np.log(times), dtype=np.float64)


def usable(loops: Sequence[Loop]) -> list[Loop]:
    """Return the visible runs to fit: none with a reason to leave it out, none where KV blocks decide."""
    chosen = [loop for loop in loops if loop.split == "visible" and not loop.exclude]
    return [loop for loop in chosen if not saturates(loop, subject(loop).plan)]
