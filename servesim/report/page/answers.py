"""The page about an answer that is told in parts: an inventory divided, GPUs over time, how much load."""

from __future__ import annotations

from typing import Any

import numpy as np

from servesim.report.answer import Answer, Part
from servesim.report.inventory import inventory_answer
from servesim.report.over_time import over_time_answer
from servesim.report.page.charts import Axis, Chart, Series
from servesim.report.page.render import render
from servesim.report.page.screen import Screen, Tone
from servesim.report.page.timeline_charts import time_axis
from servesim.report.plan import load_answer

_INVENTORY_TONES: dict[str, Tone] = {"enough": "good", "not enough": "bad", "no room": "bad"}


def inventory_page(found: dict[str, Any]) -> str:
    """Return the page about an inventory divided among models."""
    question = "How do I divide what I have?"
    return _page(found, inventory_answer(found), "inventory plan", question, _INVENTORY_TONES[found["verdict"]])


def over_time_page(found: dict[str, Any]) -> str:
    """Return the page about GPUs over time, with a chart of what each window needs."""
    lost = any(one["replicas"] is None for one in found["windows"])
    question = f"How many {found['unit']} are needed when?"
    return _page(
        found, over_time_answer(found), "plan over time", question, "open" if lost else "good", _windows(found)
    )


def load_page(found: dict[str, Any]) -> str:
    """Return the page about the largest load within the SLO."""
    tone: Tone = "bad" if found["load"]["factor"] is None else "good"
    return _page(found, load_answer(found), "plan of load", "How much load does it take within its SLO?", tone)


def _page(
    found: dict[str, Any], answer: Answer, kind: str, question: str, tone: Tone, charts: tuple[Chart, ...] = ()
) -> str:
    """Return a page whose first sentence is its headline; the other sentences of that part stand below it."""
    first = next(part for part in answer.parts if part.sentences)
    headline, *rest = first.sentences
    parts = [Part(part.heading, part.grid, [] if part is first else part.sentences, part.code) for part in answer.parts]
    return render(
        "answer.html",
        list(charts),
        title=answer.title,
        description="",
        runs=kind,
        screen=Screen(tone, question, headline, rest, [], ()),
        warnings=[],
        drawn=charts,
        parts_=[part for part in parts if part != Part()],
        seeds=[found["seed"]] if "seed" in found else [],
    )


def _windows(found: dict[str, Any]) -> tuple[Chart, ...]:
    """Return the chart of what is needed and offered; each window has its two ends, so that lines are steps."""
    windows = found["windows"]
    ends = np.array([end for one in windows for end in (one["start_s"], one["end_s"])], dtype=np.float64)
    x, axis = time_axis(ends, float(ends[-1]), "time")

    def steps(key: str) -> np.ndarray:
        return np.repeat([np.nan if one[key] is None else float(one[key]) for one in windows], 2)

    level = np.full(len(x), float(found["static"]["gpus"]))
    ranges = [found["gpus_per_replica"] * steps(key) for key in ("replicas_low", "replicas_high")]
    low, high = ranges if any(one["tie"] for one in windows) else (None, None)
    needed = (
        Series("needed", steps("gpus"), 0, low=low, high=high),
        Series("static, for the worst window", level, 1, dashed=True),
    )
    return (
        Chart("gpus", f"{found['unit']} needed", "", x, axis, Axis(found["unit"]), needed, together="time"),
        Chart(
            "rate", "Load", "", x, axis, Axis("requests/s"), (Series("offered", steps("rate_rps"), 6),), together="time"
        ),
    )
