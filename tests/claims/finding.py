"""A figure with its interval, what is asked of it, and what follows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from scipy.special import stdtrit

from servesim.experiment.planning.decide import share_interval
from servesim.metrics.contrasts import Values, mean, quantile, variance
from servesim.metrics.intervals import CONFIDENCE
from tests.claims.lab import Load, Runs


class Answer(StrEnum):
    """Whether what is asked of a figure is so."""

    YES = "yes"
    NO = "no"
    OPEN = "open"


@dataclass(frozen=True)
class Interval:
    """A figure with its interval; `reason` says why there is none."""

    value: float
    low: float
    high: float
    reason: str = ""


@dataclass(frozen=True)
class Band:
    """What is asked: at least `low`, at most `high`."""

    low: float = -math.inf
    high: float = math.inf

    def answer(self, interval: Interval) -> Answer:
        """Return yes if the whole interval lies within, no if all of it lies outside, else open."""
        if interval.reason or math.isnan(interval.low) or math.isnan(interval.high):
            return Answer.OPEN
        if self.low <= interval.low and interval.high <= self.high:
            return Answer.YES
        return Answer.NO if interval.high < self.low or interval.low > self.high else Answer.OPEN


class Figure(Protocol):
    """A figure that knows its interval at any level, and by which factor wrong service times could move it."""

    def interval(self, level: float) -> Interval:
        """Return the interval that misses with probability `level`."""

    @property
    def stretch(self) -> float:
        """Return the factor by which the error of the service times could move it, either way."""


@dataclass(frozen=True)
class Ratio:
    """A metric of `b` over that of `a`, paired by replication; `of_a` where it has another name there."""

    a: Runs
    b: Runs
    metric: str
    of_a: str = ""
    whole_run: bool = False  # a day has an end, so that a backlog in it is no reason to refuse

    def interval(self, level: float) -> Interval:
        """Return the interval of the ratio of means, by Student on paired contrasts."""
        values = Values(self.a.values(self.of_a or self.metric), self.b.values(self.metric), paired=True)
        refusal = "" if self.whole_run else self.a.refusal(self.of_a or self.metric) or self.b.refusal(self.metric)
        found = values.relative_interval(level)
        if refusal or found is None or math.isnan(found[0]):
            return Interval(1 + (values.relative or math.nan), math.nan, math.nan, refusal or "not defined")
        assert values.relative is not None
        return Interval(1 + values.relative, max(1 + found[0], 0.0), 1 + found[1])  # no metric is negative

    @property
    def stretch(self) -> float:
        """Both sides wrong in opposite ways."""
        return (1 + max(self.a.error, self.b.error)) / (1 - max(self.a.error, self.b.error))


@dataclass(frozen=True)
class RatioOfRises:
    """How much more the metric `b` rises from the point `calm` to the point `busy` than `a`: a ratio of ratios."""

    calm: Runs
    busy: Runs
    a: str
    b: str
    by_part: bool = True  # errors of the same times on all four sides cancel; those of two sizes of a batch do not

    def interval(self, level: float) -> Interval:
        """Return Student's interval of the mean of its logarithm over replications."""
        for runs, metric in ((self.calm, self.a), (self.calm, self.b), (self.busy, self.a), (self.busy, self.b)):
            if refusal := runs.refusal(metric):
                return Interval(math.nan, math.nan, math.nan, refusal)
        columns = [
            self.busy.values(self.b),
            self.calm.values(self.b),
            self.busy.values(self.a),
            self.calm.values(self.a),
        ]
        logs = [math.log(bb / cb / (ba / ca)) for bb, cb, ba, ca in zip(*columns, strict=True)]
        return _of_logs(mean(logs), math.sqrt(variance(logs) / len(logs)), len(logs) - 1, level)

    @property
    def stretch(self) -> float:
        """Nothing, or both sides wrong in opposite ways, once for each metric."""
        error = 0.0 if self.by_part else max(self.calm.error, self.busy.error)
        return ((1 + error) / (1 - error)) ** 2


