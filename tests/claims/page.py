"""docs/claims.md, its pictures and verdicts.yaml, from the verdicts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import yaml

from tests.claims.cases import CLAIMS
from tests.claims.claim import Claim, Verdict
from tests.claims.finding import Answer, Band, Judged
from tests.claims.picture import draw
from tests.data import ROOT

PAGE = ROOT / "docs" / "claims.md"
PICTURES = ROOT / "docs" / "claims"
VERDICTS = Path(__file__).with_name("verdicts.yaml")
_HEAD = Path(__file__).with_name("page_head.md")


def write(verdicts: Mapping[str, Verdict]) -> None:
    """Write everything."""
    PICTURES.mkdir(exist_ok=True)
    for claim in CLAIMS:
        draw(claim, verdicts[claim.key], PICTURES / f"{claim.key}.png")
    PAGE.write_text(page(verdicts), encoding="utf-8")
    VERDICTS.write_text(recorded(verdicts), encoding="utf-8")


def recorded(verdicts: Mapping[str, Verdict]) -> str:
    """Return what the tests compare with: the answer of every condition of every claim."""
    found = {
        key: {": ".join(where): str(answer) for where, answer in verdict.conditions.items()}
        for key, verdict in verdicts.items()
    }
    begin = "# The answer under every condition of every claim. Written by `python -m tests.claims --write`.\n"
    # Quoted, since `yes` and `no` without quotes are truth values to many readers of YAML.
    return begin + yaml.dump(found, sort_keys=False, width=120, default_style=None, allow_unicode=True)


def page(verdicts: Mapping[str, Verdict]) -> str:
    """Return the whole page."""
    rows = "".join(f"| [{c.title}](#{_anchor(c.title)}) | {verdicts[c.key].headline} |\n" for c in CLAIMS)
    return _HEAD.read_text(encoding="utf-8") + rows + "".join(_section(claim, verdicts[claim.key]) for claim in CLAIMS)


def _anchor(title: str) -> str:
    return "".join(char for char in title.lower().replace(" ", "-") if char.isalnum() or char == "-")


def _section(claim: Claim, verdict: Verdict) -> str:
    files = ", ".join(f"[{name}](../scenarios/claims/{name}.yaml)" for name in claim.scenarios)
    lines = [
        f"\n## {claim.title}\n",
        f"> {claim.says}\n",
        f"**Measured as.** {claim.means} Scenarios: {files}.\n",
        f"**Verdict: {verdict.headline}.**\n",
    ]
    for answer, said in ((Answer.YES, "It holds for"), (Answer.NO, "It does not for"), (Answer.OPEN, "Open for")):
        if found := verdict.when(answer):
            lines.append(f"- {said} {found}.")
    lines += ["", f"![{claim.title}](claims/{claim.key}.png)\n", f"{claim.why}\n", *_table(verdict)]
    return "\n".join(lines) + "\n"


def _table(verdict: Verdict) -> list[str]:
    lines = ["| Condition | Figure | Value and interval | Asked | |", "|---|---|---:|---|---|"]
    for one in verdict.judged:
        finding, star = one.finding, " \\*" if one.hangs else ""
        where, asked = ": ".join(finding.where), _band(finding.band, finding.percent)
        lines.append(f"| {where} | {finding.what} | {figure_text(one)} | {asked} | {one.answer}{star} |")
    return lines


def figure_text(one: Judged) -> str:
    """Return a figure with its interval; one without chance has none, one without interval its reason."""
    interval, percent = one.interval, one.finding.percent
    if interval.reason:
        return f"no interval: {interval.reason}"
    if interval.low == interval.high:
        return number(interval.value, percent)
    return f"{number(interval.value, percent)} ({number(interval.low, percent)} to {number(interval.high, percent)})"


def number(value: float, percent: bool) -> str:
    """Return a number with three digits."""
    if math.isinf(value):
        return "without bound"
    if percent:
        return f"{100 * value:.1f} %"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:#.3g}".rstrip(".")


def _band(band: Band, percent: bool) -> str:
    low, high = ("" if math.isinf(v) else f"{100 * v:g} %" if percent else f"{v:g}" for v in (band.low, band.high))
    return f"{low} to {high}" if low and high else f"at least {low}" if low else f"at most {high}"
