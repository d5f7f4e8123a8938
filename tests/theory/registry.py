"""Where each row of the book is tested: as a case here, in another module, or not yet and why."""

from __future__ import annotations

COVERED_BY: dict[str, tuple[str, ...]] = {
    "tests/theory/test_definitions_exact.py": ("cb-det", "kv-blocks", "kv-bytes", "roof-decode"),
    "tests/theory/test_continuous_batching.py": ("cb-sat", "ldp"),
}
"""Rows by the module that tests them; the module names each."""

NOT_YET: dict[str, tuple[str, ...]] = {
    "request batching of the station kinds": (
        "batch-b8-W",
        "batch-b8-sat",
        "bailey-md",
        "bailey-mm",
        "cb-ps",
        "fullbatch-8",
        "inoue-EB",
        "inoue-W",
        "inoue-bound",
        "inoue-energy",
        "inoue-low-W",
        "inoue-low-bound",
        "neuts-4-8",
        "static-eff",
        "static-max",
        "timeout-EN",
        "timeout-rate",
        "timeout-wait",
    ),
    "arrivals in bursts, modulated and self-exciting": (
        "hawkes-mean",
        "hawkes-var",
        "mmpp-idc",
        "mmpp-m1",
        "mmpp-rate",
        "mmpp-scv",
        "mx5m1-L",
        "neg-vidur-rate",
        "neg-vidur-scv",
        "nhpp",
    ),
    "patience that ends in service, and retries": ("erlA-Pab", "erlA-Wq", "mm1+D", "retrial"),
    "intervals and warm-up in the summary": (
        "mser5",
        "mser5-mean",
        "p99-ci-cov",
        "p99-ci-ranks",
        "p99-ci-ranks-u",
        "seed",
    ),
    "a request that takes several servers at once": ("kr-1", "kr-2"),
    "requests that visit several pools, or one again": ("agent-loop", "forkjoin2", "mva-X", "tandem-rag"),
    "replicas that fail": ("brk-1", "brk-4"),
    "replicas that start on demand": ("mmk-setup", "mmk-setup-k1", "setup-D", "setup-M"),
    "a cache that forgets": ("che-0.8", "che-1.0", "lru-exact"),
    "speculative decoding": ("spec-0.6-5", "spec-0.8-4", "spec-speed"),
}
"""Rows that nothing here can express, by what is missing."""
