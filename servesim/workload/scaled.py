"""More or less of the same load: arrivals at another rate."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from servesim.errors import InputError
from servesim.workload.base import Arrivals
from servesim.workload.rate import RateFunction

# A rate that is not proportional to the load: what one request adds to the rate of others fixes how bursty they are.
_NOT_A_LOAD = frozenset({"jump_rps"})
_SPEED = "rate_scale"
_POINTS = "points"


def scaled(arrivals: Arrivals, factor: float) -> Arrivals:
    """Return the same arrivals with every rate times `factor`; under one seed the random numbers are the same.

    Rates are the fields that end in `_rps`, also of arrivals and rate functions inside, and the speed of a replay; the
    length of days and spikes stays. Raises InputError for arrivals without a rate (closed loops, bursts at one moment)
    and for values out of range.
    """
    if factor == 1.0:
        return arrivals
    found = _scaled(arrivals, factor)
    if found is arrivals:
        raise InputError(f"arrivals {arrivals.kind!r} have no rate to scale")
    return type(arrivals).model_validate(_fields(found))


def _fields(spec: BaseModel) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in type(spec).model_fields}


def _scaled(spec: Any, factor: float) -> Any:
    """Return the part with its rates scaled; the very same object if it has none."""
    if not isinstance(spec, BaseModel):
        return spec
    changed: dict[str, Any] = {}
    for name, value in _fields(spec).items():
        new = _scaled_field(name, value, factor)
        if new is not value:
            changed[name] = new
    if len(changed) > 1:
        changed.pop(_SPEED, None)  # the rates are scaled already, and their clock stays
    return spec.model_copy(update=changed) if changed else spec


def _scaled_field(name: str, value: Any, factor: float) -> Any:
    if value is None or name in _NOT_A_LOAD:
        return value
    if name == _POINTS:
        return tuple((time_s, rate * factor) for time_s, rate in value)
    if name.endswith("_rps") or name == _SPEED:
        return tuple(rate * factor for rate in value) if isinstance(value, tuple) else value * factor
    if isinstance(value, tuple) and any(isinstance(part, BaseModel) for part in value):
        parts = tuple(_scaled(part, factor) for part in value)
        return value if all(new is old for new, old in zip(parts, value, strict=True)) else parts
    return _scaled(value, factor) if isinstance(value, Arrivals | RateFunction) else value
