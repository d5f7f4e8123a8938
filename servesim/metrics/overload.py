"""Telling a system that fills up without end from one that merely fluctuates, whatever the order of service.

Looked at: the open-loop requests of a pool between their first and their last arrival (afterwards every system drains).
N(t) is the number in the system: arrived and not yet ended, in whichever way. Under a load above 1 it grows in
proportion to time under every order of service, whether the backlog waits or runs in an ever larger batch. An order
that starves long requests lets it grow by few but long ones, so a second level counts each request that still waits by
the time it will be served, relative to the mean: what waits is then the same under every order that wastes no time.

A level says "overloaded" if, over the arrival window of length T, all of these hold:

1. It rose high: its value at T minus its lowest since T/16 reaches a bar. For a stable single server (M/M/1) at load r
   the chance of n or more is about r**n, and a sum of n random steps grows as sqrt(n): the bar is max(50, 1.1 sqrt(n)).
   It grows with burstiness b, the mean index of dispersion of arrivals and departures, after Kingman, "The single
   server queue in heavy traffic", Proc. Cambridge Phil. Soc. 57(4), 1961: not by b but by 1.2 b - 0.4 where that is
   above 1, because b, estimated from 128 bins, scatters by a tenth.
2. It is still rising: its mean over the last quarter is at least 1.2 times its mean between 3/16 T and 3/8 T. In
   proportion to time it would be 3.1 times; a large stable batch fluctuates by less.
3. Departures keep a steady pace: at most 1.2 times as many in the second half of T as in the first. In proportion to
   time they would be equal; an empty system filling with requests that stay longer than about T/8 looks different,
   since departures have only begun. Such a run is too short to tell. Where few leave, so that chance blurs this, two
   standard deviations more are allowed if the level rose 2.2 instead of 1.2 times and 25 left in the first half, or
   most of those inside at T wait. If nothing left in the second half, most must wait too: a long service time alone is
   no overload.

Clients that give up keep the system from growing, so those are a warning of their own. Attempts count one by one here,
since each of them is load.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from servesim.metrics.definitions import Floats
from servesim.metrics.record import PoolRecord, RunRecord
from servesim.request import ABANDONED, COMPLETED, TIMED_OUT

_BINS = 128
_LEAST_RISE = 50.0
_RISE_PER_ROOT = 1.1
_STILL_RISING = 1.2
_RISING_STEEPLY = 2.2
_STEADY = 1.2
_DEVIATIONS = 2.0
_ENOUGH_LEFT = 25
# Iterations let many requests go at once; that is no reason to wait for hundreds of times the usual rise.
_MOST_DEPARTURE_BURST = 4.0
_GAVE_UP_SHARE = 0.05
_LEAST_GAVE_UP = 5


@dataclass(frozen=True, slots=True)
class Requests:
    """When some requests arrived, were first scheduled (NaN: never), and ended, in seconds; and how they ended.

    All of shape (n,), in any order.
    """

    arrival_s: Floats
    scheduled_s: Floats
    finish_s: Floats
    outcome: Floats

    def where(self, keep: NDArray[np.bool_]) -> Requests:
        """Return those marked in `keep`, shape (n,)."""
        return Requests(self.arrival_s[keep], self.scheduled_s[keep], self.finish_s[keep], self.outcome[keep])


@dataclass(frozen=True, slots=True)
class Overload:
    """An overloaded pool, or classes of one: rates over the second half of the arrival window, and the growth.

    `inside_before` requests were in the system at a quarter of the window and `inside_after` at its end. `classes` are
    named where the others of the pool do not grow.
    """

    pool: str
    offered_rps: float
    completed_rps: float
    inside_before: int
    inside_after: int
    classes: tuple[str, ...] = ()

    def __str__(self) -> str:
        completed = f"{self.completed_rps:.4g} requests/s" if self.completed_rps else "none"
        names = ", ".join(self.classes)
        return (
            f"pool {self.pool} is overloaded{' for ' + names if names else ''}: offered {self.offered_rps:.4g} "
            f"requests/s, completed {completed} over the second half of the arrivals, the number in the system grew "
            f"from {self.inside_before} to {self.inside_after}; latencies depend on how long the run lasts"
        )


def overload_signs(record: RunRecord) -> tuple[list[Overload], list[str]]:
    """Return the pools in which ever more requests stay, and a sentence for each whose clients give up."""
    open_loops = _open_loops(record)
    gave_up = [text for pool, parts in open_loops if (text := _gave_up(pool, _joined(parts)))]
    return [found for pool, parts in open_loops if (found := _overload(pool, parts))], gave_up


def overload_warnings(record: RunRecord) -> list[str]:
    """Return one sentence for each overloaded pool, and one for each whose clients give up; empty if there is none."""
    growing, gave_up = overload_signs(record)
    return [*map(str, growing), *gave_up]


def overloads(record: RunRecord) -> list[Overload]:
    """Return the pools in which ever more requests stay."""
    return [found for pool, parts in _open_loops(record) if (found := _overload(pool, parts))]


def _open_loops(record: RunRecord) -> list[tuple[PoolRecord, dict[str, Requests]]]:
    """Return each pool with the requests of its open-loop classes, leaving out what never arrived."""
    names = ("class_index", "arrival_s", "first_scheduled_s", "finish_s", "outcome")
    class_index, *columns = record.requests.column(*names)
    every = Requests(*columns)
    found = []
    for pool in record.pools:
        ours = [i for i, one in enumerate(record.classes) if one.open_loop and one.pool == pool.name]
        parts = {record.classes[i].name: every.where(class_index == i) for i in ours}
        parts = {name: part for name, part in parts.items() if len(part.arrival_s)}
        if parts:
            found.append((pool, parts))
    return found


def _joined(parts: dict[str, Requests]) -> Requests:
    if len(parts) == 1:
        return next(iter(parts.values()))
    each = [(part.arrival_s, part.scheduled_s, part.finish_s, part.outcome) for part in parts.values()]
    return Requests(*(np.concatenate(column) for column in zip(*each, strict=True)))


def _overload(pool: PoolRecord, parts: dict[str, Requests]) -> Overload | None:
    """Look at the pool as a whole and, since a priority may starve one class alone, at each class."""
    whole = _joined(parts)
    growing = [name for name, part in parts.items() if len(parts) > 1 and grows(part)]
    if not growing and not grows(whole):
        return None
    some = tuple(growing) if len(growing) < len(parts) else ()
    seen = _joined({name: parts[name] for name in some}) if some else whole
    first, last = float(seen.arrival_s.min()), float(seen.arrival_s.max())
    middle_s, half_s = 0.5 * (first + last), 0.5 * (last - first)
    completed = (seen.outcome == COMPLETED) & (seen.finish_s > middle_s) & (seen.finish_s <= last)
    return Overload(
        pool.name,
        float(np.count_nonzero(seen.arrival_s > middle_s)) / half_s,
        float(np.count_nonzero(completed)) / half_s,
        _inside(seen, first + 0.5 * half_s),
        _inside(seen, last),
        some,
    )


def _inside(requests: Requests, at_s: float) -> int:
    return int(np.count_nonzero((requests.arrival_s <= at_s) & (requests.finish_s > at_s)))


def grows(requests: Requests) -> bool:
    """Say whether the number in the system grew in proportion to time; see the module for the rule."""
    arrival_s, finish_s = requests.arrival_s, requests.finish_s
    if len(arrival_s) < _LEAST_RISE:
        return False
    first, last = float(arrival_s.min()), float(arrival_s.max())
    if last <= first:
        return False
    arrivals = _counts(_bins(arrival_s, first, last))
    departures = _counts(_bins(finish_s, first, last))
    factor = _least_factor(requests, departures, last)
    if factor is None:
        return False
    burst = 0.5 * (_dispersion(arrivals) + min(_dispersion(departures), _MOST_DEPARTURE_BURST))
    bar = max(_LEAST_RISE, _RISE_PER_ROOT * sqrt(len(arrival_s))) * max(1.0, 1.2 * burst - 0.4)
    inside = np.cumsum(arrivals - departures)
    return _rises(inside, bar, factor) or _rises(inside + _longer_waiting(requests, first, last), bar, factor)


def _least_factor(requests: Requests, departures: Floats, last: float) -> float | None:
    """Return the factor by which a level has to rise, given `departures` of shape (_BINS,); None if they only began."""
    before, after = float(departures[: _BINS // 2].sum()), float(departures[_BINS // 2 :].sum())
    inside = requests.finish_s > last
    most_wait = bool(2 * np.count_nonzero(inside & ~(requests.scheduled_s <= last)) > np.count_nonzero(inside))
    if not after:
        return _STILL_RISING if most_wait else None
    if after <= _STEADY * before:
        return _STILL_RISING
    blurred = after <= _STEADY * before + _DEVIATIONS * sqrt(before) and (most_wait or before >= _ENOUGH_LEFT)
    return _RISING_STEEPLY if blurred else None


def _rises(level: Floats, bar: float, factor: float) -> bool:
    """Say whether a level, of shape (_BINS,), rose by at least `bar`, and by `factor` from early to late."""
    rise = level[-1] - level[_BINS // 16 :].min()
    early = level[3 * _BINS // 16 : 3 * _BINS // 8].mean()
    return bool(rise >= bar and level[-_BINS // 4 :].mean() >= factor * early)


def _longer_waiting(requests: Requests, first: float, last: float) -> Floats:
    """Return by how much those who wait at the end of each bin count more than one each, shape (_BINS,)."""
    in_service_s = requests.finish_s - requests.scheduled_s
    served = np.isfinite(in_service_s)
    mean_s = float(in_service_s[served].mean()) if served.any() else 0.0
    if mean_s <= 0:
        return np.zeros(_BINS)
    more = np.where(served, in_service_s / mean_s - 1, 0.0)
    until_s = np.where(served, requests.scheduled_s, requests.finish_s)
    waits = _counts(_bins(requests.arrival_s, first, last), more) - _counts(_bins(until_s, first, last), more)
    return np.cumsum(waits)


def _bins(times_s: Floats, first: float, last: float) -> NDArray[np.intp]:
    """Return each time's bin; what comes after `last` is in bin _BINS."""
    index = np.minimum((times_s - first) * (_BINS / (last - first)), _BINS - 1).astype(np.intp)
    index[times_s > last] = _BINS
    return index


