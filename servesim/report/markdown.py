"""The summary of a run as Markdown, for a job summary or an issue."""

from __future__ import annotations

import re
from typing import Any

from servesim.report.grids import Grid, changes_grid, grids
from servesim.report.intervals import interval_grid, interval_lines, runs_words
from servesim.report.validation import validation_lines

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")


def markdown(summary: dict[str, Any]) -> str:
    """Return the tables and sentences of `print_summary` as GitHub-flavoured Markdown, ending in a line break."""
    parts = [f"### {escaped(summary['scenario'])}, {runs_words(summary)}"]
    parts += [markdown_table(grid) for grid in (*grids(summary), interval_grid(summary)) if grid.rows]
    parts += [f"*{escaped(line)}*" for line in (*interval_lines(summary), *validation_lines(summary))]
    why = summary.get("why", {})
    if tried := why.get("changes"):
        parts.append(markdown_table(changes_grid(tried)))
    if words := why.get("words"):
        title = ["Of replication 0:", ""] if "replications" in summary else []
        parts.append("\n".join([*title, *(f"- {escaped(sentence)}" for sentence in words)]))
    parts += [f"**WARNING** {escaped(warning)}" for warning in summary["warnings"]]
    return "\n\n".join(parts) + "\n"


def markdown_table(grid: Grid) -> str:
    """Return a table of GitHub-flavoured Markdown."""
    rule = ("---", *("---:" for _ in grid.headers[1:]))
    rows = [tuple(map(escaped, row)) for row in (grid.headers, *grid.rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (rows[0], rule, *rows[1:]))


def escaped(text: str) -> str:
    """Return text whose special characters mean nothing."""
    return _SPECIAL.sub(r"\\\1", text)
