"""A service-time law for each request class."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from servesim.registry import Kind, register
from servesim.service_time.law import Sampler, ServiceLaw, Stream


def _is_simple_law(cls: type[Any]) -> bool:
    return issubclass(cls, ServiceLaw) and not issubclass(cls, ByClass)


@register("service_time")
class ByClass(ServiceLaw):
    """Each request class has a law of its own."""

    model_config = ConfigDict(defer_build=True)

    kind: Literal["by_class"] = "by_class"
    laws: dict[str, Annotated[ServiceLaw, Kind("service_time", _is_simple_law)]] = Field(
        min_length=1, description="law by the name of the request class"
    )

    def sampler(self, stream: Stream, class_names: tuple[str, ...]) -> Sampler:
        """Return the draw of the law of the request's class."""
        by_index = {
            index: self.laws[name].sampler(stream, class_names)
            for index, name in enumerate(class_names)
            if name in self.laws
        }
        return lambda request: by_index[request.class_index](request)
