"""Control variates: what a run measures besides, of which theory knows the mean.

What chance did to a run shows in its realised mean service time, in its realised gaps, and best in a *twin*: a single
first-come-first-served server fed with the arrivals and the work of the very same run, at another speed. The twin's
mean wait is known (Pollaczek-Khinchine, GI/M/1), so the part of an estimate's error that the twin shares can be
taken away. A wrong input cannot hide in its control: the tests ask every control for its known mean too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import exp

import numpy as np
from scipy.optimize import brentq
from scipy.stats import poisson

from tests.theory.sample import Array, Measure, Sample, seen


@dataclass(frozen=True)
class Control:
    """A measure, and its exact mean."""

    name: str
    measure: Measure
    mean: float


def gap(rate_rps: float) -> Control:
    """Return the mean time between arrivals."""
    return Control("mean gap", lambda s: float(np.diff(s.arrival)[s.skip :].mean()), 1 / rate_rps)


def work(mean_s: float) -> Control:
    """Return the mean service time of those who were served."""
    return Control("mean work", lambda s: float(s.work[s.skip :][s.completed[s.skip :]].mean()), mean_s)


def load(duration_s: float, load: float, classes: int | None = None) -> Control:
    """Return work offered per second by the first `classes` classes in a run whose arrivals stop at `duration_s`."""

    def measure(sample: Sample) -> float:
        wanted = sample.class_index < (np.inf if classes is None else classes)
        return float(sample.work[wanted].sum() / duration_s)

    return Control(f"load of {classes or 'all'} classes", measure, load)


def twin(
    mean_wait_s: float, speed: float, service: Callable[[Sample], Array] | None = None, square: float | None = None
) -> Control:
    """Return the mean wait of the twin at `speed`, or with `square` its mean square; `service` replaces the work."""

    def measure(sample: Sample) -> float:
        seconds = sample.work if service is None else service(sample)
        waits = sample.twin_wait(seconds / speed)[sample.skip :]
        return float(waits.mean() if square is None else np.square(waits).mean())

    if square is None:
        return Control(f"wait of a twin of speed {speed:g}", measure, mean_wait_s)
    return Control(f"squared wait of a twin of speed {speed:g}", measure, square)


def twins(rate_rps: float, moments: tuple[float, float, float], speed: float) -> tuple[Control, Control]:
    """Return the twin's mean wait and mean square for Poisson arrivals and E[S], E[S^2], E[S^3]."""
    first, second = mg1_wait(rate_rps, moments, speed)
    return twin(first, speed), twin(first, speed, square=second)


def constant(seconds: float) -> Callable[[Sample], Array]:
    """Return a twin's service where the run's is unknown for those it rejects: all alike."""
    return lambda sample: np.full(len(sample.arrival), seconds)


def of_class(index: int) -> Callable[[Sample], Array]:
    """Return a twin's service that does only the work of the classes up to `index`; the others pass through."""
    return lambda sample: np.where(sample.class_index <= index, sample.work, 0.0)


def replica_twin(mean_wait_s: float, speed: float) -> Control:
    """Return the mean wait of one twin per replica, each with that replica's own requests."""

    def measure(sample: Sample) -> float:
        waits = []
        for replica in np.unique(sample.replica):
            (mine,) = np.nonzero(sample.replica == replica)
            steps = sample.work[mine][:-1] / speed - np.diff(sample.arrival[mine])
            walk = np.concatenate([[0.0], np.cumsum(steps)])
            waits.append((walk - np.minimum.accumulate(np.minimum(walk, 0.0)))[mine >= sample.skip])
        return float(np.concatenate(waits).mean())

    return Control(f"wait of each replica's twin of speed {speed:g}", measure, mean_wait_s)


def occupancy(offered: float, power: int) -> Control:
    """Return a moment of the number inside that arrivals see where nobody waits: Poisson with mean `offered`."""
    exact = float(poisson(offered).moment(power))
    return Control(f"seen^{power}", lambda s: float((seen(s) ** power).mean()), exact)


def crowded(offered: float, hold_s: float, servers: int) -> Control:
    """Return how often arrivals would see `servers` or more if nobody was rejected and all stayed `hold_s`."""

    def measure(sample: Sample) -> float:
        inside = np.arange(len(sample.arrival)) - np.searchsorted(sample.arrival, sample.arrival - hold_s)
        return float((inside[sample.skip :] >= servers).mean())

    return Control("twin without limit is full", measure, float(poisson(offered).sf(servers - 1)))


Moments = tuple[float, float, float]


def mg1_wait(rate_rps: float, moments: Moments, speed: float = 1.0) -> tuple[float, float]:
    """Return E[W] and E[W^2] of M/G/1 (Pollaczek-Khinchine; Takacs 1962) at `speed`, from moments of the work."""
    first, second, third = (m / speed ** (i + 1) for i, m in enumerate(moments))
    wait = rate_rps * second / (2 * (1 - rate_rps * first))
    return wait, 2 * wait**2 + rate_rps * third / (3 * (1 - rate_rps * first))


def gim1_wait(transform: Callable[[float], float], mean_s: float) -> float:
    """Return E[W] of GI/M/1 from the transform of the gaps: s = transform((1 - s) / E[S]); Kleinrock vol. 1."""
    root = brentq(lambda s: transform((1 - s) / mean_s) - s, 1e-9, 1 - 1e-6)
    return float(root * mean_s / (1 - root))


def gamma_gaps(rate_rps: float, shape: float) -> Callable[[float], float]:
    """Return the transform of gamma gaps."""
    return lambda x: (1 + x / (shape * rate_rps)) ** -shape


def constant_gaps(rate_rps: float) -> Callable[[float], float]:
    """Return the transform of constant gaps."""
    return lambda x: exp(-x / rate_rps)


def exponential(mean_s: float) -> Moments:
    """Return three moments."""
    return mean_s, 2 * mean_s**2, 6 * mean_s**3


def fixed(mean_s: float) -> Moments:
    """Return three moments."""
    return mean_s, mean_s**2, mean_s**3


def erlang(mean_s: float, phases: int) -> Moments:
    """Return three moments."""
    phase = mean_s / phases
    return mean_s, phases * (phases + 1) * phase**2, phases * (phases + 1) * (phases + 2) * phase**3


def hyperexponential(mean_s: float, scv: float) -> Moments:
    """Return three moments of two exponentials with balanced means."""
    often = (1 + ((scv - 1) / (scv + 1)) ** 0.5) / 2
    branches = [(p, mean_s / (2 * p)) for p in (often, 1 - often)]
    return mean_s, sum(2 * p * m**2 for p, m in branches), sum(6 * p * m**3 for p, m in branches)


def geometric(mean_tokens: float, token_s: float) -> Moments:
    """Return three moments of tokens 1, 2, ... that take `token_s` each."""
    p = 1 / mean_tokens
    second, third = (2 - p) / p**2, (6 - 6 * p + p**2) / p**3
    return token_s / p, second * token_s**2, third * token_s**3
