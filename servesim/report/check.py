"""What a check found, in words and tables: for a terminal, a job summary, a comment on a change."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from servesim.check.judge import IMPROVED, INCONCLUSIVE, OK, REGRESSION, SAME, Verdict
from servesim.check.report import Checked, Report
from servesim.report.compare import metric_value
from servesim.report.grids import Grid
from servesim.report.markdown import escaped, markdown_table
from servesim.report.numbers import change, listed, two_digits
from servesim.report.table import print_paragraph, rich_table

MARKS = {0: "PASSED", 3: "FAILED", 4: "OVERLOADED", 5: "INCONCLUSIVE"}
_ORDER = (REGRESSION, INCONCLUSIVE, IMPROVED, OK, SAME)


def print_report(report: Report, console: Console) -> None:
    """Print a report; needs 80 columns and no colour."""
    for one in report.scenarios:
        console.print(f"[bold]{MARKS[one.exit_code]}[/bold] {escape(one.key)}", highlight=False, soft_wrap=True)
        grid = verdict_grid(one)
        if grid.rows and not one.identical:
            console.print(rich_table(grid))
        for sentence in sentences(one, report):
            print_paragraph(console, sentence, start="- ")
        console.print()
    console.print(f"{report.verdict}: {count_words(report)}", highlight=False)


def report_markdown(report: Report) -> str:
    """Return a report as GitHub-flavoured Markdown, ending in a line break."""
    parts = [f"### servesim check: {report.verdict}", escaped(count_words(report))]
    for one in report.scenarios:
        parts.append(f"#### {MARKS[one.exit_code]} {escaped(one.key)}")
        parts.append("\n".join(f"- {escaped(sentence)}" for sentence in sentences(one, report)))
        grid = verdict_grid(one)
        if grid.rows and not one.identical:
            parts.append(markdown_table(grid))
    return "\n\n".join(parts) + "\n"


def verdict_grid(one: Checked) -> Grid:
    """Return one row for each metric, the worst first."""
    grid = Grid(("metric", "before", "now", "change", "interval (%)", "verdict"), tight=True)
    for verdict in sorted(one.verdicts, key=lambda verdict: _ORDER.index(verdict.status)):
        name = verdict.metric
        low, high = verdict.low, verdict.high
        cells = (metric_value(name, verdict.before), metric_value(name, verdict.now), change(verdict.relative))
        interval = "-" if low is None or high is None else f"{100 * low:+.1f} to {100 * high:+.1f}"
        grid.rows.append((name, *cells, interval, verdict.status))
    return grid


def sentences(one: Checked, report: Report) -> list[str]:
    """Return what moved and how surely, why, which limits are missed, and what would have been found."""
    before = "the baseline" if report.against is None else report.against
    found = [f"REGRESSION {regression_words(verdict, report.level)}" for verdict in one.having(REGRESSION)]
    found += [f"{kept.limit}: MISSED, the mean is {metric_value(kept.metric, kept.value)}" for kept in one.missed]
    if one.newly_overloaded:
        found.append("OVERLOADED, which it was not: its numbers depend on how long a run lasts")
    if one.identical:
        equal = f"all {one.replications} replications are equal to the last digit"
        if not one.moved:
            equal = "replication 0 is equal to the last digit, and nothing that the others rest on changed"
        found.append(f"no change at all since {before}: {equal}")
    elif not one.verdicts:
        found.append(f"nothing to compare with {before}: no metric is defined there")
    else:
        found.append(_sure(one, before))
    if one.moved:
        found.append(f"changed since {before}: {listed(one.moved)}")
    elif not one.identical and one.paired:
        found.append(
            "nothing that is known to matter changed: look at the machine (floating point) and at what policies import"
        )
    if unsure := one.having(INCONCLUSIVE):
        notes = dict.fromkeys(verdict.note for verdict in unsure)
        found.append(f"INCONCLUSIVE {listed([verdict.metric for verdict in unsure])}: {listed(list(notes))}")
    if one.replications < one.asked and not one.identical:
        found.append(f"the budget ended it after {one.replications} of {one.asked} replications")
    return found


def regression_words(verdict: Verdict, level: float) -> str:
    """Return by how much a metric is worse, and how sure that is."""
    if verdict.now is None or verdict.p is None:
        return f"{verdict.metric}: {verdict.note}"
    values = f"{metric_value(verdict.metric, verdict.before)} to {metric_value(verdict.metric, verdict.now)}"
    size = "from nothing" if verdict.relative is None else change(verdict.relative)
    chance = "< 0.0001" if verdict.p < 1e-4 else f"{verdict.p:.4f}"
    limit = f"{100 * (verdict.threshold or 0):g} %"
    return (
        f"{verdict.metric} {values} ({size}; {limit} is allowed): p {chance}, below {level:g} in all metrics together"
    )


def _sure(one: Checked, before: str) -> str:
    pairs = "paired with" if one.paired else "independent of"
    start = f"{one.replications} replications, {pairs} those of {before}"
    if one.detectable is None:
        return start
    widest = max(
        (verdict for verdict in one.verdicts if verdict.detectable), key=lambda verdict: verdict.detectable or 0
    )
    return (
        f"{start}; the smallest change for the worse that they would show with 80 % probability in every metric: "
        f"{two_digits(one.detectable)} ({widest.metric})"
    )


def count_words(report: Report) -> str:
    """Return how many scenarios ended how."""
    total = len(report.scenarios)
    parts = []
    for code, mark in MARKS.items():
        if number := sum(one.exit_code == code for one in report.scenarios):
            parts.append(f"{number} {mark.lower()}")
    return f"{total} scenario{'s' if total > 1 else ''}: {listed(parts)}"
