"""One picture for each claim: every figure with its interval, and the band that the claim asks for."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from matplotlib.ticker import MaxNLocator, NullLocator

from servesim.report.pictures import save, styled_figure
from tests.claims.claim import Claim, Verdict
from tests.claims.finding import Answer, Judged

_MARKS = {Answer.YES: ("o", "tab:blue"), Answer.NO: ("X", "tab:red"), Answer.OPEN: ("D", "0.45")}
_SAID = {Answer.YES: "as claimed", Answer.NO: "not as claimed", Answer.OPEN: "open"}
_ROW_IN, _LEFT_OUT = 0.21, 0.02


def draw(claim: Claim, verdict: Verdict, path: Path) -> None:
    """Write the picture: a panel for each kind of figure, a row for each condition."""
    kinds = _kinds(verdict)
    rows = [len(group) for group in kinds.values()]
    with styled_figure() as figure:
        figure.set_size_inches(8.5, 0.6 + sum(_ROW_IN * count + 0.75 for count in rows))
        panels = figure.subplots(len(kinds), 1, squeeze=False, height_ratios=[count + 2 for count in rows])
        for panel, (kind, group) in zip(panels[:, 0], kinds.items(), strict=True):
            _panel(panel, kind, group)
        handles = [
            panels[0, 0].plot([], [], mark, color=color, markersize=5, label=_SAID[answer])[0]
            for answer, (mark, color) in _MARKS.items()
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=3)
        figure.suptitle(f"{claim.title}: {verdict.headline}", x=0.01, ha="left", fontsize=10.5)
        save(figure, path, "png")


def _kinds(verdict: Verdict) -> dict[str, list[Judged]]:
    """Return the findings that can share an axis: of the same figure, or of as many conditions as there are names."""
    found: dict[str, list[Judged]] = {}
    for one in verdict.judged:
        unit = "share of requests, or of the most" if one.finding.percent else "factor"
        name = one.finding.what if _common(one, verdict) else unit
        found.setdefault(name, []).append(one)
    return found


def _common(one: Judged, verdict: Verdict) -> bool:
    same = sum(other.finding.what == one.finding.what for other in verdict.judged)
    return same > 2


def _panel(panel: Any, kind: str, group: list[Judged]) -> None:
    percent = group[0].finding.percent
    scale = 100.0 if percent else 1.0
    labels = []
    for row, one in enumerate(group):
        finding, interval = one.finding, one.interval
        where = ": ".join(finding.where)
        labels.append(where if finding.what == kind else f"{where}; {finding.what}")
        _band(panel, row, finding.band.low * scale, finding.band.high * scale)
        mark, color = _MARKS[one.answer]
        if math.isfinite(interval.value) and (percent or interval.value > 0):
            panel.plot([scale * interval.value], [row], mark, color=color, markersize=4.5)
        if interval.value == 0 and not percent:
            panel.text(0.005, row, "0", color=color, va="center", fontsize=7, transform=panel.get_yaxis_transform())
        if math.isfinite(interval.low) and math.isfinite(interval.high):
            panel.plot([scale * interval.low, scale * interval.high], [row, row], "-", color=color, linewidth=1.4)
    if not percent:
        panel.set_xscale("log")
        panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        panel.xaxis.set_minor_formatter(lambda value, _: "")
    panel.set_yticks(range(len(group)), labels, fontsize=7)
    panel.set_ylim(len(group) - 0.4, -0.6)
    panel.grid(visible=False, axis="y")
    panel.set_title(f"{kind}{' (%)' if percent else ''}; grey: what is claimed")
    _limits(panel, group, scale, percent)


def _band(panel: Any, row: int, low: float, high: float) -> None:
    far = 1e6
    left, right = max(low, -far if low < 0 else low), min(high, far)
    left = 1e-6 if math.isinf(low) else left
    panel.fill_betweenx([row - 0.5, row + 0.5], left, right, color="0.88", linewidth=0, zorder=0)


def _limits(panel: Any, group: list[Judged], scale: float, percent: bool) -> None:
    """Show all intervals and the ends of the bands."""
    seen = [scale * v for one in group for v in (one.interval.low, one.interval.high, one.interval.value)]
    seen += [scale * v for one in group for v in (one.finding.band.low, one.finding.band.high)]
    known = [v for v in seen if math.isfinite(v) and (percent or v > 0)]
    low, high = min(known), max(known)
    if percent:
        room = 0.05 * (high - low or 1)
        panel.set_xlim(low - room, high + room)
    else:
        panel.set_xlim(low / 1.15, high * 1.15)
        if high < 8 * low:  # hardly a power of ten in sight
            panel.xaxis.set_major_locator(MaxNLocator(7))
            panel.xaxis.set_minor_locator(NullLocator())
