"""Mistakes that somebody could make, in policies, engines and the system around them."""

from __future__ import annotations

from tests.mutants.model import Deliberate
from tests.mutants.oracles import (
    AFFINE,
    BATCHERS,
    BATCHES,
    CLASSES,
    ENGINES,
    HAWKES,
    LEAVING,
    LIVES,
    POISSON,
    RENEWAL,
    ROUTERS,
    RUNS,
    SCHEDULERS,
    SESSIONS,
    SOURCES,
    SPLIT,
    STATIONS,
    TIMING,
)

_CONTINUOUS = "engine/continuous.py"
_LIVES = "system/lives.py"

ENGINE_MISTAKES = (
    Deliberate(
        "arrivals: gaps clipped at three means", "workload/arrivals/poisson.py", POISSON,
        (("rng.exponential(mean_gap_s, BLOCK_REQUESTS)",
          "np.minimum(rng.exponential(mean_gap_s, BLOCK_REQUESTS), 3 * mean_gap_s)"),),
    ),
    Deliberate(
        "arrivals: each block starts anew", "workload/renewal.py", RENEWAL,
        (("gaps_s[0] += last_s", "gaps_s[0] = last_s"),),
    ),
    Deliberate(
        "arrivals: a Hawkes process without a past", "workload/arrivals/hawkes.py", HAWKES,
        (('origin_s = self._past_s() if self.start == "stationary" else 0.0', "origin_s = 0.0"),),
    ),
    Deliberate(
        "random numbers: seed ignored", "rng.py", RUNS,
        (("np.random.SeedSequence(seed, spawn_key=words)", "np.random.SeedSequence(0, spawn_key=words)"),),
    ),
    Deliberate(
        "random numbers: one stream for everything", "rng.py", CLASSES,
        (("np.random.SeedSequence(seed, spawn_key=words)", "np.random.SeedSequence(seed, spawn_key=words[:0])"),),
    ),
    Deliberate(
        "random numbers: work drawn in order of service", "engine/station.py", STATIONS,
        (
            ("        request.work_s = self._work_s(request)\n", ""),
            ("        request.first_scheduled_s = now_s\n",
             "        request.first_scheduled_s = now_s\n        request.work_s = self._work_s(request)\n"),
        ),
    ),
    Deliberate(
        "first come, first served: last come", "policies/scheduling/fcfs.py", STATIONS,
        (("self._queue.append(request)", "self._queue.appendleft(request)"),),
    ),
    Deliberate(
        "first come, first served: the preempted go to the back", "policies/scheduling/fcfs.py", SCHEDULERS,
        (("self._queue.appendleft(request)", "self._queue.append(request)"),),
    ),
    Deliberate(
        "preempted work starts again", "engine/preemptive_station.py", STATIONS,
        (("job.left_s = max(job.left_s - served_s, 0.0)", "job.left_s = max(job.left_s, served_s)"),),
    ),
    Deliberate(
        "shortest remaining work: shortest at first", "engine/preemptive_station.py", STATIONS,
        (("return job.left_s - served_s, job.arrived", "return job.left_s, job.arrived"),),
    ),
    Deliberate(
        "sharing: everybody at full speed", "engine/processor_sharing.py", STATIONS,
        (("self._clock.now_s + left_s * len(self._ends)", "self._clock.now_s + left_s"),),
    ),
    Deliberate(
        "shortest queue: lower levels forgotten", "policies/routing/least_outstanding.py", ROUTERS,
        (("        if level < self._lowest:\n            self._lowest = level\n", ""),),
    ),
    Deliberate(
        "continuous: preemption lost", _CONTINUOUS, ENGINES,
        (("if due + blocks > kv.free:", "if due + blocks > kv.free + kv.usable:"),),
    ),
    Deliberate(
        "continuous: KV blocks of a dropped request kept", _CONTINUOUS, ENGINES,
        (("self.kv.free += blocks_for(self._forget_decoding(request), size)", "self._forget_decoding(request)"),),
    ),
    Deliberate(
        "continuous: KV blocks of a full last one not freed", _CONTINUOUS, ENGINES,
        (("blocks = -(-(request.prompt_tokens + request.output_tokens - 1) // size)\n                kv.free",
          "blocks = (request.prompt_tokens + request.output_tokens - 1) // size\n                kv.free"),),
    ),
    Deliberate(
        "continuous: attention over the chunks before forgotten", _CONTINUOUS, ENGINES,
        (("pairs = tokens * computed + tokens * (tokens + 1) // 2", "pairs = tokens * (tokens + 1) // 2"),),
    ),
    Deliberate(
        "continuous: what preemption made is not prefilled again", _CONTINUOUS, ENGINES,
        (("length = request.prompt_tokens + request.generated_tokens\n            spare",
          "length = request.prompt_tokens\n            spare"),),
    ),
    Deliberate(
        "continuous: head of the queue not looked at on arrival", _CONTINUOUS, ENGINES,
        (("if needed <= self.kv.free * self.kv.block_size:", "if needed <= 0:"),),
    ),
    Deliberate(
        "host: no time per sequence", "engine/timing.py", TIMING,
        (("self._host_s + self._host_per_seq_s * decode_seqs\n", "self._host_s\n"),),
    ),
    Deliberate(
        "service time: prefill costs what decoding does", "service_time/affine.py", AFFINE,
        (("+ self._per_seq_s * prefill_seqs", "+ self._per_seq_s * decode_seqs"),),
    ),
    Deliberate(
        "batches: any number of instances", "engine/request_batching_replica.py", BATCHES,
        (("        self._waiting -= size\n        self._can_start -= 1\n", "        self._waiting -= size\n"),),
    ),
    Deliberate(
        "batches: padded to the mean", "engine/request_batching_replica.py", BATCHES,
        (("self._seconds(size, longest_prompt, longest_output)",
          "self._seconds(size, prompts // size, outputs // size)"),),
    ),
    Deliberate(
        "Triton: priorities backwards", "policies/batching/dynamic.py", BATCHERS,
        (("return self._levels[max(number, 1) - 1]", "return self._levels[-max(number, 1)]"),),
    ),
    Deliberate(
        "patience ends in service", _LIVES, LEAVING,
        (("if not request.in_service():", "if request.outcome == PENDING:"),),
    ),
    Deliberate(
        "patience: the network lengthens it", _LIVES, LIVES,
        (("max(nature.patience_s - self._round_trip_s, 0.0)", "(nature.patience_s + self._round_trip_s)"),),
    ),
    Deliberate(
        "retries: not counted", _LIVES, LIVES,
        (("self._gateway.retries.add((life.first_request_id, number))", "pass"),),
    ),
    Deliberate(
        "retries: no wait", _LIVES, LIVES,
        (("self.clock.now_s + wait_s + self._round_trip_s", "self.clock.now_s + self._round_trip_s"),),
    ),
    Deliberate(
        "retries: the first wait is doubled", "workload/lives.py", LIVES,
        (("self.multiplier ** (attempts - 1)", "self.multiplier**attempts"),),
    ),
    Deliberate(
        "sessions: the answer is forgotten", "system/sessions.py", SESSIONS,
        (("self._context_tokens = request.prompt_tokens + request.generated_tokens",
          "self._context_tokens = request.prompt_tokens"),),
    ),
    Deliberate(
        "closed loop: no network", "system/sources.py", SOURCES,
        (("clock.now_s + think_s + self._round_trip_s", "clock.now_s + think_s"),),
    ),
    Deliberate(
        "network: only the way there", "metrics/split.py", SPLIT,
        (("record.request_network_s + record.response_network_s if", "record.request_network_s if"),),
    ),
)  # fmt: skip
