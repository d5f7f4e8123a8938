"""What of a run is measured: the `measurement` part of a scenario."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from servesim.metrics.record import WarmupRule
from servesim.registry import Spec
from servesim.scenario.schema_forms import WordOr
from servesim.workload.base import Arrivals

_WORDS = ("auto", "none", "mser5")


class WarmupSpec(Spec):
    """A warm-up of a given length: either so many requests, or so many seconds."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    requests: int | None = Field(None, ge=0, description="leave out so many requests, the first to arrive")
    time_s: float | None = Field(None, ge=0, le=1e9, description="leave out the requests that arrive before this time")

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.requests is None) == (self.time_s is None):
            raise ValueError("give either requests or time_s")
        return self


class MeasurementSpec(Spec):
    """What of a run its statistics are about."""

    warmup: Annotated[Literal["auto", "none", "mser5"] | WarmupSpec, WordOr(WarmupSpec, _WORDS)] = Field(
        "auto",
        description="what to leave out at the beginning: none; mser5, found in the latencies; or a given number of "
        "requests or seconds. auto: the first twentieth where all arrivals are stationary and without end, else none",
    )


def warmup_rule(spec: MeasurementSpec, arrivals: dict[str, Arrivals]) -> WarmupRule:
    """Return the rule for a run whose classes have these arrivals, by class name.

    A replay, a burst or a closed loop that starts all at once is something with a beginning, which is part of it: there
    `auto` leaves nothing out and says why.
    """
    warmup = spec.warmup
    if isinstance(warmup, WarmupSpec):
        if warmup.requests is not None:
            return WarmupRule("requests", warmup.requests)
        return WarmupRule("time_s", warmup.time_s or 0.0)
    if warmup == "auto":
        for name, one in arrivals.items():
            if not one.is_stationary:
                return WarmupRule(reason=f"the {one.kind} arrivals of class {name} are measured whole")
    return WarmupRule(warmup)
