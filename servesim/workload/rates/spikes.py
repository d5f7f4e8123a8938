"""A steady rate with spikes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, Strict, model_validator

from servesim.registry import Spec, register
from servesim.workload.base import FloatArray
from servesim.workload.rate import RateFunction, Rps
from servesim.workload.rates.points import PointsRate


class Spike(Spec):
    """From the steady rate up to a peak, and back."""

    at_s: Annotated[float, Field(ge=0, le=1e9, description="When it begins to rise.")]
    peak_rps: Annotated[Rps, Field(description="Rate at the top; below the steady one it is a dip.")]
    ramp_up_s: Annotated[float, Field(ge=0, le=1e9, description="Time to rise; 0: at once.")] = 0.0
    hold_s: Annotated[float, Field(ge=0, le=1e9, description="Time at the top.")] = 0.0
    ramp_down_s: Annotated[float, Field(ge=0, le=1e9, description="Time to fall; 0: at once.")] = 0.0

    @model_validator(mode="after")
    def _lasts(self) -> Self:
        if self.ramp_up_s + self.hold_s + self.ramp_down_s <= 0:
            raise ValueError("the spike takes no time: give ramp_up_s, hold_s or ramp_down_s")
        return self

    @property
    def end_s(self) -> float:
        """When it is over."""
        return self.at_s + self.ramp_up_s + self.hold_s + self.ramp_down_s


@register("rate")
class SpikesRate(RateFunction):
    """`base_rps`, and `spikes` that rise from it and fall back: launches, news, retry storms, dips.

    With `period_s` the whole profile begins again after so long, e.g. every day.
    """

    kind: Literal["spikes"] = "spikes"
    base_rps: Annotated[Rps, Field(description="Rate outside the spikes.")]
    spikes: Annotated[
        tuple[Spike, ...], Strict(False), Field(min_length=1, max_length=100_000, description="In order of time.")
    ]
    period_s: float | None = Field(None, gt=0, le=1e9, description="The profile begins again after so long.")

    @model_validator(mode="after")
    def _spikes_do_not_overlap(self) -> Self:
        for number, (before, after) in enumerate(pairwise(self.spikes), 1):
            if after.at_s < before.end_s:
                raise ValueError(f"spikes.{number}: begins before the one above it is over at {before.end_s:g} s")
        if self.period_s is not None and self.spikes[-1].end_s > self.period_s:
            raise ValueError(f"period_s: the last spike is over at {self.spikes[-1].end_s:g} s only")
        if self.base_rps == 0 and not any(spike.peak_rps > 0 for spike in self.spikes):
            raise ValueError("the rate must be above 0 somewhere")
        return self

    def when(self, expected: FloatArray) -> FloatArray:
        """Return the times, shape (m,)."""
        return PointsRate(points=tuple(self._points()), repeat=self.period_s is not None).when(expected)

    def _points(self) -> Iterator[tuple[float, float]]:
        yield 0.0, self.base_rps
        for spike in self.spikes:
            top_s = spike.at_s + spike.ramp_up_s
            yield spike.at_s, self.base_rps
            yield top_s, spike.peak_rps
            yield top_s + spike.hold_s, spike.peak_rps
            yield spike.end_s, self.base_rps
        if self.period_s is not None:
            yield self.period_s, self.base_rps
