"""Words and tables for a study: measured against simulated, on a terminal or as Markdown."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from servesim.report.grids import Grid
from servesim.report.markdown import escaped, markdown_table
from servesim.report.numbers import number, seconds
from servesim.report.table import print_paragraph, rich_table
from servesim.validation.study import Study

# Of assumptions that close less of the gap than this nothing is said but that they do not explain it.
LEAST_CLOSED = 0.1


def print_study(study: Study, console: Console) -> None:
    """Print the tables and sentences of a study."""
    console.print(f"[bold]{escape(study.name)}[/bold]: measured against simulated", highlight=False)
    for grid in grids(study):
        console.print()
        console.print(rich_table(grid))
    console.print()
    for sentence in sentences(study):
        print_paragraph(console, sentence)
    for warning in study.warnings:
        print_paragraph(console, f"note: {warning}", style="dim")


def study_markdown(study: Study) -> str:
    """Return a study as GitHub-flavoured Markdown, ending in a line break."""
    parts = [f"### {escaped(study.name)}: measured against simulated"]
    parts += [markdown_table(grid) for grid in grids(study)]
    parts += [escaped(sentence) for sentence in (*sentences(study), *study.warnings)]
    return "\n\n".join(parts) + "\n"


def grids(study: Study) -> list[Grid]:
    """Return the table of errors, and that of assumptions where they were tried."""
    found = [_errors(study)] if study.within_noise else [_errors(study), _assumptions(study)]
    return [grid for grid in found if grid.rows]


def _errors(study: Study) -> Grid:
    grid = Grid(("statistic", "measured", "simulated", "error", "own noise"))
    for row in study.rows:
        text = seconds if "_s." in row.metric else number
        noise = "-" if row.noise is None else f"± {100 * row.noise:.1f} %"
        grid.rows.append((row.metric, text(row.measured), text(row.simulated), f"{100 * row.error:+.1f} %", noise))
    return grid


def _assumptions(study: Study) -> Grid:
    grid = Grid(("one thing changed", "to", "error left", "closes"), tight=True)
    for one in study.explanations:
        closed = f"{100 * one.closed:.0f} %" if one.closed > 0 else "nothing"
        grid.rows.append((one.assumption, one.value, f"{100 * one.left:.1f} %", closed))
    return grid


def sentences(study: Study) -> list[str]:
    """Return what the study says in words."""
    found = []
    if study.per_request:
        each = ", ".join(f"{name.removesuffix('_s').upper()} {100 * e:.1f} %" for name, e in study.per_request.items())
        found.append(f"Each request against itself, median error: {each}.")
    if (worst := study.worst) is not None:
        beside = "" if worst.noise is None else f", the measurement's own noise there is {100 * worst.noise:.1f} %"
        found.append(f"Furthest off: {worst.metric}, by {100 * worst.error:+.1f} %{beside}.")
    if study.explanations and study.within_noise:
        found.append("Every mean, p50 and p99 is within twice the measurement's own noise: no gap is left to explain.")
    elif study.explanations:
        best = study.explanations[0]
        if best.closed < LEAST_CLOSED:
            found.append("No single assumption explains the gap.")
        else:
            found.append(
                f"What explains the gap best: {best.assumption} ({best.value}) closes {100 * best.closed:.0f} % of it. "
                "Measure it before you believe it: several assumptions can close the same gap."
            )
    return found
