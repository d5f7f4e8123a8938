"""Mistakes that somebody could make in what is counted and how sure it is."""

from __future__ import annotations

from tests.mutants.model import Deliberate
from tests.mutants.oracles import (
    BATCHES,
    CHECKS,
    DEFINITIONS,
    GOODPUT,
    INTERVALS,
    ITL,
    LIVES,
    REPLICATIONS,
    RUNS,
    SPLIT,
    WARMUP,
)

_SUMMARY = "metrics/summary.py"

METRIC_MISTAKES = (
    Deliberate("warm-up kept", "metrics/warmup.py", WARMUP, (("return requests // USUAL_SHARE", "return 0"),)),
    Deliberate(
        "attainment: of completed requests only", _SUMMARY, DEFINITIONS,
        (("int(found.outcomes[asked].sum())) if asked", "int(found.outcomes[asked][:, COMPLETED].sum())) if asked"),),
    ),
    Deliberate(
        "goodput: rejected requests are good", _SUMMARY, GOODPUT,
        (("int(np.count_nonzero(meets(one.slo, ttft, tpot, e2e, queue)))",
          "int(np.count_nonzero(meets(one.slo, ttft, tpot, e2e, queue)) + found.outcomes[index][REJECTED])"),),
    ),
    Deliberate(
        "percentiles: of all that ended", "metrics/latencies.py", DEFINITIONS,
        (('done = chunk["outcome"] == COMPLETED', 'done = chunk["outcome"] >= COMPLETED'),),
    ),
    Deliberate(
        "rates: over the arrivals' time", _SUMMARY, DEFINITIONS,
        (("record.end_s - record.start_s", "record.last_arrival_s - record.start_s"),),
    ),
    Deliberate(
        "rates: the warm-up counts as time", _SUMMARY, WARMUP,
        (("record.end_s - record.start_s", "record.end_s"),),
    ),
    Deliberate(
        "TPOT: divided by all tokens", "metrics/definitions.py", DEFINITIONS,
        (("gaps = output_tokens - 1", "gaps = output_tokens + 0"),),
    ),
    Deliberate(
        "ITL: every iteration counts once", "metrics/itl.py", ITL,
        (('chunk["iterations"][busy], weight[busy]', 'chunk["iterations"][busy], np.ones(int(busy.sum()))'),),
    ),
    Deliberate(
        "queue: with admission", "metrics/definitions.py", (*SPLIT, *DEFINITIONS),
        (("return first_scheduled_s - arrival_s - admission_s", "return first_scheduled_s - arrival_s"),),
    ),
    Deliberate(
        "formation counted as queue", "metrics/waiting.py", BATCHES,
        (("return waited - formation, formation", "return waited, np.zeros(len(waited))"),),
    ),
    Deliberate(
        "retries counted as requests", "metrics/attempts.py", LIVES,
        (("last = ~here | attempts.is_last[place]", "last = here | ~here"),),
    ),
    Deliberate(
        "Little's law not looked at", "metrics/checks.py", CHECKS,
        (("_demand(abs(spent - record.occupancy_s) <= slack, text)", "_demand(spent >= 0, text)"),),
    ),
    Deliberate(
        "Little's law: leaving counted late", "system/gateway.py", RUNS,
        (("        gateway.ends_s += now_s\n", "        gateway.ends_s += now_s + 0.001\n"),),
    ),
    Deliberate(
        "utilisation: of one server each", "metrics/pools.py", BATCHES,
        (("sum(replica.servers for replica in pool.replicas) * record.end_s", "len(pool.replicas) * record.end_s"),),
    ),
    Deliberate(
        "cost: of one replica", "metrics/pools.py", DEFINITIONS,
        (("gpus = replicas * pool.gpus_per_replica", "gpus = pool.gpus_per_replica"),),
    ),
    Deliberate(
        "interval: z for t", "metrics/intervals.py", INTERVALS,
        (("stdtrit(degrees, 0.5", "stdtrit(1e9, 0.5"),),
    ),
    Deliberate(
        "interval: of the values, not of their mean", "metrics/intervals.py", INTERVALS,
        (("for value in values) / (count - 1) / count)", "for value in values) / (count - 1))"),),
    ),
    Deliberate(
        "interval: no room for a percentile's bias", "metrics/intervals.py", INTERVALS,
        (("found.value + above + variance / abs(found.value)", "found.value + above"),),
    ),
    Deliberate(
        "interval: correlation ignored", "metrics/intervals.py", INTERVALS,
        (("within = max(1.0, 2 * float(pairs.sum()) - 1)", "within = 1.0"),),
    ),
    Deliberate(
        "replications: neighbouring seeds", "experiment/seeds.py", REPLICATIONS,
        (("found = int(sequence.generate_state(words)[-1])", "found = seed + r + words - 1"),),
    ),
    Deliberate(
        "precision: one metric is enough", "experiment/precision.py", REPLICATIONS,
        (("if not far or number == most:", "if len(far) < len(widths) or number == most:"),),
    ),
)  # fmt: skip
