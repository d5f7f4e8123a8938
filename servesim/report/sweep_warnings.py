"""What the points of a sweep warn of, each thing once."""

from __future__ import annotations

from typing import Any

_OVERLOAD = " is overloaded"  # in the warning of servesim.metrics about it


def warnings(points: list[dict[str, Any]]) -> list[str]:
    """Return every warning once, with the number of points that have it; overload, told in figures by each, as one."""
    of = len(points)
    over = sum(bool(row["overloaded"]) for row in points)
    having: dict[str, int] = {}
    for row in points:
        for text in row.get("warnings", ()):
            if not (row["overloaded"] and _OVERLOAD in text):
                having[text] = having.get(text, 0) + 1
    told = [f"{over} of {of} points are overloaded: their latencies depend on how long the run lasts"] if over else []
    return told + [text if count == of else f"{text} ({count} of {of} points)" for text, count in having.items()]
