"""An answer in tables, sentences and code, for a terminal and as Markdown."""

from __future__ import annotations

from dataclasses import dataclass, field

from rich.console import Console

from servesim.report.grids import Grid
from servesim.report.markdown import escaped, markdown_table
from servesim.report.table import print_paragraph, rich_table


@dataclass(frozen=True)
class Part:
    """One part of an answer, in this order: a heading, a table, sentences, code."""

    heading: str = ""
    grid: Grid | None = None
    sentences: list[str] = field(default_factory=list)
    code: str = ""


@dataclass(frozen=True)
class Answer:
    """What was asked, and the parts of the answer."""

    title: str
    parts: list[Part]


def print_answer(answer: Answer, console: Console) -> None:
    """Print an answer; needs 80 columns and no colour."""
    print_paragraph(console, answer.title, style="bold")
    for part in answer.parts:
        console.print()
        if part.heading:
            print_paragraph(console, f"{part.heading}:")
        if part.grid is not None:
            console.print(rich_table(part.grid))
        for sentence in part.sentences:
            print_paragraph(console, sentence, start="- ")
        for line in part.code.splitlines():
            console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)


def answer_markdown(answer: Answer) -> str:
    """Return an answer as GitHub-flavoured Markdown, ending in a line break."""
    found = [f"### {escaped(answer.title)}"]
    for part in answer.parts:
        if part.heading:
            found.append(f"**{escaped(part.heading)}**")
        if part.grid is not None:
            found.append(markdown_table(part.grid))
        if part.sentences:
            found.append("\n".join(f"- {escaped(sentence)}" for sentence in part.sentences))
        if part.code:
            found.append(f"```\n{part.code.rstrip()}\n```")
    return "\n\n".join(found) + "\n"
