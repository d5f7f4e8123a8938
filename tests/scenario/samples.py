"""Valid scenarios that between them use every part of the schema, as texts."""

CHAT = """\
name: chat
workload:
  num_requests: 100
  classes:
    chat:
      arrivals: {kind: poisson, request_rate_rps: 4.0}
      prompt_tokens: 512
      output_tokens: {kind: lognormal, median_tokens: 100, sigma: 0.5}
      slo: {ttft_s: 1.0, attainment: 0.9}
pools:
  main:
    model: llama-3.1-8b
    gpu: h100
    router: least_outstanding
    engine: {kind: continuous, max_num_seqs: 256}
    service_time: {kind: roofline}
"""

TWO_POOLS = """\
name: two-pools
description: |
  Two classes, each on a pool of its own.
  The second one waits for its answers.
seed: 18446744073
workload:
  duration_s: 30
  classes:
    v1.5:
      arrivals: {kind: gamma, request_rate_rps: 0.1, burstiness: 0.25}
      lengths: {kind: empirical, rows: [[12, 34], [56, 78, 0.1]], max_total_tokens: 4096}
      pool: fast
      priority: -1
      timeout_s: 12.5
    batch:
      arrivals: {kind: closed_loop, max_concurrency: 8, think_time_s: 1e-3}
      prompt_tokens: {kind: quantiles, cdf: [[9, 0], [100, 0.5], [800, 1]]}
      output_tokens: {kind: uniform, min_tokens: 1, max_tokens: 9}
      pool: slow
      tenant: 'no'
      patience: {mean_s: 3.0, distribution: fixed, until: scheduled}
      cancel: {probability: 0.25, after_tokens: {kind: geometric, mean_tokens: 20.0}}
      retry:
        on: [abandoned, failed]
        max_attempts: unlimited
        jitter: equal
        budget: {ratio: 0.1}
      num_requests: 7
pools:
  fast:
    model: llama-3.1-8b
    gpu: h100
    replicas: 2
    router: {kind: power_of_d, d: 3}
    engine:
      kind: continuous
      num_gpu_blocks: unlimited
      scheduler: {kind: priority}
      enable_chunked_prefill: false
  slow:
    service_time: {kind: affine, base_s: 0.1, per_seq_s: 1.0e-5}
    usd_per_gpu_hour: 0
client: {clock: client, request_network_s: 0.015}
limits: {max_events: 1000000, max_memory_bytes: 4000000000}
"""

JOINT = """\
name: joint
workload:
  classes:
    only:
      arrivals: all_at_once
      num_requests: 3
      lengths:
        kind: joint_quantiles
        prompt_cdf: [[0, 0], [100, 1]]
        output:
          - {up_to_prompt_tokens: 50, cdf: [[0, 0], [10, 1]]}
          - {up_to_prompt_tokens: 100, cdf: [[0, 0], [20, 0.25], [30, 1]]}
pools:
  main: {service_time: {kind: affine, base_s: 0.01}}
"""

ARRIVALS = """\
name: arrivals
workload:
  duration_s: 20
  classes:
    users:
      arrivals:
        kind: sessions
        starts: {kind: superposition, processes: [{kind: batch, bursts: {kind: poisson, request_rate_rps: 2}, size: 2},
          {kind: weibull, request_rate_rps: 1, shape: 0.5}]}
        turns: {kind: weighted, counts: [1, 4], weights: [3, 1]}
        max_context_tokens: 4096
        interrupt: {probability: 0.1, after_tokens: {kind: geometric, mean_tokens: 20}}
      prompt_tokens: 512
      output_tokens: 100
    day:
      arrivals:
        kind: nhpp
        rate: {kind: spikes, base_rps: 1, spikes: [{at_s: 5, peak_rps: 9, hold_s: 2}], period_s: 10}
      prompt_tokens: 512
      output_tokens: 100
    moods:
      arrivals: {kind: mmpp, rates_rps: [1, 9], generator: [[-1, 1], [3, -3]]}
      prompt_tokens: 512
      output_tokens: 100
    excited:
      arrivals: {kind: hawkes, base_rps: 1, jump_rps: 0.5, decay_per_s: 2}
      prompt_tokens: 512
      output_tokens: 100
pools:
  main: {service_time: {kind: affine, base_s: 0.01}}
"""

VALID = {"arrivals": ARRIVALS, "chat": CHAT, "two_pools": TWO_POOLS, "joint": JOINT}
