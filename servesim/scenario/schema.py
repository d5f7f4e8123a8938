"""The scenario: one YAML document that says what is served, on what, to whom, and how well it should be."""

from __future__ import annotations

from math import inf
from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, model_validator

from servesim.catalog import InlineGpu, ModelFile, gpus, models
from servesim.engine.base import EngineSpec
from servesim.engine.request_batching import RequestBatching
from servesim.engine.spec import ContinuousBatching
from servesim.engine.station import Station
from servesim.policies.routing.base import Router
from servesim.policies.routing.round_robin import RoundRobin
from servesim.registry import Kind, Named, Spec, kinds
from servesim.scenario.measurement import MeasurementSpec
from servesim.scenario.schema_forms import DefaultKind, NameOr
from servesim.scenario.sweep_spec import SweepSpec
from servesim.service_time.base import ServiceTimeSpec
from servesim.service_time.by_class import ByClass
from servesim.service_time.calibrated import Calibrated
from servesim.workload.arrivals.sessions import SessionsArrivals
from servesim.workload.base import Arrivals, JointLengths
from servesim.workload.length_field import LengthField
from servesim.workload.lives import CancelSpec, PatienceSpec, RetrySpec
from servesim.workload.trace import TraceArrivals

Seconds = Annotated[float, Field(gt=0, le=1e9)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class SloSpec(Spec):
    """Targets of one class. A request is good if it completes and meets all thresholds given here."""

    ttft_s: Seconds | None = Field(None, description="time to first token, seconds")
    tpot_s: Seconds | None = Field(None, description="time per output token after the first, seconds")
    e2e_s: Seconds | None = Field(None, description="end-to-end latency, seconds")
    itl_s: Seconds | None = Field(None, description="pooled p99 inter-token latency, seconds; no part of goodput")
    queue_s: Seconds | None = Field(None, description="time in the queue before being scheduled first, seconds")
    attainment: float | None = Field(None, gt=0, le=1, description="fraction of offered requests that must be good")

    @model_validator(mode="after")
    def _attainment_of_something(self) -> Self:
        if self.attainment is not None and not self.has_thresholds:
            raise ValueError("attainment: of which threshold? give ttft_s, tpot_s, e2e_s or queue_s too")
        return self

    @property
    def has_thresholds(self) -> bool:
        """True where something is asked of each request."""
        return any(limit is not None for limit in (self.ttft_s, self.tpot_s, self.e2e_s, self.queue_s))

    @property
    def deadline_s(self) -> float:
        """How long after its arrival a whole answer that comes at once is good for; inf: no threshold."""
        return min((limit for limit in (self.ttft_s, self.e2e_s) if limit is not None), default=inf)


class ClassSpec(Spec):
    """One request class: when requests come, how long they are, where they go and what they ask for."""

    arrivals: Annotated[Arrivals, Kind("arrivals"), Named] = Field(description="arrival process, or a trace to replay")
    prompt_tokens: LengthField | None = Field(None, description="law of the prompt length; a number means exactly that")
    output_tokens: LengthField | None = Field(None, description="law of the output length")
    lengths: Annotated[JointLengths, Kind("joint_length")] | None = Field(
        None, description="joint law of both, instead of the two above"
    )
    max_total_tokens: int | None = Field(None, ge=2, description="cap on prompt + output tokens")
    num_requests: int | None = Field(None, ge=1, description="stop after so many requests of this class")
    duration_s: Seconds | None = Field(None, description="stop arrivals of this class after so long")
    priority: int = Field(0, description="lower goes first where the scheduler looks at it")
    tenant: str = Field("default", description="whose requests they are")
    pool: str | None = Field(None, description="pool that serves this class; may be left out if there is only one")
    slo: SloSpec = Field(default_factory=SloSpec, description="what makes a request of this class good")
    timeout_s: Seconds | None = Field(
        None, description="the client gives up after so long without the whole answer, network both ways included"
    )
    patience: PatienceSpec | None = Field(None, description="when the client leaves because nothing has come")
    cancel: CancelSpec | None = Field(None, description="when the client interrupts an answer under way")
    retry: RetrySpec | None = Field(None, description="what the client does about a request that failed")

    @model_validator(mode="after")
    def _every_part_of_a_life_can_happen(self) -> Self:
        patience, retry = self.patience, self.retry
        if retry is not None and "abandoned" in retry.on and patience is None:
            raise ValueError("retry.on: nobody abandons a request without patience; give patience, or leave it out")
        fixed = patience is not None and patience.distribution == "fixed"
        if patience is not None and fixed and self.timeout_s is not None and patience.mean_s >= self.timeout_s:
            raise ValueError(
                f"patience.mean_s: timeout_s ({self.timeout_s:g}) always comes before {patience.mean_s:g} s"
            )
        return self

    @model_validator(mode="after")
    def _sessions_have_their_own_lives(self) -> Self:
        if isinstance(self.arrivals, SessionsArrivals):
            for key in ("patience", "cancel", "retry"):
                if getattr(self, key) is not None:
                    raise ValueError(f"{key}: not with sessions, whose users have `interrupt` and `timeout_s`")
        return self

    @model_validator(mode="after")
    def _one_source_of_lengths(self) -> Self:
        marginal = self.prompt_tokens is not None or self.output_tokens is not None
        if isinstance(self.arrivals, TraceArrivals):
            if marginal or self.lengths is not None:
                raise ValueError(
                    f"{self.arrivals.kind} fixes the lengths: leave out prompt_tokens, output_tokens, lengths"
                )
        elif self.lengths is not None:
            if marginal:
                raise ValueError("give either lengths or prompt_tokens and output_tokens, not both")
        elif self.prompt_tokens is None or self.output_tokens is None:
            raise ValueError("give prompt_tokens and output_tokens, or lengths")
        return self


class WorkloadSpec(Spec):
    """Everything that arrives."""

    classes: dict[Name, ClassSpec] = Field(min_length=1, description="request classes by name")
    num_requests: int | None = Field(None, ge=1, description="requests of each class that does not say itself")
    duration_s: Seconds | None = Field(None, description="end of arrivals for each class that does not say itself")

    @model_validator(mode="after")
    def _everything_ends(self) -> Self:
        for name, spec in self.classes.items():
            if spec.arrivals.ends_by_itself or self.num_requests or spec.num_requests:
                continue
            if not (self.duration_s or spec.duration_s) or spec.arrivals.needs_num_requests:
                raise ValueError(f"classes.{name}: nothing ends its arrivals: give num_requests or duration_s")
        return self


class PoolSpec(Spec):
    """A deployment of one model: identical replicas behind a router."""

    model: Annotated[str | ModelFile | None, NameOr(ModelFile, models)] = Field(
        None, description="catalog name, Hugging Face id, or {config: config.json}; needed unless times are inline"
    )
    gpu: Annotated[str | InlineGpu | None, NameOr(InlineGpu, gpus)] = Field(
        None, description="catalog name of the GPU, or its numbers; needed unless times are inline"
    )
    backend: Literal["vllm", "sglang", "trtllm"] = Field("vllm", description="whose kernels the service times are of")
    replicas: int = Field(1, ge=1, le=100_000, description="identical replicas")
    router: Annotated[Router, Kind("router"), Named] = Field(
        default_factory=RoundRobin, description="who gets which request"
    )
    engine: Annotated[EngineSpec, Kind("engine"), DefaultKind("continuous")] = Field(
        default_factory=ContinuousBatching, description="how a replica batches"
    )
    service_time: Annotated[ServiceTimeSpec, Kind("service_time"), Named] = Field(
        default_factory=Calibrated, description="how long an iteration takes"
    )
    usd_per_gpu_hour: float | None = Field(None, ge=0, description="price; null: the catalog's")


class ClientSpec(Spec):
    """Where latency is measured, and what lies between client and server."""

    clock: Literal["server", "client"] = Field("server", description="whose clock TTFT and E2E are read from")
    request_network_s: float = Field(0.0, ge=0, le=1e6, description="client to server")
    response_network_s: float = Field(0.0, ge=0, le=1e6, description="server to client, each token")


class LimitsSpec(Spec):
    """Caps that stop a run with exit code 4."""

    max_events: int = Field(2_000_000_000, ge=1, description="simulated events")
    max_time_s: Seconds = Field(1e9, description="simulated seconds")
    max_events_per_instant: int = Field(2_000_000, ge=1, description="events at one simulated instant")
    max_memory_bytes: int | None = Field(None, ge=1, description="memory of the process")


WHICH_POOL = "say which pool serves it: "
"""How the complaint about a class without a pool begins; the names of the pools follow."""


class Scenario(Spec):
    """A whole scenario."""

    name: Name = Field(description="what results are called")
    description: str = Field("", description="what it is about, and where its numbers come from")
    seed: int = Field(0, ge=0, description="seed of all random streams")
    workload: WorkloadSpec
    pools: dict[Name, PoolSpec] = Field(min_length=1, description="deployments by name")
    client: ClientSpec = Field(default_factory=ClientSpec)
    measurement: MeasurementSpec = Field(default_factory=MeasurementSpec, description="what of a run is measured")
    limits: LimitsSpec = Field(default_factory=LimitsSpec)
    sweep: SweepSpec | None = Field(None, description="what `servesim sweep` varies; a run takes no notice of it")

    @model_validator(mode="after")
    def _classes_find_their_pool(self) -> Self:
        for name, spec in self.workload.classes.items():
            if spec.pool is None and len(self.pools) > 1:
                raise ValueError(f"workload.classes.{name}: {WHICH_POOL}{', '.join(self.pools)}")
            if spec.pool is not None and spec.pool not in self.pools:
                raise ValueError(
                    f"workload.classes.{name}.pool: no pool {spec.pool!r}; there are {', '.join(self.pools)}"
                )
        if "all" in self.workload.classes:
            raise ValueError("workload.classes.all: the name 'all' is taken by the sum over the classes")
        unused = set(self.pools) - {self.pool_of(name) for name in self.workload.classes}
        for name in sorted(unused):
            raise ValueError(f"pools.{name}: no class is served by this pool")
        return self

    def pool_of(self, class_name: str) -> str:
        """Return the name of the pool that serves a class."""
        return self.workload.classes[class_name].pool or next(iter(self.pools))


def refresh() -> None:
    """Rebuild the models so that kinds registered since the first use are choices."""
    nested = sorted((cls for cls in kinds("arrivals").values() if cls.nesting), key=lambda cls: cls.nesting)
    models: list[type[BaseModel]] = [
        *nested,
        ByClass,
        ContinuousBatching,
        RequestBatching,
        Station,
        CancelSpec,
        ClassSpec,
        WorkloadSpec,
        PoolSpec,
        Scenario,
    ]
    for model in models:
        model.model_rebuild(force=True)
