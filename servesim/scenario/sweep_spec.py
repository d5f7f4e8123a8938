"""The sweep document: which settings of a scenario take which values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, create_model, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from servesim.registry import Spec

MAX_VALUES = 10_000


class _RangeRules(Spec):
    """Numbers from one to another, both included, evenly spaced or in equal ratios."""

    if TYPE_CHECKING:
        to: float
        steps: int | None
        step: float | None
        scale: str

    @model_validator(mode="after")
    def _one_spacing(self) -> Self:
        start, scale = getattr(self, "from"), self.scale
        if (self.steps is None) == (self.step is None):
            raise ValueError("give either steps (how many values) or step (how far apart)")
        if self.to < start:
            raise ValueError(f"to: must be at least `from` ({start:g}), got {self.to:g}")
        if scale == "log" and (start <= 0 or self.step is not None):
            raise ValueError("scale: log wants `from` greater than 0, and steps, not step")
        if self.step is not None and not (self.to - start) / self.step < MAX_VALUES:
            raise ValueError(f"step: gives more than {MAX_VALUES:,} values")
        return self

    def values(self) -> list[int | float]:
        """Return the numbers, whole ones as integers, without the noise of the last few binary digits."""
        start = getattr(self, "from")
        if self.step is not None:
            count = math.floor((self.to - start) / self.step * (1 + 1e-12)) + 1
            return [_tidy(start + number * self.step) for number in range(count)]
        assert self.steps is not None
        last = max(self.steps - 1, 1)
        if self.scale == "log":
            return [_tidy(start * (self.to / start) ** (number / last)) for number in range(self.steps)]
        return [_tidy(start + (self.to - start) * number / last) for number in range(self.steps)]


def _tidy(value: float) -> int | float:
    short = float(f"{value:.12g}")
    return int(short) if short.is_integer() and abs(short) < 2**53 else short


if TYPE_CHECKING:
    RangeSpec = _RangeRules
else:  # `from` is a keyword of Python, so that a class body cannot name it
    RangeSpec = create_model(
        "RangeSpec",
        __base__=_RangeRules,
        __module__=__name__,
        __doc__=_RangeRules.__doc__,
        **{
            "from": (float, Field(description="the first value")),
            "to": (float, Field(description="the last value")),
            "steps": (int | None, Field(None, ge=2, le=MAX_VALUES, description="how many values")),
            "step": (float | None, Field(None, gt=0, description="how far apart they are")),
            "scale": (Literal["linear", "log"], Field("linear", description="equal differences, or equal ratios")),
        },
    )


class _ListOrRange:
    """Reads a list as it is and a mapping as a range. Not a union for pydantic, whose errors would be about both."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(_read, handler.generate_schema(RangeSpec))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return a list, or the mapping."""
        return {"anyOf": [{"type": "array"}, handler(schema)]}


def _read(value: Any, inline: core_schema.ValidatorFunctionWrapHandler) -> Any:
    if isinstance(value, list):
        return value
    if not isinstance(value, dict | RangeSpec):
        raise ValueError("expected a list of values, or a mapping with from, to, and steps or step")
    return inline(value)


class VariantSpec(Spec):
    """One named set of changes."""

    name: str = Field(min_length=1, max_length=64, description="what tables call it")
    set: dict[str, Any] = Field(description="values by path, such as pools.main.replicas")


class SweepSpec(Spec):
    """Which settings take which values; every point is the scenario with one choice of them."""

    vary: dict[str, Annotated[list[Any] | RangeSpec, _ListOrRange()]] = Field(
        default_factory=dict, description="values, or a range of numbers, by path such as pools.main.replicas"
    )
    combine: Literal["grid", "zip"] = Field("grid", description="all combinations, or the n-th of each list together")
    variants: list[VariantSpec] = Field(
        default_factory=list, description="named sets of changes; each gets all of `vary`"
    )
    replications: int | None = Field(None, ge=1, le=100_000, description="of every point, all under the same seeds")

    @model_validator(mode="after")
    def _something_to_do(self) -> Self:
        if not self.vary and not self.variants:
            raise ValueError("nothing varies: give vary or variants")
        lengths = {path: len(values_of(choice)) for path, choice in self.vary.items()}
        for path, length in lengths.items():
            if not length:
                raise ValueError(f"vary.{path}: needs at least 1 value")
        if self.combine == "zip" and len(set(lengths.values())) > 1:
            said = ", ".join(f"{path} has {length}" for path, length in lengths.items())
            raise ValueError(f"combine: zip wants lists of equal length: {said}")
        count = math.prod(lengths.values()) if self.combine == "grid" else max(lengths.values(), default=1)
        if count * max(len(self.variants), 1) > MAX_VALUES:
            raise ValueError(f"more than {MAX_VALUES:,} points")
        names = [variant.name for variant in self.variants]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"variants: the name {name!r} is given more than once")
        return self


def values_of(choice: list[Any] | RangeSpec) -> list[Any]:
    """Return the values of one entry of `vary`."""
    return choice if isinstance(choice, list) else choice.values()


class SweepDocument(SweepSpec):
    """A sweep in a file of its own."""

    scenario: str | None = Field(None, description="the scenario's file, relative to this one's folder")
