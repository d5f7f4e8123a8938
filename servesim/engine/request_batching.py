"""Request-level batching: batches of whole requests, one per instance."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from servesim.engine.base import EngineSpec, Site
from servesim.engine.request_batching_plan import RequestBatchingPlan, plan_of
from servesim.policies.batching.base import Batcher
from servesim.policies.batching.take_all import TakeAll
from servesim.registry import Kind, Named, register


@register("engine")
class RequestBatching(EngineSpec):
    """Batches of whole requests: encoders, vision, speech, recommendation, and language models served the old way.

    A batch holds an instance until its last member is done, and all members are answered at its end, so TTFT is
    E2E. `instances` batches run side by side; they share the GPU, and `instance_contention` says how much one slows
    another down. A request cancelled in a batch keeps its place until the batch ends.
    """

    kind: Literal["request_batching"] = "request_batching"
    batcher: Annotated[Batcher, Kind("batcher"), Named] = Field(
        default_factory=TakeAll, description="which requests are computed together, and when"
    )
    instances: Annotated[int, Field(ge=1, le=1_000_000)] | Literal["unlimited"] = Field(
        1, description="batches that run at once on a replica"
    )
    instance_contention: float = Field(
        0.0,
        ge=0,
        le=100,
        description="part of its time by which each batch that runs when a batch starts makes it longer; 0: none",
    )
    max_queue_size: int | None = Field(
        None, ge=1, description="who comes when so many wait is rejected; null: no limit"
    )
    tensor_parallel_size: int = Field(1, ge=1, le=1024, description="GPUs of a replica")
    quantization: str | None = Field(None, description="of a language model; null: as the model is published")
    kv_cache_dtype: str = Field("auto", description="of a language model; auto: 16 bits")

    def resolve(self, site: Site) -> RequestBatchingPlan:
        """Return the plan; the pool's service time must be of batches, of iterations, or one law for all classes."""
        return plan_of(self, site)
