"""How wrong iteration times may be, as far as is known."""

from __future__ import annotations

from typing import Any

from servesim.catalog.model_errors import ModelError


def error_band(facts: dict[str, Any], validated: ModelError | None = None) -> tuple[str, float, float] | None:
    """Return (what the error is of, lowest factor, highest factor) of measured over modelled time; None if unknown.

    `validated` is the error of whole runs of the nearest validated deployments. Its p90 of the time per output token is
    taken for that of the iterations (of E2E where there is none), and the wider of it and the calibration's own holds:
    the fit's error says nothing of what the measured iterations leave out.
    """
    if "band" in facts:
        low, high = facts["band"]
        return "estimate", low, high
    calibration = facts.get("held_back_error_p90")
    whole = _of_iterations(validated)
    if whole is not None and (calibration is None or whole >= calibration):
        return "validated deployments", 1 - min(whole, _MOST), 1 + whole
    return None if calibration is None else ("calibration", 1 - calibration, 1 + calibration)


_MOST = 0.9  # iterations take some time, however wrong the model may be


def _of_iterations(validated: ModelError | None) -> float | None:
    if validated is None:
        return None
    error = validated.metrics.get("tpot_s") or validated.metrics.get("e2e_s")
    return None if error is None else error.p90
