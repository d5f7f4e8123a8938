"""The summary of a run as tables for a terminal."""

from __future__ import annotations

import re
from textwrap import wrap
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from servesim.report.grids import Grid, changes_grid, grids
from servesim.report.intervals import interval_grid, interval_lines, runs_words
from servesim.report.validation import validation_lines

_NAME_COLUMNS = 26
_UNIT = re.compile(r"(\d) (%|ms|s)(?!\w)")


def print_summary(summary: dict[str, Any], console: Console) -> None:
    """Print a summary, with `why.words` where it has them; needs 80 columns and no colour."""
    console.print(f"[bold]{escape(summary['scenario'])}[/bold], {runs_words(summary)}", highlight=False)
    sure = interval_grid(summary)
    for grid in (*grids(summary), *([sure] if sure.rows else [])):
        console.print()
        console.print(rich_table(grid))
    console.print()
    for line in (*interval_lines(summary), *validation_lines(summary)):
        print_paragraph(console, line, style="dim")
    why = summary.get("why", {})
    if tried := why.get("changes"):
        console.print()
        console.print(rich_table(changes_grid(tried)))
    if words := why.get("words"):
        console.print()
        if "replications" in summary:
            print_paragraph(console, "Of replication 0:", style="dim")
        for sentence in words:
            print_paragraph(console, sentence, start="- ")
    for warning in summary["warnings"]:
        print_paragraph(console, f"WARNING {warning}", style="bold yellow")


def print_paragraph(console: Console, text: str, start: str = "", style: str = "") -> None:
    """Print a paragraph in whole words; a number stays with its unit."""
    kept = _UNIT.sub("\\1\u00a0\\2", text)
    lines = wrap(start + kept, console.width, subsequent_indent=" " * len(start), break_on_hyphens=False)
    for line in lines:
        console.print(escape(line.replace("\u00a0", " ")), style=style, highlight=False, soft_wrap=True)


def rich_table(grid: Grid) -> Table:
    """Return a table for the terminal."""
    table = Table(box=None, pad_edge=False, padding=(0, 1 if grid.tight else 2, 0, 0), header_style="bold")
    # Of tight tables the words of the verdict give way, not the name of the metric.
    whole = grid.tight and all(len(row[0]) <= _NAME_COLUMNS for row in grid.rows)
    table.add_column(grid.headers[0], overflow="fold", no_wrap=whole)
    for header in grid.headers[1:]:
        gives_way = whole and header == grid.headers[-1]
        table.add_column(header, justify="right", no_wrap=not gives_way)
    for row in grid.rows:
        table.add_row(*map(escape, row))
    return table
