"""How far whole simulated runs were from measured ones, per validated deployment, and which of them is nearest.

`catalog/validation/errors*.yaml` hold lists of entries in the form of `DeploymentError`; `--errors FILE` of
`python -m servesim.validation` writes one. Of deployments whose runs were fitted (`catalog/deployments`) it is the
error on runs that the fit had not seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from statistics import median
from typing import Any

from pydantic import Field, NonNegativeFloat, PositiveInt, ValidationError

from servesim.catalog.deployments import FittedDeployment, fitted_deployments
from servesim.catalog.entries import parse_yaml
from servesim.errors import InputError, Problem
from servesim.registry import Spec

METRICS = ("ttft_s", "tpot_s", "e2e_s")


class MetricError(Spec):
    """Median and 90th percentile of |simulated / measured - 1|, as shares."""

    median: NonNegativeFloat
    p90: NonNegativeFloat


class DeploymentError(Spec):
    """One validated deployment: `rows` measured rows (of a run with single requests: its mean, p50, p90 and p99).

    Without `gpu`, or without `model`, it is over all of them, each predicted from the others: the error to expect of
    one of which nothing was measured.
    """

    backend: str = Field(description="vllm, sglang, trtllm, triton")
    gpu: str | None = Field(None, description="catalog name")
    model: str | None = Field(None, description="catalog name")
    rows: PositiveInt
    source: str = Field(description="which measurement, and what was tuned on it")
    ttft_s: MetricError | None = None
    tpot_s: MetricError | None = None
    e2e_s: MetricError | None = None

    @property
    def shared(self) -> set[str]:
        """What is named of engine, GPU and model: all three but of pooled entries."""
        return {key for key in ("backend", "gpu", "model") if getattr(self, key) is not None}


EXACT = "this deployment"
WHOLE_REQUESTS = ("triton",)
"""Engines that batch whole requests: their errors say nothing of continuous batching, nor the other way round."""
LEAST_OTHERS = 2
# How near a validated deployment is: what it has in common with the one asked about, the nearest first.
NEARNESS = (
    (("backend", "gpu", "model"), EXACT),
    (("backend", "model"), "the same engine and model on another GPU"),
    (("model",), "the same model under another engine"),
    (("backend", "gpu"), "the same engine and GPU with another model"),
    (("gpu",), "the same GPU with another engine and model"),
    (("backend",), "the same engine with another GPU and model"),
)


@dataclass(frozen=True, slots=True)
class ModelError:
    """The error of the nearest validated deployments: what they share with the one asked about, and how many they are.

    Of several, the median is that of their medians, and the p90 is their largest.
    """

    nearest: str
    deployments: tuple[str, ...]
    metrics: dict[str, MetricError]

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        errors = {name: one.model_dump() for name, one in self.metrics.items()}
        return {"nearest": self.nearest, "deployments": list(self.deployments), **errors}


def read_errors(path: Path) -> list[DeploymentError]:
    """Return the entries of a file; InputError if it does not fit the form."""
    try:
        return [DeploymentError.model_validate(entry) for entry in parse_yaml(path.read_text(encoding="utf-8")) or []]
    except OSError as error:
        raise InputError(Problem(f"cannot read the errors: {error.strerror}", file=str(path))) from error
    except ValidationError as error:
        problems = [
            Problem(part["msg"], path=".".join(map(str, part["loc"])), file=str(path)) for part in error.errors()
        ]
        raise InputError(problems) from error


@cache
def validated() -> tuple[DeploymentError, ...]:
    """Return all validated deployments that ship with servesim."""
    root = Path(str(files("servesim.catalog"))) / "validation"
    written = [entry for path in sorted(root.glob("errors*.yaml")) for entry in read_errors(path)]
    return (*written, *map(_of_fitted, fitted_deployments()))


def _of_fitted(entry: FittedDeployment) -> DeploymentError:
    """Return what the runs left out of a fit say."""
    left_out = entry.error_held_out
    errors = {
        f"{name}_s": MetricError(median=one.median, p90=one.p90)
        for name, one in (("ttft", left_out.ttft), ("tpot", left_out.tpot), ("e2e", left_out.e2e))
    }
    return DeploymentError(
        backend=entry.backend, gpu=entry.gpu, model=entry.model, rows=left_out.runs, source=entry.source, **errors
    )


def model_error(
    backend: str, gpu: str | None, model: str | None, known: Sequence[DeploymentError] | None = None
) -> ModelError | None:
    """Return the error of the validated deployments nearest to this one; None where none has anything in common.

    One other deployment that happened to be predicted well says little, so unless it is this very one, the nearest kind
    of which there are LEAST_OTHERS is taken, else the widest of which there is any. Where deployments were predicted
    from each other, that is the answer for their kind.
    """
    asked = {"backend": backend, "gpu": gpu, "model": model}
    widest = None
    for shared, words in NEARNESS:
        alike = [
            entry
            for entry in (validated() if known is None else known)
            if (entry.backend in WHOLE_REQUESTS) == (backend in WHOLE_REQUESTS)
            and all(asked[key] is not None and getattr(entry, key) == asked[key] for key in shared)
        ]
        pooled = [entry for entry in alike if words != EXACT and entry.shared == set(shared)]
        if pooled:
            return ModelError(words, tuple(_name(one) for one in pooled), _together(pooled))
        found = [entry for entry in alike if entry.shared == set(asked)]
        if found:
            names = tuple(sorted({_name(one) for one in found}))
            widest = ModelError(words, names, _together(found))
            if words == EXACT or len(names) >= LEAST_OTHERS:
                return widest
    return widest


def _name(entry: DeploymentError) -> str:
    if entry.gpu is not None and entry.model is not None:
        return f"{entry.model} on {entry.gpu} ({entry.backend})"
    of = ", ".join(part for part in (entry.backend, entry.gpu, entry.model) if part)
    return f"{entry.rows} runs of {of}, each deployment predicted from the others"


def _together(found: Sequence[DeploymentError]) -> dict[str, MetricError]:
    errors = {}
    for name in METRICS:
        known = [error for entry in found if (error := getattr(entry, name)) is not None]
        if known:
            errors[name] = MetricError(median=median(one.median for one in known), p90=max(one.p90 for one in known))
    return errors
