"""The inventory document: GPUs that are there, the models to serve with them, and what may come."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, GetJsonSchemaHandler, create_model, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from servesim.registry import Spec
from servesim.scenario.plan_schema import ChoicesSpec, Price, known_prices
from servesim.scenario.schema import Name, Scenario
from servesim.scenario.schema_forms import FileOr

_MOST_GPUS = 100_000
_QUANTILE = re.compile(r"p(\d{1,2}(?:\.\d+)?|100)")
_Factor = Annotated[float, Field(gt=0, le=1000)]


class InventorySpec(Spec):
    """GPUs by catalog name: how many there are, and how many share a node."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Annotated[int, Field(ge=0, le=_MOST_GPUS)]]

    per_node: Annotated[int, Field(ge=1, le=1024)] | dict[str, Annotated[int, Field(ge=1, le=1024)]] = Field(
        8, description="GPUs in a node: of all kinds, or by catalog name; no replica spans nodes"
    )

    @model_validator(mode="before")
    @classmethod
    def _counts_by_name(cls, value: Any) -> Any:
        if not isinstance(value, dict | InventorySpec):
            raise ValueError("expected counts of GPUs by catalog name, such as {h100_sxm: 40, per_node: 8}")
        return value

    @property
    def gpus(self) -> dict[str, int]:
        """How many of each GPU, those of which there is none left out."""
        return {name: count for name, count in self.__pydantic_extra__.items() if count}

    @model_validator(mode="after")
    def _something_is_there(self) -> Self:
        if not self.gpus:
            raise ValueError("no GPU is in it; say how many there are, such as {h100_sxm: 40, per_node: 8}")
        if isinstance(self.per_node, dict):
            for name in self.per_node:
                if name not in self.__pydantic_extra__:
                    raise ValueError(f"per_node.{name}: is not in the inventory")
            for name in self.gpus:
                if name not in self.per_node:
                    raise ValueError(f"per_node: says nothing of {name}")
        return self

    def nodes(self, gpu: str) -> list[int]:
        """Return the GPUs of each node with this kind; the last may be part of one."""
        size = self.per_node[gpu] if isinstance(self.per_node, dict) else self.per_node
        whole, rest = divmod(self.gpus.get(gpu, 0), size)
        return [size] * whole + ([rest] if rest else [])


class _GrowthRules(Spec):
    """How much demand there will be, as a factor on all rates: evenly between `from` and `to`, or by quantiles.

    A plain number is certain. Quantiles are p10, p50, ...: with a chance of 10 % demand is below the first, and so on.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, _Factor]
    if TYPE_CHECKING:
        to: float | None

    @model_validator(mode="before")
    @classmethod
    def _plain_number(cls, value: Any) -> Any:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return {"from": value, "to": value}
        if not isinstance(value, dict | _GrowthRules):
            raise ValueError(
                "expected a factor on today's demand, {from: 1.0, to: 1.5}, or quantiles: {p50: 1.1, p90: 1.6}"
            )
        return value

    @model_validator(mode="after")
    def _one_law(self) -> Self:
        start, end, quantiles = getattr(self, "from"), self.to, self.__pydantic_extra__
        for key in quantiles:
            if not _QUANTILE.fullmatch(key):
                raise ValueError(f"{key}: expected from and to, or quantiles such as p10, p50 and p90")
        if quantiles and (start is not None or end is not None):
            raise ValueError("give either from and to, or quantiles such as p10, p50 and p90, not both")
        if not quantiles and (start is None or end is None):
            raise ValueError("give both from and to, or two quantiles or more, such as {p10: 0.9, p50: 1.1, p90: 1.6}")
        if start is not None and end is not None and end < start:
            raise ValueError(f"to: below from ({start:g})")
        if len(quantiles) == 1:
            raise ValueError("give two quantiles or more, such as {p10: 0.9, p50: 1.1, p90: 1.6}")
        values = [value for _, value in self.points]
        if values != sorted(values):
            raise ValueError("quantiles must not descend: a higher one is at least as much demand")
        return self

    @property
    def points(self) -> list[tuple[float, float]]:
        """The points (chance of less, factor) that are given, in order."""
        if not self.__pydantic_extra__:
            return [(0.0, float(getattr(self, "from"))), (1.0, float(self.to or 0.0))]
        return sorted((float(key[1:]) / 100, float(value)) for key, value in self.__pydantic_extra__.items())

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the mapping, or a number."""
        return {"anyOf": [{"type": "number", "exclusiveMinimum": 0, "maximum": 1000}, handler(schema)]}


if TYPE_CHECKING:
    GrowthSpec = _GrowthRules
else:  # `from` is a keyword of Python, so that a class body cannot name it
    GrowthSpec = create_model(
        "GrowthSpec",
        __base__=_GrowthRules,
        __module__=__name__,
        __doc__=_GrowthRules.__doc__,
        **{
            "from": (_Factor | None, Field(None, description="least demand, as a factor on today's")),
            "to": (_Factor | None, Field(None, description="most demand, as a factor on today's")),
        },
    )


class ModelSpec(Spec):
    """One of the models to serve: its load and SLO, and what may be chosen for it."""

    scenario: Annotated[str | Scenario, FileOr(Scenario)] = Field(
        description="file of its scenario, beside the plan; or the scenario itself"
    )
    pool: Name | None = Field(None, description="the pool to plan; may be left out if there is only one")
    space: ChoicesSpec = Field(
        default_factory=ChoicesSpec, description="what may be chosen; gpu: all of the inventory unless given"
    )
    growth: GrowthSpec | None = Field(None, description="its own demand, independent of that of others")
    max_breach: float | None = Field(None, gt=0, lt=1, description="of this model, instead of the plan's")


class InventoryPlanSpec(Spec):
    """How to divide an inventory of GPUs among models, so that each meets its SLO."""

    name: Name = Field("inventory", description="what the plan is called")
    inventory: InventorySpec = Field(description="the GPUs that are there: {h100_sxm: 40, per_node: 8}")
    models: dict[Name, ModelSpec] = Field(min_length=1, max_length=32, description="the models to serve, by name")
    survive: Literal["nothing", "replica", "node"] = Field(
        "nothing", description="what may be lost with the SLO still met (N+1): one replica of each model, or any node"
    )
    growth: GrowthSpec = Field(
        default_factory=lambda: GrowthSpec.model_validate(1.0),
        description="demand to come, the same factor for all models that have none of their own",
    )
    max_breach: float = Field(
        0.05, gt=0, lt=1, description="chance of a breached SLO that a model may have, over demand to come"
    )
    attainment: float = Field(
        0.99, gt=0, lt=1, description="fraction of offered requests that must be good, for classes that do not say"
    )
    replications: int = Field(6, ge=2, le=1000, description="independent runs of each load that is tried")
    estimates: Literal["allow", "refuse"] = Field(
        "allow", description="of iteration times, for pairs of model and GPU without a calibration"
    )
    usd_per_gpu_hour: dict[str, Price] = Field(
        default_factory=dict, description="prices by catalog name of the GPU; the catalog's for others"
    )

    @model_validator(mode="after")
    def _prices_of_gpus(self) -> Self:
        known_prices(self.usd_per_gpu_hour)
        return self
