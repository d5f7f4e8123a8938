"""The validation book: sections that each replay some measured runs, put together, stored and gated.

A section is one module with `section(data) -> Section`; `SECTIONS` names those modules in the order of the page. A
figure is an error as a share (0.04 is 4 %) under a dotted name, such as `closed_loop.visible.tpot.median`; a target is
the largest value of the figure of the same name that counts as accurate.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module, util
from pathlib import Path

import numpy as np

from servesim.catalog.model_errors import DeploymentError, MetricError

# A figure has moved if it differs from the committed one by more than what another machine's rounding does.
ROUNDING = 0.0005

OF_THIS_MACHINE = "live."
"""Figures measured anew wherever the book is made: they are held against their targets, not against those committed."""

SECTIONS = (
    "servesim.validation.closed_loop",
    "servesim.validation.rtx4090",
    "servesim.validation.vllm_cpu",
    "servesim.validation.triton",
    "servesim.validation.ttft",
    "servesim.validation.live",
)


@dataclass(frozen=True)
class Section:
    """One part of the book: its text, its figures (errors as shares) and the targets some of them have.

    `pictures` maps a file name (`validation-*.png`) to what writes that picture to a path. `errors` are what results of
    the deployments validated here, and of those near them, carry as the model's error.
    """

    title: str
    markdown: str
    figures: dict[str, float]
    targets: dict[str, float] = field(default_factory=dict)
    pictures: Mapping[str, Callable[[Path], None]] = field(default_factory=dict)
    errors: list[DeploymentError] = field(default_factory=list)


def metric_error(errors: Sequence[float]) -> MetricError:
    """Return median and 90th percentile of |errors|, rounded for a file."""
    median, p90 = np.quantile(np.abs(errors), [0.5, 0.9])
    return MetricError(median=float(f"{median:.3g}"), p90=float(f"{p90:.3g}"))


def collect(data: Path, only: tuple[str, ...] = ()) -> Iterator[tuple[str, Section]]:
    """Yield (short name, section) of every section module that exists and finds its data under `data`."""
    for module in SECTIONS:
        name = module.rpartition(".")[2]
        if only and name not in only:
            continue
        if util.find_spec(module) is None or not hasattr(found := import_module(module), "section"):
            continue
        yield name, found.section(data)


@dataclass(frozen=True)
class Verdict:
    """What a gate says: figures that moved, misses that are new, and misses that the committed book knows."""

    moved: dict[str, tuple[float | None, float | None]]
    new_misses: dict[str, tuple[float, float]]
    known_misses: dict[str, tuple[float, float]]


def misses(figures: dict[str, float], targets: dict[str, float]) -> dict[str, tuple[float, float]]:
    """Return (figure, target) of every figure over its target."""
    return {
        name: (figures[name], target)
        for name, target in targets.items()
        if name in figures and not figures[name] <= target
    }


def compare(figures: dict[str, float], targets: dict[str, float], committed: dict[str, dict[str, float]]) -> Verdict:
    """Judge fresh figures against the committed ones: did any move, and is any newly over its target?"""
    old = committed["figures"]
    moved = {
        name: (old.get(name), figures.get(name))
        for name in sorted(old.keys() | figures.keys())
        if not name.startswith(OF_THIS_MACHINE) and not _same(old.get(name), figures.get(name))
    }
    known = misses(old, {**committed["targets"], **targets})
    found = misses(figures, targets)
    return Verdict(
        moved,
        {name: pair for name, pair in found.items() if name not in known},
        {name: pair for name, pair in found.items() if name in known},
    )


def _same(old: float | None, new: float | None) -> bool:
    if old is None or new is None:
        return False
    return math.isclose(old, new, rel_tol=0.0, abs_tol=ROUNDING)


def dumps(figures: dict[str, float], targets: dict[str, float]) -> str:
    """Return the text of docs/validation.json, sorted and rounded so that the same figures give the same bytes."""
    rounded = {name: round(value, 4) for name, value in sorted(figures.items())}
    return json.dumps({"figures": rounded, "targets": dict(sorted(targets.items()))}, indent=1) + "\n"
