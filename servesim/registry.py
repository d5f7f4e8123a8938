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
from typing import Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

_FAMILIES: dict[str, dict[str, type[Spec]]] = {}
_REGISTERED: list[str] = []
_HOMES = {
    "arrivals": "servesim.workload.arrivals",
    "length": "servesim.workload.lengths",
    "joint_length": "servesim.workload.lengths",
    "router": "servesim.policies.routing",
    "scheduler": "servesim.policies.scheduling",
    "service_time": "servesim.service_time",
    "engine": "servesim.engine",
}


class Spec(BaseModel):
    """A frozen, strict part of a scenario: unknown keys, NaN and infinities are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class KindSpec(Spec):
    """A specification chosen by `kind:`."""

    kind: str


class Policy(KindSpec):
    """A kind with runtime state: the scenario holds the frozen specification, each run its own live copy."""

    _live_class: ClassVar[type[Any] | None] = None

    def live(self) -> Self:
        """Return a mutable copy for one run; `start` fills in its state."""
        cls = type(self)
        if "_live_class" not in cls.__dict__ or cls._live_class is None:
            # A subclass whose attributes are set by plain object semantics: pydantic's frozen check would cost
            # more than most decisions do.
            cls._live_class = type(cls.__name__, (cls,), {"__setattr__": object.__setattr__, "__doc__": cls.__doc__})
        copy: Self = object.__new__(cls._live_class)
        copy.__dict__.update(self.__dict__)
        return copy


K = TypeVar("K", bound=type[KindSpec])


def register(family: str) -> Callable[[K], K]:
    """Class decorator: make `cls` a choice of `family` under its field `kind`'s default."""

    def add(cls: K) -> K:
        name = cls.__pydantic_fields__["kind"].default
        if not isinstance(name, str):
            raise TypeError(f"{cls.__name__}: give `kind` a Literal default, e.g. kind: Literal['x'] = 'x'")
        known = _FAMILIES.setdefault(family, {})
        if name in known and known[name].__qualname__ != cls.__qualname__:
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
    """Field annotation: `Annotated[Router, Kind("router")]` is any registered router, told apart by `kind:`."""

    def __init__(self, family: str) -> None:
        self.family = family

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        choices = {name: handler.generate_schema(cls) for name, cls in kinds(self.family).items()}
        return core_schema.tagged_union_schema(choices=choices, discriminator="kind", from_attributes=True)
