from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servesim.metrics.definitions import attainment, describe, meets, tpot_s
from servesim.metrics.record import Slo

TIMES = st.lists(st.floats(0, 1e6, allow_subnormal=False), min_size=1, max_size=60)


@given(values=TIMES)
def test_describe_equals_numpy(values: list[float]) -> None:
    found = describe(np.array(values))
    for percent in (50, 90, 95, 99):
        assert found[f"p{percent}"] == pytest.approx(np.percentile(values, percent), rel=1e-12, abs=0)
    assert found["mean"] == pytest.approx(np.mean(values), rel=1e-12)


def test_describe_leaves_out_undefined_values() -> None:
    assert describe(np.array([np.nan, 3.0, 1.0, np.nan]))["mean"] == 2.0
    assert math.isnan(describe(np.array([np.nan]))["p50"])
    assert math.isnan(describe(np.empty(0))["mean"])


def test_tpot_is_undefined_for_a_single_token() -> None:
    found = tpot_s(np.array([1.0, 2.0]), np.array([1.0, 0.5]), np.array([1.0, 4.0]))
    assert math.isnan(found[0])
    assert found[1] == 0.5


def test_good_means_all_thresholds_and_a_single_token_meets_any_tpot() -> None:
    ttft, tpot, e2e = (
        np.array([0.1, 0.1, 0.3, 0.1]),
        np.array([0.02, 0.05, 0.02, np.nan]),
        np.array([1.0, 1.0, 1.0, 0.1]),
    )
    queue = np.array([0.0, 0.03, 0.2, 0.02])
    assert meets(Slo(ttft_s=0.2, tpot_s=0.04), ttft, tpot, e2e, queue).tolist() == [True, False, False, True]
    assert meets(Slo(e2e_s=0.5), ttft, tpot, e2e, queue).tolist() == [False, False, False, True]
    assert meets(Slo(ttft_s=0.1), ttft, tpot, e2e, queue).tolist() == [True, True, False, True]
    assert meets(Slo(queue_s=0.02), ttft, tpot, e2e, queue).tolist() == [True, False, False, True]


def test_attainment_counts_whatever_was_offered() -> None:
    assert attainment(3, 4) == 0.75
    assert math.isnan(attainment(0, 0))
