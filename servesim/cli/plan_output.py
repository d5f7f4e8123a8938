"""What `servesim plan` prints and writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from servesim.errors import InputError, Problem

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from servesim.report.answer import Answer

FILES = frozenset({"plan.json", "plan.md", "plan.png", "report.html"})  # the last by `servesim report`


@dataclass(frozen=True)
class Outcome:
    """An answer as plain data and as text, with what else goes into its folder: a picture, and files by name.

    `met` is False where the answer is that the SLO cannot be met.
    """

    found: dict[str, Any]
    answer: Answer
    picture: Callable[[Figure], bool]
    files: dict[str, str] = field(default_factory=dict)
    met: bool = True


def checked_folder(directory: Path, *, force: bool) -> Path:
    """Return where a plan is to be written: a new or empty folder, or one that holds nothing but a plan."""
    from servesim.cli.output import checked_target

    def ours(entry: Path) -> bool:
        return entry.name in FILES or (entry.name.startswith("values") and entry.suffix == ".yaml")

    target = directory.resolve()
    if target.is_dir() and not force and (strange := [entry.name for entry in target.iterdir() if not ours(entry)]):
        raise InputError(Problem(f"-o {directory}: holds {min(strange)!r}, which is no plan; --force deletes it all"))
    return checked_target(directory, force=True) if target.is_dir() else checked_target(directory, force=force)


def show(outcome: Outcome, style: str) -> None:
    """Print an answer as `style`: table, json or markdown."""
    if style == "json":
        click.echo(json.dumps(outcome.found, indent=2, allow_nan=False))
        return
    from servesim.report.answer import answer_markdown, print_answer

    if style == "markdown":
        click.echo(answer_markdown(outcome.answer), nl=False)
        return
    from rich.console import Console

    print_answer(outcome.answer, Console())


def write(outcome: Outcome, target: Path) -> None:
    """Write plan.json, plan.md, plan.png and the other files, moved into place together at the end."""
    from servesim.experiment.whole_folder import whole_folder
    from servesim.report.answer import answer_markdown
    from servesim.report.pictures import save_picture

    with whole_folder(target) as work:
        text = json.dumps(outcome.found, indent=2, allow_nan=False)
        (work / "plan.json").write_text(text + "\n", encoding="utf-8")
        (work / "plan.md").write_text(answer_markdown(outcome.answer), encoding="utf-8")
        save_picture(outcome.picture, work / "plan.png")
        for name, content in outcome.files.items():
            (work / name).write_text(content, encoding="utf-8")
