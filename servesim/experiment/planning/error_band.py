"""How wrong iteration times may be, as far as is known."""

from __future__ import annotations

from typing import Any


def error_band(facts: dict[str, Any]) -> tuple[str, float, float] | None:
    """Return (what the error is of, lowest factor, highest factor) of measured over modelled time; None if unknown."""
    if "band" in facts:
        low, high = facts["band"]
        return "estimate", low, high
    error = facts.get("held_back_error_p90")
    return None if error is None else ("calibration", 1 - error, 1 + error)
