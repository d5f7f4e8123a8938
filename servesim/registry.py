"""Kinds: one class is one choice in a scenario, found by `kind:` and nothing else.

A registered class is a frozen pydantic model whose fields are its YAML keys. It lives in one file of its family's
package; importing the package's modules registers it, and third parties register through the entry-point group
`servesim.plugins`. `Kind(family)` annotates a scenario field as "any registered member of this family".
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Self, TypeVar, dataclass_transform

import pydantic.dataclasses
from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

_FAMILIES: dict[str, dict[str, type[Any]]] = {}
_REGISTERED: list[str] = []
_HOMES = {
    "arrivals": "servesim.workload.arrivals",
    "count": "servesim.workload.counts",
    "rate": "servesim.workload.rates",
    "length": "servesim.workload.lengths",
    "joint_length": "servesim.workload.lengths",
    "router": "servesim.policies.routing",
    "scheduler": "servesim.policies.scheduling",
    "batcher": "servesim.policies.batching",
    "service_time": "servesim.service_time",
    "engine": "servesim.engine",
}


_CLOSED = ConfigDict(extra="forbid", allow_inf_nan=False)


class Spec(BaseModel):
    """A frozen, strict part of a scenario: unknown keys, NaN and infinities are refused."""

    model_config = ConfigDict(frozen=True, strict=True, **_CLOSED)


def _kind_required(schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
    found = handler(schema)
    inner = handler.resolve_ref_schema(found)
    inner["required"] = ["kind", *(name for name in inner.get("required", []) if name != "kind")]
    return found


class KindSpec(Spec):
    """A specification chosen by `kind:`."""

    kind: str

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the schema, `kind` required."""
        return _kind_required(schema, handler)


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(Field,))
class Policy:
    """A kind with runtime state: the scenario holds the frozen specification, each run its own live copy.

    `register` turns subclasses into frozen, validated dataclasses. They are not pydantic models because those look up
    every attribute through a Python-level hook, which would cost more than most decisions do. A numeric field wants
    `Field(strict=True)`, which models have for all their fields: a strict dataclass would refuse a mapping.
    """

    kind: str

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the schema, `kind` required."""
        return _kind_required(schema, handler)

    def live(self) -> Self:
        """Return a mutable copy for one run; `start` fills in its state."""
        copy: Self = object.__new__(_live_class(type(self)))  # type: ignore[arg-type]
        copy.__dict__.update(self.__dict__)
        return copy


@cache
def _live_class(cls: type[Any]) -> type[Any]:
    """Return a subclass of a frozen policy class whose attributes can be set."""
    return type(cls.__name__, (cls,), {"__setattr__": object.__setattr__, "__doc__": cls.__doc__})


K = TypeVar("K", bound=type[Any])


def _home(cls: type[Any]) -> tuple[str, str]:
    return cls.__module__, cls.__qualname__


def register(family: str) -> Callable[[K], K]:
    """Class decorator: make `cls` a choice of `family` under its field `kind`'s default."""

    def add(cls: K) -> K:
        if issubclass(cls, Policy):
            pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=_CLOSED)(cls)
        field = cls.__pydantic_fields__.get("kind")
        name = None if field is None else field.default
        if not isinstance(name, str):
            raise TypeError(f"{cls.__name__}: give `kind` a Literal default, e.g. kind: Literal['x'] = 'x'")
        known = _FAMILIES.setdefault(family, {})
        if name in known and _home(known[name]) != _home(cls):
            raise ValueError(f"{family} {name!r} is already registered by {known[name].__module__}")
        known[name] = cls
        _REGISTERED.append(f"{family}/{name}")
        return cls

    return add


@cache
def discover(family: str) -> None:
    """Import every module that may register a kind of `family`: servesim's own package, then installed plugins."""
    package = importlib.import_module(_HOMES[family])
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
    for plugin in entry_points(group="servesim.plugins"):
        plugin.load()


def revision() -> int:
    """Return a number that changes whenever a kind is registered."""
    return len(_REGISTERED)


def families() -> list[str]:
    """Return the names of all families of kinds."""
    return list(_HOMES)


def kinds(family: str) -> dict[str, type[Any]]:
    """Return the registered classes of `family` by kind, sorted by name."""
    discover(family)
    return dict(sorted(_FAMILIES.get(family, {}).items()))


class Kind:
    """Field annotation: `Annotated[Router, Kind("router")]` is any registered router, told apart by `kind:`.

    `accepts` narrows the choice. A kind that is itself made of kinds of its family needs it, so that kinds do not nest
    without end, and `model_config = ConfigDict(defer_build=True)`, since its choices are registered after it.
    """

    def __init__(self, family: str, accepts: Callable[[type[Any]], bool] | None = None) -> None:
        self.family = family
        self._accepts = accepts

    def choices(self) -> dict[str, type[Any]]:
        """Return the registered classes that may stand here, by kind, sorted by name."""
        accepts = self._accepts
        return {name: cls for name, cls in kinds(self.family).items() if accepts is None or accepts(cls)}

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        choices = {name: handler.generate_schema(cls) for name, cls in self.choices().items()}
        return core_schema.tagged_union_schema(choices=choices, discriminator="kind", from_attributes=True)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return one arm for each kind, told apart by the constant `kind`."""
        return {"oneOf": handler(schema)["oneOf"]}


class ShortForm:
    """Annotation: say in the JSON Schema that a field may also be written as `form`."""

    def __init__(self, form: JsonSchemaValue) -> None:
        self.form = form

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the short form beside the others."""
        return {"anyOf": [self.form, handler(schema)]}


def plain_name_is_kind(value: Any) -> Any:
    """Let a plain name such as `router: least_outstanding` stand for `{kind: least_outstanding}`."""
    return {"kind": value} if isinstance(value, str) else value


class _Named:
    """Reads a plain name as a kind; see `Named`."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(plain_name_is_kind, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return, beside the mappings, the names of the kinds that need nothing else."""
        mappings = handler(schema)
        names = []
        for arm in mappings["oneOf"]:
            inner = handler.resolve_ref_schema(arm)
            if inner["required"] == ["kind"]:
                names.append(inner["properties"]["kind"]["const"])
        return {"anyOf": [{"enum": names}, mappings]} if names else mappings


Named = _Named()
"""Annotation beside `Kind` for fields that may be given by name alone."""
