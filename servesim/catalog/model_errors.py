"""How far whole simulated runs were from measured ones, per validated deployment, and which of them is nearest.

`catalog/validation/errors*.yaml` hold lists of entries in the form of `DeploymentError`; `--errors FILE` of
`python -m servesim.validation` writes one. Of deployments whose runs were fitted (`catalog/deployments`) it is the
error on runs that the fit had not seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from statistics import median
from typing import Any

from pydantic import Field, NonNegativeFloat, PositiveInt, ValidationError

from servesim.catalog.deployments import FittedDeployment, RunError, fitted_deployments
from servesim.catalog.entries import parse_yaml
from servesim.catalog.layout import Layout
from servesim.catalog.model import ModelKind
from servesim.errors import InputError, Problem
from servesim.registry import Spec

METRICS = ("ttft_s", "tpot_s", "e2e_s")


class MetricError(Spec):
    """Median and 90th percentile of |simulated / measured - 1|, as shares."""

    median: NonNegativeFloat
    p90: NonNegativeFloat


class DeploymentError(Spec):
    """One validated deployment: `rows` measured rows (of a run with single requests: its mean, p50, p90 and p99).

    Without `gpu`, or without `model`, it is over all of them (of one `kind` of model, where that is named), each
    predicted from the others: the error to expect of one of which nothing was measured.

    With `layouts` it is of these alone, with `of_precision` of all with their weight formats, or with `other_layouts`
    of all but these: each predicted from the others.
    With `tuned`, parameters were tuned on other runs of this very deployment, and the error says nothing of others.
    With `blocks_to_spare`, none of the runs filled its KV blocks; with `kv_saturated` all did, of whatever deployments.
    """

    backend: str = Field(description="vllm, sglang, trtllm, triton")
    gpu: str | None = Field(None, description="catalog name")
    model: str | None = Field(None, description="catalog name")
    kind: ModelKind | None = Field(None, description="over models of this kind only")
    layouts: list[Layout] = Field([], description="number formats and parallelism of the runs; empty: any")
    of_precision: bool = Field(False, description="of all layouts with a weight format of `layouts`")
    other_layouts: bool = Field(False, description="of layouts that are not among `layouts`")
    tuned: bool = Field(False, description="parameters were tuned on runs of this very deployment")
    blocks_to_spare: bool = Field(False, description="of runs that leave KV blocks free")
    kv_saturated: bool = Field(False, description="of runs that fill the KV blocks")
    rows: PositiveInt
    source: str = Field(description="which measurement, and what was tuned on it")
    ttft_s: MetricError | None = None
    tpot_s: MetricError | None = None
    e2e_s: MetricError | None = None

    @property
    def pooled(self) -> bool:
        """Whether it is over several deployments, each predicted from the others."""
        return self.gpu is None or self.model is None

    def measured(self, layout: Layout | None) -> bool:
        """Say whether runs of this layout are behind it; of None, which is any, there are."""
        return not self.layouts or layout is None or layout in self.layouts

    def holds_for(self, layout: Layout | None) -> bool:
        """Say whether it is the error of this layout: one of those measured, or what is told of others."""
        if self.of_precision and layout is not None:
            return layout.precision in {one.precision for one in self.layouts}
        return self.measured(layout) != self.other_layouts


EXACT = "this deployment"
OTHER_LAYOUT = "this engine, GPU and model with other parallelism or precision"
WHOLE_REQUESTS = ("triton",)
"""Engines that batch whole requests: their errors say nothing of continuous batching, nor the other way round."""
LEAST_OTHERS = 2
# How near other deployments are: what they have in common with the one asked about, the nearest first. The engine comes
# before the model, since what is tuned for deployments that nobody measured is the engine's.
NEARNESS = (
    (("backend", "model"), "the same engine and model on another GPU"),
    (("backend", "gpu"), "the same engine and GPU with another model"),
    (("backend",), "the same engine with another GPU and model"),
    (("model",), "the same model under another engine"),
    (("gpu",), "the same GPU with another engine and model"),
    ((), "another engine, GPU and model"),
)


@dataclass(frozen=True, slots=True)
class ModelError:
    """The error of the nearest validated deployments: what they share with the one asked about, and how many they are.

    Of several, the median is that of their medians, and the p90 is their largest. `blocks_to_spare`: some of them were
    validated only where KV blocks stayed free. `kv_saturated` names the metrics whose error is that of runs with full
    KV blocks, because it is wider.
    """

    nearest: str
    deployments: tuple[str, ...]
    metrics: dict[str, MetricError]
    blocks_to_spare: bool = False
    kv_saturated: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        errors = {name: one.model_dump() for name, one in self.metrics.items()}
        blocks = {"blocks_to_spare": self.blocks_to_spare, "kv_saturated": list(self.kv_saturated)}
        return {"nearest": self.nearest, "deployments": list(self.deployments), **errors, **blocks}

    @staticmethod
    def from_json(data: dict[str, Any]) -> ModelError:
        """Return what `to_json` made `data` of."""
        metrics = {name: MetricError(**data[name]) for name in METRICS if name in data}
        blocks = data["blocks_to_spare"], tuple(data["kv_saturated"])
        return ModelError(data["nearest"], tuple(data["deployments"]), metrics, *blocks)

    def with_full_blocks(self, known: Sequence[DeploymentError] | None = None) -> ModelError:
        """Return the error of such a deployment whose KV blocks are full: of runs where they were, if that is wider."""
        if not self.blocks_to_spare:
            return self
        full = _together([entry for entry in (validated() if known is None else known) if entry.kv_saturated])
        wider = {name: _wider(one, full[name]) for name, one in self.metrics.items() if name in full}
        changed = tuple(name for name, one in wider.items() if one != self.metrics[name])
        return replace(self, metrics={**self.metrics, **wider}, kv_saturated=changed)


def _wider(one: MetricError, other: MetricError) -> MetricError:
    return MetricError(median=max(one.median, other.median), p90=max(one.p90, other.p90))


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
    return (*written, *(error for entry in fitted_deployments() for error in _of_fitted(entry)))


def _of_fitted(entry: FittedDeployment) -> Iterator[DeploymentError]:
    """Yield what the runs left out of a fit say, and whole layouts left out of it."""
    for errors, other in ((entry.error_held_out, False), (entry.error_other_layouts, True)):
        if errors is not None:
            yield DeploymentError(
                backend=entry.backend,
                gpu=entry.gpu,
                model=entry.model,
                kind=entry.kind,
                layouts=entry.layouts,
                other_layouts=other,
                tuned=bool(entry.layouts),
                blocks_to_spare=True,
                rows=errors.runs,
                source=entry.source,
                ttft_s=_metric(errors.ttft),
                tpot_s=_metric(errors.tpot),
                e2e_s=_metric(errors.e2e),
            )


def _metric(error: RunError) -> MetricError:
    return MetricError(median=error.median, p90=error.p90)


def model_error(
    backend: str,
    gpu: str | None,
    model: str | None,
    layout: Layout | None = None,
    kind: str | None = None,
    known: Sequence[DeploymentError] | None = None,
    corrected: bool = True,
) -> ModelError | None:
    """Return the error of the validated deployments nearest to this one; None where none has anything in common.

    Of this very deployment, if there is one that holds for its `layout`; what other layouts said of each other only
    where nothing was measured that holds for its precision. One other deployment that happened to be
    predicted well says little, so else the nearest kind of which there are LEAST_OTHERS is taken, else the widest of
    which there is any. Where deployments were predicted from each other, that is the answer for their kind, of models
    of the same `kind` ("dense" or "moe") where it was done for these. Without `corrected` the times lack what was tuned
    on this very deployment (a calibration of one's own, corrections left out), so errors of it tuned say nothing.
    """
    asked = {"backend": backend, "gpu": gpu, "model": model}
    entries = [
        entry
        for entry in (validated() if known is None else known)
        if (entry.backend in WHOLE_REQUESTS) == (backend in WHOLE_REQUESTS) and not entry.kv_saturated
    ]
    own = [entry for entry in entries if not entry.pooled and _shares(entry, asked, tuple(asked))]
    own = [entry for entry in own if corrected or not entry.tuned]
    if own := [entry for entry in own if entry.holds_for(layout)]:
        own = [entry for entry in own if not entry.other_layouts] or own
        exact = [entry for entry in own if entry.measured(layout) and not entry.other_layouts]
        return _error(EXACT, exact) if exact else _error(OTHER_LAYOUT, own)
    widest = None
    for shared, words in NEARNESS:
        alike = [entry for entry in entries if not entry.tuned and _shares(entry, asked, shared)]
        pooled = [entry for entry in alike if entry.pooled and _named(entry) == set(shared) - {"backend"}]
        if pooled := [entry for entry in pooled if entry.kind == kind] or [e for e in pooled if e.kind is None]:
            return _error(words, pooled)
        if found := [entry for entry in alike if shared and not entry.pooled]:
            widest = _error(words, found)
            if len(widest.deployments) >= LEAST_OTHERS:
                return widest
    return widest


def _error(words: str, found: Sequence[DeploymentError]) -> ModelError:
    names = tuple(sorted({_name(one) for one in found}))
    return ModelError(words, names, _together(found), any(one.blocks_to_spare for one in found))


def _shares(entry: DeploymentError, asked: dict[str, str | None], keys: Sequence[str]) -> bool:
    return all(asked[key] is not None and getattr(entry, key) == asked[key] for key in keys)


def _named(entry: DeploymentError) -> set[str]:
    """Return which of GPU and model a pooled entry is of."""
    return {key for key in ("gpu", "model") if getattr(entry, key) is not None}


def _name(entry: DeploymentError) -> str:
    if entry.pooled:
        of = ", ".join(part for part in (entry.backend, entry.gpu, entry.model) if part)
        return f"{entry.rows} runs of {of}, each deployment predicted from the others"
    name = f"{entry.model} on {entry.gpu} ({entry.backend})"
    if entry.other_layouts:
        return f"{entry.rows} runs of {name}, each parallelism and precision predicted from the others"
    return name


def _together(found: Sequence[DeploymentError]) -> dict[str, MetricError]:
    errors = {}
    for name in METRICS:
        known = [error for entry in found if (error := getattr(entry, name)) is not None]
        if known:
            errors[name] = MetricError(median=median(one.median for one in known), p90=max(one.p90 for one in known))
    return errors
