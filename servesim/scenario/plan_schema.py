"""The plan document: a scenario, what may be chosen, and what is asked of the choice."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from servesim.catalog import gpus
from servesim.registry import Spec
from servesim.scenario.schema import Name, Scenario
from servesim.scenario.schema_forms import FileOr

_MOST_VALUES = 64
_MOST_CONFIGURATIONS = 4096
Price = Annotated[float, Field(ge=0, le=1e6)]


class SizeRange(Spec):
    """How many there may be, both ends included."""

    least: int = Field(1, ge=1, le=100_000, description="fewest")
    most: int = Field(ge=1, le=100_000, description="most")

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if self.most < self.least:
            raise ValueError(f"most: below least ({self.least})")
        return self


class ChoicesSpec(Spec):
    """What may be chosen: lists of values, every combination of which is a configuration."""

    gpu: list[str] | None = Field(None, min_length=1, max_length=_MOST_VALUES, description="catalog names of GPUs")
    backend: list[Literal["vllm", "sglang", "trtllm"]] | None = Field(
        None, min_length=1, max_length=_MOST_VALUES, description="whose kernels"
    )
    tensor_parallel_size: list[Annotated[int, Field(ge=1, le=1024)]] | None = Field(
        None, min_length=1, max_length=_MOST_VALUES, description="GPUs per replica; short for the same below engine"
    )
    engine: dict[str, Annotated[list[Any], Field(min_length=1, max_length=_MOST_VALUES)]] = Field(
        default_factory=dict, description="values of the pool's engine settings, by key"
    )

    @model_validator(mode="after")
    def _said_once(self) -> Self:
        if self.tensor_parallel_size is not None and "tensor_parallel_size" in self.engine:
            raise ValueError("engine.tensor_parallel_size: is given above, too")
        return self

    @model_validator(mode="after")
    def _each_configuration_once(self) -> Self:
        own = {name: getattr(self, name) for name in ("gpu", "backend", "tensor_parallel_size")}
        axes = {name: values for name, values in own.items() if values is not None}
        axes |= {f"engine.{name}": values for name, values in self.engine.items()}
        for name, values in axes.items():
            twice = next((one for index, one in enumerate(values) if one in values[:index]), None)
            if twice is not None:
                raise ValueError(f"{name}: {twice} is given twice")
        number = math.prod(map(len, axes.values()))
        if number > _MOST_CONFIGURATIONS:
            raise ValueError(f"makes {number:,} configurations; at most {_MOST_CONFIGURATIONS:,}")
        return self


class SpaceSpec(ChoicesSpec):
    """What may be chosen, and how many replicas there may be."""

    replicas: SizeRange | None = Field(None, description="replicas of the pool")
    servers: SizeRange | None = Field(None, description="servers of a station, instead of replicas")

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if (self.replicas is None) == (self.servers is None):
            raise ValueError("give either replicas or, for a station, servers: {least: 1, most: 16}")
        return self

    @property
    def sizes(self) -> SizeRange:
        """The range of replicas, or of servers."""
        found = self.replicas or self.servers
        assert found is not None
        return found


class Effort(Spec):
    """How many replications a decision may take."""

    first: int = Field(4, ge=2, le=10_000, description="replications before the first look")
    most: int = Field(32, ge=2, le=100_000, description="replications at most; then it is a tie")

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if self.most < self.first:
            raise ValueError(f"most: below first ({self.first})")
        return self


class PlanSpec(Spec):
    """A plan: the cheapest configuration of `space` with which the scenario's classes meet their SLOs."""

    name: Name = Field("plan", description="what the plan is called")
    scenario: Annotated[str | Scenario, FileOr(Scenario)] = Field(
        description="file of the scenario, beside the plan; or the scenario itself"
    )
    pool: Name | None = Field(None, description="the pool to plan; may be left out if there is only one")
    space: SpaceSpec | None = Field(None, description="what may be chosen; not needed for --how-much-load")
    objective: Literal["cost"] = Field("cost", description="what to minimise: USD per hour")
    attainment: float = Field(
        0.99, gt=0, lt=1, description="fraction of offered requests that must be good, for classes that do not say"
    )
    confidence: float = Field(
        0.95, ge=0.5, lt=1, description="chance that no decision of the whole plan is wrong, at least"
    )
    indifference: float = Field(
        0.05, ge=0, le=0.5, description="how far from the SLO, as a fraction of what it allows, is a tie all the same"
    )
    replications: Effort = Field(default_factory=Effort, description="independent runs for each decision")
    rank: int = Field(3, ge=1, le=100, description="how many configurations to find, the cheapest first")
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


def known_prices(prices: dict[str, float]) -> None:
    """Raise ValueError for the price of a GPU that the catalog does not have."""
    for name in prices:
        if name not in gpus():
            raise ValueError(f"usd_per_gpu_hour.{name}: unknown GPU; there are {', '.join(gpus())}")
