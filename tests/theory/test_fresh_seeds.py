"""Under seeds that nobody has looked at, the z-scores of the book are a sample of the standard normal law."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from scipy import stats

from tests.theory.book import Case
from tests.theory.cases import CASES

ASKED = os.environ.get("SERVESIM_FRESH_SEEDS") == "1"
NUMBERS = [number for number, case in enumerate(CASES) if isinstance(case, Case) and case.rows[0].kind == "exact"]


def _z(job: tuple[int, int]) -> tuple[str, float]:
    number, seed = job
    case = CASES[number].fresh(seed)
    assert isinstance(case, Case)
    rows, _ = case.run()
    return rows[0].id, rows[0].z


def _jobs(entropy: int) -> Iterator[tuple[int, int]]:
    """Yield cases and first seeds, each 100,000 after the one before: no case takes so many."""
    for place, number in enumerate(NUMBERS):
        yield number, entropy + 100_000 * place


@pytest.mark.slow
@pytest.mark.skipif(not ASKED, reason="set SERVESIM_FRESH_SEEDS=1: it takes minutes, and may fail once in a thousand")
def test_z_scores_under_fresh_seeds_are_standard_normal() -> None:
    entropy = secrets.randbits(60)
    print(f"first seed {entropy}")
    with ProcessPoolExecutor(2) as pool:
        scores = dict(pool.map(_z, _jobs(entropy)))
    for id, z in scores.items():
        print(f"{id}: z = {z:+.2f}")
    z = np.array(list(scores.values()))
    p = stats.kstest(z, "norm").pvalue
    print(f"{len(z)} rows: KS p = {p:.3f}, mean {z.mean():+.3f}, variance {z.var(ddof=1):.3f}")
    assert p > 1e-3
    assert abs(z.mean()) * len(z) ** 0.5 < 3.3
    assert 0.0005 < stats.chi2(len(z)).cdf(float(z @ z)) < 0.9995
