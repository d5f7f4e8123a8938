"""Mutants made blindly: comparisons flipped, numbers changed by one, in engines, policies and metrics."""

from __future__ import annotations

from tests.mutants.model import Mechanical
from tests.mutants.oracles import (
    BATCHERS,
    BUDGET,
    DEFINITIONS,
    ENGINES,
    INTERVALS,
    ROUTERS,
    SLOTS,
    STATIONS,
    TIMING,
    WARMUP,
)

MECHANICAL = (
    Mechanical("blocks: one too few", "engine/kv.py", ENGINES, "BlockCounter.__init__", "plus", 0),
    Mechanical("blocks: a run stops early", "engine/kv.py", ENGINES, "BlockCounter.affordable", "flip", 0),
    Mechanical("boundaries: bend from the first", "engine/timing.py", TIMING, "boundary_s", "minus", 0),
    Mechanical("blocks: those of one step taken for all", "engine/kv.py", ENGINES, "BlockCounter.needed", "flip", 0),
    Mechanical("host: hidden or not, with prefill", "engine/timing.py", TIMING, "Timing.mixed", "reverse", 0),
    Mechanical("host: hidden or not", "engine/timing.py", TIMING, "Timing.decode", "reverse", 0),
    Mechanical("station: room for one more", "engine/station.py", STATIONS, "StationReplica.submit", "flip", 0),
    Mechanical(
        "preemptive: a server too many", "engine/preemptive_station.py", STATIONS, "PreemptiveReplica.submit", "flip", 0
    ),
    Mechanical(
        "preemptive: less urgent first", "engine/preemptive_station.py", STATIONS, "PreemptiveReplica.submit",
        "reverse", 1,
    ),
    Mechanical("sharing: one too many", "engine/processor_sharing.py", STATIONS, "SharingReplica._fill", "flip", 0),
    Mechanical("static: one more than full", "policies/batching/static.py", BATCHERS, "Static.next_batch", "flip", 0),
    Mechanical("take all: one more", "policies/batching/take_all.py", BATCHERS, "TakeAll.next_batch", "flip", 0),
    Mechanical("timeout: one more", "policies/batching/timeout.py", BATCHERS, "Timeout.add", "flip", 1),
    Mechanical("timeout: a tie is too late", "policies/batching/timeout.py", BATCHERS, "Timeout.add", "flip", 0),
    Mechanical(
        "buckets: a full one waits", "policies/batching/length_bucketed.py", BATCHERS, "LengthBucketed.next_batch",
        "flip", 0,
    ),
    Mechanical("adaptive: wrong way", "policies/batching/adaptive.py", BATCHERS, "Adaptive.completed", "reverse", 0),
    Mechanical("deadline: one too many", "policies/batching/deadline.py", BATCHERS, "Deadline.next_batch", "flip", 0),
    Mechanical("Triton: a level too full", "policies/batching/dynamic.py", BATCHERS, "Dynamic.add", "flip", 0),
    Mechanical("Triton: an eager timer", "policies/batching/dynamic.py", BATCHERS, "Dynamic.next_batch", "flip", 1),
    Mechanical("two choices: the worse", "policies/routing/power_of_d.py", ROUTERS, "PowerOfD.choose", "reverse", 1),
    Mechanical("random: replica 0 is left out", "policies/routing/random.py", ROUTERS, "draws", "plus", 0),
    Mechanical("retries: one short of the budget", "workload/lives.py", BUDGET, "RetryBudget.allows", "flip", 0),
    Mechanical("retries: the budget's window", "workload/lives.py", BUDGET, "RetryBudget._forget", "flip", 0),
    Mechanical("objective: equal is not met", "metrics/definitions.py", DEFINITIONS, "meets", "flip", 0),
    Mechanical("percentile: a rank off", "metrics/definitions.py", DEFINITIONS, "rank", "plus", 1),
    Mechanical("order statistics: a rank off", "metrics/intervals.py", INTERVALS, "order_statistic_ranks", "plus", 2),
    Mechanical("t: a degree of freedom more", "metrics/intervals.py", INTERVALS, "across_replications", "plus", 2),
    Mechanical("MSER-5: at most a third", "metrics/warmup.py", WARMUP, "mser5", "plus", 3),
    Mechanical("admission: one slot more", "engine/continuous.py", SLOTS, "ContinuousEngine._admit", "flip", 1),
)  # fmt: skip
