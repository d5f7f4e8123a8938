"""Where each row of the book is tested: as a case here, in another module, or not yet and why."""

from __future__ import annotations

COVERED_BY: dict[str, tuple[str, ...]] = {
    "tests/theory/test_definitions_exact.py": ("cb-det", "kv-blocks", "kv-bytes", "roof-decode"),
    "tests/theory/test_continuous_batching.py": ("cb-sat", "ldp"),
    "tests/theory/test_batching.py": ("batch-b8-sat", "static-eff"),
    "tests/theory/test_arrivals.py": ("neg-vidur-rate", "neg-vidur-scv"),
    "tests/metrics/test_intervals.py": ("p99-ci-cov", "p99-ci-ranks", "p99-ci-ranks-u"),
    "tests/metrics/test_warmup.py": ("mser5", "mser5-mean"),
    "tests/experiment/test_replicate.py": ("seed",),
}
"""Rows by the module that tests them; the module names each."""

NOT_YET: dict[str, tuple[str, ...]] = {
    "a request that takes several servers at once": ("kr-1", "kr-2"),
    "requests that visit several pools, or one again": ("agent-loop", "forkjoin2", "mva-X", "tandem-rag"),
    "replicas that fail": ("brk-1", "brk-4"),
    "replicas that start on demand": ("mmk-setup", "mmk-setup-k1", "setup-D", "setup-M"),
    "a cache that forgets": ("che-0.8", "che-1.0", "lru-exact"),
    "speculative decoding": ("spec-0.6-5", "spec-0.8-4", "spec-speed"),
}
"""Rows that nothing here can express, by what is missing."""
