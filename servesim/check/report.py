"""What a check found, as data; servesim.report.check puts it into words."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from servesim.check.judge import IMPROVED, INCONCLUSIVE, REGRESSION, Verdict

FINE, WORSE, OVERLOADED, UNSURE = 0, 3, 4, 5


@dataclass(frozen=True, slots=True)
class Kept:
    """A limit on a metric, whether its mean over replications keeps it; `implied`: by the scenario's attainment."""

    limit: str
    kept: bool
    value: float | None
    metric: str
    implied: bool


@dataclass(frozen=True, slots=True)
class Checked:
    """One scenario. `moved` has in words what it rests on that changed.

    `identical`: every number of every replication is what it was; where nothing it rests on changed, one replication
    tells.
    """

    key: str
    name: str
    identical: bool
    paired: bool
    replications: int
    asked: int
    moved: list[str]
    verdicts: list[Verdict]
    assertions: list[Kept]
    overloaded: bool
    overloaded_before: bool
    cpu_s: float

    def having(self, status: str) -> list[Verdict]:
        """Return the metrics of a status."""
        return [one for one in self.verdicts if one.status == status]

    @property
    def missed(self) -> list[Kept]:
        """The limits that are not kept."""
        return [one for one in self.assertions if not one.kept]

    @property
    def newly_overloaded(self) -> bool:
        """True if it is overloaded and was not."""
        return self.overloaded and not self.overloaded_before

    @property
    def detectable(self) -> float | None:
        """The smallest change for the worse that would have been found in every metric; None where nothing moved."""
        known = [one.detectable for one in self.verdicts if one.detectable is not None]
        return max(known, default=None)

    @property
    def exit_code(self) -> int:
        """The exit code that this scenario alone would have."""
        if self.newly_overloaded:
            return OVERLOADED
        if self.having(REGRESSION) or self.missed:
            return WORSE
        return UNSURE if self.having(INCONCLUSIVE) else FINE


@dataclass(frozen=True, slots=True)
class Report:
    """Everything a check found. `against`: the git revision, None where it was a baseline."""

    against: str | None
    level: float
    scenarios: list[Checked]

    @property
    def exit_code(self) -> int:
        """0 fine, 3 a regression or a missed limit, 4 newly overloaded, 5 inconclusive; the first of 4, 3, 5, 0."""
        codes = {one.exit_code for one in self.scenarios}
        return next(code for code in (OVERLOADED, WORSE, UNSURE, FINE) if code in codes)

    @property
    def verdict(self) -> str:
        """The exit code in one word."""
        words = {FINE: "passed", WORSE: "failed", OVERLOADED: "overloaded", UNSURE: "inconclusive"}
        return words[self.exit_code]

    def plain(self) -> dict[str, Any]:
        """Return everything as plain data, ready for JSON."""
        return {
            "schema_version": 1,
            "verdict": self.verdict,
            "exit_code": self.exit_code,
            "against": self.against,
            "level": self.level,
            "scenarios": {one.key: _plain(one) for one in self.scenarios},
        }


def _plain(one: Checked) -> dict[str, Any]:
    found = asdict(one)
    del found["key"], found["cpu_s"]  # the second would differ from run to run
    found["verdicts"] = {verdict.metric: verdict.plain() for verdict in one.verdicts}
    return {
        **found,
        "regressions": [verdict.metric for verdict in one.having(REGRESSION)],
        "improvements": [verdict.metric for verdict in one.having(IMPROVED)],
        "smallest_detectable": one.detectable,
    }


def report_of(plain: dict[str, Any]) -> Report:
    """Return what `Report.plain` made plain data of, without the CPU time."""
    return Report(plain["against"], plain["level"], [_checked(key, one) for key, one in plain["scenarios"].items()])


def _checked(key: str, one: dict[str, Any]) -> Checked:
    known = {field.name: one[field.name] for field in fields(Checked) if field.name in one}
    known["verdicts"] = [Verdict(metric, **verdict) for metric, verdict in one["verdicts"].items()]
    known["assertions"] = [Kept(**kept) for kept in one["assertions"]]
    return Checked(key=key, cpu_s=0.0, **known)
