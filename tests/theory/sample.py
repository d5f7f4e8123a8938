"""One run as arrays, and what is measured on them.

A `Sample` holds every request in order of arrival. Measures leave out the first `skip` of them: the run starts empty,
and forgets that as exp(-t / relaxation time).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from servesim.experiment.result import Result
from servesim.request import COMPLETED

Array = NDArray[np.float64]
Measure = Callable[["Sample"], float]


class Sample:
    """The requests of one run, shape (n,) each, in order of arrival. Times in seconds."""

    def __init__(self, result: Result, skip: int) -> None:
        names = ("request_id", "arrival_s", "first_scheduled_s", "finish_s", "preempted_s")
        whats = ("class_index", "replica", "outcome", "output_tokens")
        columns = result.record.requests.column(*names, *whats)
        order = np.argsort(columns[0])
        _, self.arrival, self.start, self.finish, self.preempted = (column[order] for column in columns[:5])
        self.class_index, self.replica, self.outcome, self.tokens = (column[order] for column in columns[5:])
        self.completed = self.outcome == COMPLETED
        self.skip = skip
        self.record = result.record
        self.result = result

    @cached_property
    def work(self) -> Array:
        """Seconds of service of each request; not defined for those that were rejected."""
        works = [replica.works for replica in self.record.pools[0].replicas if replica.works is not None]
        if not works:
            return self.finish - self.start - self.preempted
        numbers, seconds = (np.concatenate(part) for part in zip(*(w.column(*w.columns) for w in works), strict=True))
        return seconds[np.argsort(numbers)]

    @cached_property
    def wait(self) -> Array:
        """Seconds until first in service."""
        return self.start - self.arrival

    @cached_property
    def sojourn(self) -> Array:
        """Seconds until done."""
        return self.finish - self.arrival

    def kept(self, column: str, of_class: int | None = None) -> Array:
        """Return a column of the completed requests after the warm-up, of one class if asked."""
        wanted = self.completed[self.skip :]
        if of_class is not None:
            wanted = wanted & (self.class_index[self.skip :] == of_class)
        values: Array = getattr(self, column)[self.skip :][wanted]
        return values

    def twin_wait(self, service: Array) -> Array:
        """Return what each request would wait at a single server, first come first served (Lindley's recursion)."""
        steps = service[:-1] - np.diff(self.arrival)
        walk = np.concatenate([[0.0], np.cumsum(steps)])
        return walk - np.minimum.accumulate(np.minimum(walk, 0.0))


def mean(column: str, of_class: int | None = None) -> Measure:
    """Return the mean of a column."""
    return lambda sample: float(sample.kept(column, of_class).mean())


def share_above(column: str, value: float) -> Measure:
    """Return the share of requests above `value`."""
    return lambda sample: float((sample.kept(column) > value).mean())


def density_at(column: str, value: float, reach: float = 0.1) -> Measure:
    """Return the density at `value`, from the share of requests within a tenth of it on either side."""
    return lambda sample: float((np.abs(sample.kept(column) / value - 1) < reach).mean() / (2 * reach * value))


def blocked(sample: Sample) -> float:
    """Return the share of requests that found no room."""
    return float(1 - sample.completed[sample.skip :].mean())


def seen(sample: Sample) -> Array:
    """Return how many requests are inside when each one arrives, itself left out (arrivals of Poisson see averages)."""
    inside = np.arange(len(sample.arrival)) - np.searchsorted(np.sort(sample.finish), sample.arrival)
    return inside[sample.skip :].astype(float)


def throughput(sample: Sample) -> float:
    """Return completions per second after the warm-up."""
    finish = np.sort(sample.finish)
    return float((len(finish) - 1 - sample.skip) / (finish[-1] - finish[sample.skip]))
