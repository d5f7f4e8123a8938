"""What comparing whole runs with measured ones taught about a deployment: corrections, and the error that is left."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from servesim.catalog.entries import parse_yaml
from servesim.catalog.layout import Layout
from servesim.catalog.model import ModelKind, model
from servesim.registry import Spec


class RunError(Spec):
    """Absolute relative error |simulated / measured - 1| of whole runs."""

    median: NonNegativeFloat
    p90: NonNegativeFloat


class RunErrors(Spec):
    """Errors of mean TTFT, mean TPOT and mean end-to-end latency over `runs` runs.

    `by_run` has those of each run, so that figures of several deployments can be put together; empty where not kept.
    """

    runs: PositiveInt
    ttft: RunError
    tpot: RunError
    e2e: RunError
    by_run: list[list[float]] = Field([], description="TTFT, TPOT and E2E of each run")


class Fitted(Spec):
    """The parameters tuned, under the names of the engine settings they are defaults of."""

    communication_time_per_layer_s: float = 0.0
    prefill_factor: PositiveFloat = 1.0
    prefill_floor_per_layer_s: NonNegativeFloat = 0.0


class EngineWide(Spec):
    """Corrections that are the same for all deployments of an engine: round numbers, chosen once on the runs of all."""

    context_factor: PositiveFloat = Field(1.0, description="on what the context adds to an iteration")
    expert_batch_factor: PositiveFloat = Field(1.0, description="on what further sequences add, in mixtures of experts")
    nvfp4_time_per_layer_s: NonNegativeFloat = Field(0.0, description="per iteration: bringing activations into NVFP4")
    admission_time_per_token_s: NonNegativeFloat = Field(0.0, description="per prompt token: receiving, tokenisation")

    def settings(self, experts: bool, quantization: str | None) -> dict[str, float]:
        """Return the engine settings that these are defaults of, for a model with or without experts."""
        return {
            "context_factor": self.context_factor,
            "batch_factor": self.expert_batch_factor if experts else 1.0,
            "iteration_time_per_layer_s": self.nvfp4_time_per_layer_s if quantization == "nvfp4" else 0.0,
            "admission_time_per_token_s": self.admission_time_per_token_s,
        }


class FittedDeployment(Spec):
    """Parameters of an engine on a GPU with a model, fitted to measured runs.

    Without `gpu`, or without both, it is pooled over all of them, or over all models of one `kind`: for deployments of
    which no run was seen, with the errors of predicting each deployment from the others. `spread` is what leaving out
    one run (pooled: one deployment) does to each parameter: 1.4826 median absolute deviations.

    `layouts` are those that its runs had, and `error_other_layouts` what became of the runs of each when the fit had
    seen only the others: the error of a layout that is not among them. None where there was only one, and of pooled
    entries.
    """

    schema_version: PositiveInt
    backend: str
    gpu: str | None = None
    model: str | None = None
    kind: ModelKind | None = None
    fitted: Fitted
    engine_wide: EngineWide
    spread: dict[str, float]
    source: str
    input_sha256: str
    runs: list[str] = Field(description="identifiers of the runs it was fitted to")
    error: RunErrors = Field(description="on the very runs it was fitted to")
    error_held_out: RunErrors = Field(description="on runs (pooled: deployments) that were left out in turn")
    layouts: list[Layout] = Field([], description="formats and parallelism of those runs")
    error_other_layouts: RunErrors | None = None

    @property
    def name(self) -> str:
        """The file name without its ending."""
        return "-".join(part for part in (self.backend, self.gpu, self.model, self.kind) if part)


class _Place(NamedTuple):
    backend: str
    gpu: str | None = None
    model: str | None = None
    kind: str | None = None


def deployments_folder() -> Path:
    """Return where the files lie."""
    return Path(str(files("servesim.catalog"))) / "deployments"


@cache
def _entries() -> dict[_Place, FittedDeployment]:
    found = {}
    for path in sorted(deployments_folder().glob("*.yaml")):
        entry = FittedDeployment.model_validate(parse_yaml(path.read_text(encoding="utf-8")))
        found[_Place(entry.backend, entry.gpu, entry.model, entry.kind)] = entry
    return found


def fitted_deployments() -> tuple[FittedDeployment, ...]:
    """Return all fitted deployments, pooled ones included."""
    return tuple(_entries().values())


def fitted_deployment(backend: str, gpu: str, model_name: str) -> FittedDeployment | None:
    """Return the entry of this engine, GPU and model, else the nearest pooled one, None where there is none.

    Nearest: the same engine and model, then the same engine with models of its kind, then the same engine.
    """
    entries = _entries()
    places = (
        _Place(backend, gpu, model_name),
        _Place(backend, model=model_name),
        _Place(backend, kind=model(model_name).kind),
        _Place(backend),
    )
    return next((entries[place] for place in places if place in entries), None)