def _counts(bins: NDArray[np.intp], weights: Floats | None = None) -> Floats:
    return np.bincount(bins, weights, _BINS + 1)[:_BINS].astype(np.float64)


def _dispersion(counts: Floats) -> float:
    """Return the variance of counts over their mean, from differences of neighbours: trends do not count; 0 of nothing.

    Source: J. von Neumann, "Distribution of the ratio of the mean square successive difference to the variance", Annals
    of Mathematical Statistics 12(4), 1941.
    """
    mean = float(counts.mean())
    return 0.5 * float(np.square(np.diff(counts)).mean()) / mean if mean else 0.0


def _gave_up(pool: PoolRecord, requests: Requests) -> str:
    """Return a sentence if too many of those that arrived in the second half gave up, else nothing."""
    middle_s = 0.5 * float(requests.arrival_s.min() + requests.arrival_s.max())
    late = requests.arrival_s >= middle_s
    outcome = requests.outcome[late]
    timed_out, abandoned = (int(np.count_nonzero(outcome == kind)) for kind in (TIMED_OUT, ABANDONED))
    share = (timed_out + abandoned) / max(1, len(outcome))
    if timed_out + abandoned < _LEAST_GAVE_UP or share <= _GAVE_UP_SHARE:
        return ""
    how = " or ".join(word for word, count in (("timed out", timed_out), ("were abandoned", abandoned)) if count)
    return (
        f"pool {pool.name} cannot serve what is offered while its clients wait: {100 * share:.3g} % of the requests "
        f"in the second half of the arrivals {how}, which keeps the number in the system down"
    )
