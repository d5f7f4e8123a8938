"""A claim, and the verdict on it: computed from findings, never written by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from tests.claims.finding import Answer, Finding, Judged, judge
from tests.claims.lab import Lab

Where = tuple[str, str]


@dataclass(frozen=True)
class Claim:
    """What is claimed, in the field's words; what it is taken to mean; and what to measure.

    `scenarios` are files in scenarios/claims. `why` explains what the figures show, not what the verdict is.
    """

    key: str
    title: str
    says: str
    means: str
    scenarios: tuple[str, ...]
    findings: Callable[[Lab], list[Finding]]
    why: str

    def verdict(self, lab: Lab) -> Verdict:
        """Measure and judge."""
        return Verdict(self.key, judge(self.findings(lab)))


@dataclass(frozen=True)
class Verdict:
    """All judged findings of a claim. A condition holds if all of its findings do; it fails if one surely fails."""

    key: str
    judged: Sequence[Judged] = field(repr=False)

    @cached_property
    def conditions(self) -> dict[Where, Answer]:
        """The answer under each condition, in order."""
        found: dict[Where, Answer] = {}
        for one in self.judged:
            found[one.finding.where] = _both(found.get(one.finding.where, Answer.YES), one.answer)
        return found

    @property
    def headline(self) -> str:
        """Say whether the claim is supported: everywhere tried, nowhere, or in how many conditions."""
        counts = {answer: list(self.conditions.values()).count(answer) for answer in Answer}
        total = len(self.conditions)
        if counts[Answer.YES] == total:
            return f"supported in all {total} conditions tried"
        if counts[Answer.NO] == total:
            return f"not supported in any of {total} conditions tried"
        if not counts[Answer.YES] and not counts[Answer.NO]:
            return f"open in all {total} conditions tried"
        if not counts[Answer.YES]:
            return f"not supported in {counts[Answer.NO]} of {total} conditions tried, open in {counts[Answer.OPEN]}"
        left = ", ".join(
            f"{said} in {counts[answer]}"
            for answer, said in ((Answer.NO, "not"), (Answer.OPEN, "open"))
            if counts[answer]
        )
        return f"holds in {counts[Answer.YES]} of {total} conditions tried, {left}"

    def when(self, answer: Answer) -> str:
        """Say under which conditions the answer is this one, cases of a series together; empty if under none."""
        by_series: dict[str, list[str]] = {}
        for (series, case), found in self.conditions.items():
            if found == answer:
                by_series.setdefault(series, []).append(case)
        return "; ".join(f"{series}: {', '.join(cases)}" for series, cases in by_series.items())

    @property
    def hangs(self) -> str:
        """Say in which conditions the error of the service times could change an answer."""
        found = dict.fromkeys(": ".join(one.finding.where) for one in self.judged if one.hangs)
        return "; ".join(found)


def _both(one: Answer, other: Answer) -> Answer:
    order = (Answer.NO, Answer.OPEN, Answer.YES)
    return min(one, other, key=order.index)
