"""Asymptotic variances: n times the variance of a mean over n, for large n.

They are the sum of all autocovariances. Those up to LAGS are estimated from the run and weighed by a flat-top window:
one to half of the way and then down to zero, which leaves no bias where correlations have died out by then (D. N.
Politis and J. P. Romano, "Bias-corrected nonparametric spectral estimation", Journal of Time Series Analysis 16(1),
1995). The mean is known from theory, so that nothing is lost to estimating it.
"""

from __future__ import annotations

import numpy as np

from tests.theory.controls import Control
from tests.theory.sample import Array, Measure, Sample

LAGS = 1400
"""Requests, at load 0.8: half of them are ten relaxation times of M/M/1, and six at load 0.82."""
BIN_S = 10.0


def long_run_variance(values: Array, mean: float, lags: int) -> float:
    """Return the sum of the windowed autocovariances of `values`, shape (n,), at lags below `lags` on either side."""
    length = 1 << (len(values) + lags - 1).bit_length()
    spectrum = np.fft.rfft(values - mean, length)
    products = np.fft.irfft(spectrum.real**2 + spectrum.imag**2, length)[:lags]
    lag = np.arange(lags)
    terms = np.minimum(1.0, 2 - 2 * lag / lags) * products / (len(values) - lag)
    return float(2 * terms.sum() - terms[0])


def of_waits(speed: float = 1.0) -> Measure:
    """Return the measure of M/M/1's waits at load 0.8; at another `speed`, those of a twin."""

    def measure(sample: Sample) -> float:
        waits = sample.wait if speed == 1.0 else sample.twin_wait(sample.work / speed)
        return long_run_variance(waits[sample.skip :], _wait_mean(0.8 / speed) / speed, LAGS)

    return measure


def of_number_inside(speed: float = 1.0) -> Measure:
    """Return the measure of M/M/1's number inside over time, in seconds, at load 0.8; at another `speed`, a twin's."""

    def measure(sample: Sample) -> float:
        arrival, finish = sample.arrival, sample.finish
        if speed != 1.0:
            work = sample.work / speed
            finish = arrival + sample.twin_wait(work) + work
        load = 0.8 / speed
        inside = _inside(arrival, finish, arrival[sample.skip], arrival[-1])
        return BIN_S * long_run_variance(inside, load / (1 - load), round(LAGS / 0.8 / BIN_S))

    return measure


def _inside(arrival: Array, finish: Array, begin_s: float, end_s: float) -> Array:
    """Return the mean number inside in each whole bin of BIN_S between two times; nobody overtakes."""
    edges = begin_s + BIN_S * np.arange(int((end_s - begin_s) / BIN_S) + 1)
    return np.diff(_events_area(arrival, edges) - _events_area(finish, edges)) / BIN_S


def _events_area(events: Array, until: Array) -> Array:
    """Return the integral from 0 to each of `until` of how many events there were so far."""
    count = np.searchsorted(events, until)
    return count * until - np.concatenate([[0.0], np.cumsum(events)])[count]


def _wait_mean(load: float) -> float:
    return load / (1 - load)


def twins(speeds: tuple[float, ...], inside: bool = False) -> tuple[Control, ...]:
    """Return the asymptotic variances of twins of M/M/1 at load 0.8, slower ones and quicker ones.

    Exact: that of waits is r (2 + 5 r - 4 r^2 + r^3) / (1 - r)^4 service times squared (D. J. Daley, "The serial
    correlation coefficients of waiting times in a stationary single server queue", J. Australian Math. Soc. 8, 1968),
    of the number inside 2 r (1 + r) / (1 - r)^4 service times (W. Whitt, "Planning queueing simulations", Management
    Science 35(11), 1989).
    """
    found = []
    for speed in speeds:
        r = 0.8 / speed
        if inside:
            exact, measure, what = 2 * r * (1 + r) / (1 - r) ** 4 / speed, of_number_inside(speed), "number inside"
        else:
            exact, measure, what = r * (2 + 5 * r - 4 * r**2 + r**3) / (1 - r) ** 4 / speed**2, of_waits(speed), "waits"
        found.append(Control(f"asymptotic variance of {what} of a twin of speed {speed:g}", measure, exact))
    return tuple(found)
