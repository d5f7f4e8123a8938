"""Which tests judge which part: quick ones, of a few seconds. What they let live is tried against the default suite."""

from __future__ import annotations

BOOK = "tests/theory/test_book.py::test_the_simulation_agrees_with_theory"

STATIONS = ("tests/engine/test_stations.py", f"{BOOK}[M/constant/10/10]")
BATCHERS = ("tests/engine/test_batchers.py",)
BATCHES = ("tests/engine/test_request_batching.py",)
TIMING = ("tests/engine/test_timing.py", "tests/experiment/test_simulate.py")
SLOTS = ("tests/engine/test_spans.py::test_no_more_run_than_there_are_slots",)
ENGINES = (
    "tests/experiment/test_simulate.py::test_both_engines_give_the_same_summary",
    "tests/metrics/test_checks.py",
    "tests/engine/test_spans.py",
)
SCHEDULERS = ("tests/engine/test_schedulers.py",)
ROUTERS = ("tests/engine/test_routers.py",)
LIVES = ("tests/system/test_lives.py",)
BUDGET = (
    "tests/system/test_lives.py::test_a_budget_forgets_what_is_older_than_its_window",
    "tests/system/test_lives.py::test_an_attempt_is_forgotten_when_the_window_ends",
)
SOURCES = ("tests/system/test_sources.py",)
LEAVING = ("tests/theory/test_impatience.py",)
SESSIONS = ("tests/system/test_sessions.py",)
DEFINITIONS = ("tests/metrics/test_definitions.py", "tests/metrics/test_summary.py")
GOODPUT = ("tests/metrics/test_goodput.py",)
INTERVALS = ("tests/metrics/test_intervals.py",)
WARMUP = ("tests/metrics/test_warmup.py",)
SPLIT = ("tests/metrics/test_split.py",)
CHECKS = ("tests/metrics/test_checks.py",)
ITL = ("tests/metrics/test_itl.py", "tests/metrics/test_summary.py")
_ARRIVALS = "tests/theory/test_arrivals.py::test_"
POISSON = (f"{_ARRIVALS}poisson_passes_and_a_clipped_one_does_not",)
HAWKES = (f"{_ARRIVALS}hawkes_mean_from_the_first_moment_on",)
CLASSES = (f"{_ARRIVALS}poisson_classes_are_one_of_the_summed_rate",)
RENEWAL = ("tests/workload/test_renewal.py",)
RUNS = ("tests/experiment/test_simulate.py",)
REPLICATIONS = ("tests/experiment/test_replicate.py",)
AFFINE = ("tests/service_time/test_affine.py",)

FALLBACK = ("tests", "-m", "not slow", "--ignore", "tests/mutants")
"""The default suite, without the test that looks for the place of each mutant: it fails wherever one was made."""
