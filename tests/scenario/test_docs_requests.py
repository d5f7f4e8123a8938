"""The example of docs/requests.md runs and gives the figures written there."""

from __future__ import annotations

import re

from servesim import simulate
from servesim.scenario.load import parse
from tests.data import ROOT


def test_the_example_gives_the_figures_that_the_page_says() -> None:
    page = (ROOT / "docs" / "requests.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```yaml\n(name:.*?)```", page, re.DOTALL)
    with_budget, without = (
        simulate(parse(one)).summary["classes"]["chat"] for one in (text, re.sub(r"\n +budget: .*", "", text))
    )
    said = " ".join(page.split())
    for part in (
        f"Of the {with_budget['offered']:,} requests of this run {with_budget['completed']:,} completed",
        f"{with_budget['abandoned']:,} were abandoned in the end and {with_budget['cancelled']:,} interrupted",
        f"in {with_budget['attempts']:,} attempts (amplification {with_budget['retry_amplification']:.4g})",
        f"{without['attempts']:,} attempts for {without['completed']:,} completed requests",
        f"from {with_budget['ttft_s']['p99']:.1f} s to {without['ttft_s']['p99']:.1f} s",
    ):
        assert part in said, part