@dataclass(frozen=True)
class Attainment:
    """The share of offered requests of a class that meet their target."""

    runs: Runs
    name: str

    def interval(self, level: float) -> Interval:
        """Return Wilson's interval with the design effect of replications, as plans use it."""
        seen = self.runs.observations
        worth = sorted(one.correlation[self.name] for one in seen)[len(seen) // 2]
        offered, good = [one.offered[self.name] for one in seen], [one.good[self.name] for one in seen]
        return Interval(*share_interval(good, offered, level / 2, worth))

    @property
    def stretch(self) -> float:
        """Not known: a share is not in proportion to time."""
        return 1.0


@dataclass(frozen=True)
class RatioOfLoads:
    """The largest load of `b` over that of `a`."""

    a: Load
    b: Load

    def interval(self, level: float) -> Interval:
        """Return the interval of the ratio, as if both were independent: that they share their requests narrows it."""
        if not self.b.found.factor > 0:  # holds at no load
            return Interval(0.0, 0.0, 0.0) if self.a.found.factor > 0 else _undefined(self.b)
        if self.a.found.reason or self.b.found.reason:
            return _undefined(self.a if self.a.found.reason else self.b)
        middle = math.log(self.b.found.factor * self.b.rate_rps / (self.a.found.factor * self.a.rate_rps))
        error = math.hypot(_log_error(self.a), _log_error(self.b))
        return _of_logs(middle, error, min(self.a.replications, self.b.replications) - 1, level)

    @property
    def stretch(self) -> float:
        """As of ratios: a load within a target is nearly in proportion to speed."""
        return (1 + max(self.a.error, self.b.error)) / (1 - max(self.a.error, self.b.error))


@dataclass(frozen=True)
class ShareOfMost:
    """The largest load within a target over the most that the GPU does with a backlog."""

    load: Load
    backlog: Runs

    def interval(self, level: float) -> Interval:
        """Return the interval of the ratio, as if both were independent."""
        if self.load.found.reason:
            return Interval(0.0, 0.0, 0.0) if not self.load.found.factor > 0 else _undefined(self.load)
        logs = [math.log(value) for value in self.backlog.values("request_throughput_rps")]
        error = math.hypot(_log_error(self.load), math.sqrt(variance(logs) / len(logs)))
        middle = math.log(self.load.found.factor * self.load.rate_rps) - mean(logs)
        return _of_logs(middle, error, min(self.load.replications, len(logs)) - 1, level)

    @property
    def stretch(self) -> float:
        """Errors of the same service times are on both sides; as far as they are in proportion they cancel."""
        return 1.0


@dataclass(frozen=True)
class Inverse:
    """One over a figure."""

    of: Figure

    def interval(self, level: float) -> Interval:
        """Return the interval turned over."""
        found = self.of.interval(level)
        if found.reason or not found.low > 0:
            return Interval(math.inf, math.inf, math.inf) if found.high == 0 else found
        return Interval(1 / found.value, 1 / found.high, 1 / found.low)

    @property
    def stretch(self) -> float:
        """That of the figure."""
        return self.of.stretch


@dataclass(frozen=True)
class Sure:
    """A figure whose interval was found elsewhere, at its own level; `hangs`: so was that service times decide it."""

    value: float
    low: float
    high: float
    hangs: bool = False

    def interval(self, level: float) -> Interval:
        """Return it."""
        return Interval(self.value, self.low, self.high)

    @property
    def stretch(self) -> float:
        """Anything, or nothing."""
        return math.inf if self.hangs else 1.0


def _undefined(load: Load) -> Interval:
    return Interval(math.nan, math.nan, math.nan, load.found.reason)


def _log_error(load: Load) -> float:
    """Return the standard error of the logarithm of a largest load, from its 95 % interval."""
    half = math.log(load.found.high / load.found.factor)
    return half / float(stdtrit(load.replications - 1, 0.5 + CONFIDENCE / 2))


def _of_logs(middle: float, error: float, degrees: int, level: float) -> Interval:
    half = quantile(degrees, level / 2) * error
    return Interval(math.exp(middle), math.exp(middle - half), math.exp(middle + half))


@dataclass(frozen=True)
class Finding:
    """What is measured (`what`) under which condition (`series`, `case`), and the band in which the claim wants it."""

    series: str
    case: str
    what: str
    figure: Figure
    band: Band
    percent: bool = False

    @property
    def where(self) -> tuple[str, str]:
        """The condition."""
        return self.series, self.case


@dataclass(frozen=True)
class Judged:
    """A finding with its interval and answer; `hangs`: the error of the service times could change the answer."""

    finding: Finding
    interval: Interval
    answer: Answer
    hangs: bool


def judge(findings: Sequence[Finding]) -> list[Judged]:
    """Return all findings with intervals that hold together with 95 % confidence (Bonferroni)."""
    level = (1 - CONFIDENCE) / len(findings)
    return [_judged(one, one.figure.interval(level)) for one in findings]


def _judged(finding: Finding, interval: Interval) -> Judged:
    answer, stretch = finding.band.answer(interval), finding.figure.stretch
    wide = Interval(interval.value, interval.low / stretch, interval.high * stretch, interval.reason)
    return Judged(finding, interval, answer, answer != finding.band.answer(wide))
