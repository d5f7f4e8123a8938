"""How wrong iteration times may be, as far as is known."""

from __future__ import annotations

from typing import Any

from servesim.catalog.model_errors import ModelError


def error_band(facts: dict[str, Any], validated: ModelError | None = None) -> tuple[str, float, float] | None:
    """Return (what the error is of, lowest factor, highest factor) of measured over modelled time; None if unknown.

    Errors are |modelled / measured - 1|, so measured over modelled lies between 1 / (1 + error) and 1 / (1 - error).
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
        return "validated deployments", *_factors(whole)
    return None if calibration is None else ("calibration", *_factors(calibration))


_MOST = 0.9  # a model that errs by all there is says nothing of how long iterations take


def _factors(error: float) -> tuple[float, float]:
    return 1 / (1 + error), 1 / (1 - min(error, _MOST))


def _of_iterations(validated: ModelError | None) -> float | None:
    if validated is None:
        return None
    error = validated.metrics.get("tpot_s") or validated.metrics.get("e2e_s")
    return None if error is None else error.p90
