"""The measured part of docs/mutants.md."""

from __future__ import annotations

from tests.data import ROOT
from tests.mutants.catalog import MUTANTS
from tests.mutants.model import Mechanical
from tests.mutants.workspace import Verdict

PAGE = ROOT / "docs" / "mutants.md"
BEGIN, END = "<!-- measured -->\n", "<!-- end -->"


def page(verdicts: dict[str, Verdict], took: str) -> str:
    """Return the figures and a table of who killed whom, in Markdown."""
    lines = []
    for kind, blind in (("deliberate", False), ("mechanical", True)):
        ours = [mutant.name for mutant in MUTANTS if isinstance(mutant, Mechanical) == blind]
        dead = sum(bool(verdicts[name].by) for name in ours)
        lines.append(f"- {kind}: {dead} of {len(ours)} killed")
    dead = sum(bool(verdict.by) for verdict in verdicts.values())
    lines += [f"- together: {dead} of {len(verdicts)}, {dead / len(verdicts):.1%} ({took})", ""]
    lines += ["| Mutant | Killed by |", "|---|---|"]
    lines += [f"| {mutant.name} | {_short(verdicts[mutant.name].by)} |" for mutant in MUTANTS]
    return "\n".join(lines) + "\n"


def _short(by: str) -> str:
    """Return the test's name without its folder; what a table cannot hold is replaced."""
    name = by.removeprefix("FAILED ").removeprefix("ERROR ").removeprefix("tests/").replace("|", "/")
    return f"`{name}`" if by else "**nobody**"


def write(text: str) -> None:
    """Put the figures between the marks of the page."""
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    PAGE.write_text(before + BEGIN + text + rest[rest.index(END) :], encoding="utf-8")
