"""The estimator of asymptotic variances, against a process whose own is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import lfilter

from tests.theory.long_run import long_run_variance


def test_of_an_autoregression() -> None:
    """AR(1): 1 / (1 - phi)^2 = 100. At lags below 200 the estimate has a standard error of about 4 %."""
    values = 7 + lfilter([1.0], [1.0, -0.9], np.random.default_rng(5).standard_normal(400_000))[1000:]
    assert long_run_variance(values, 7.0, 200) == pytest.approx(100, rel=0.15)
    assert long_run_variance(values, 7.0, 8) < 80  # a window that is too short
    assert long_run_variance(values, 7.5, 200) > 140  # a wrong mean: 0.25 at 300 lags more
