"""The catalog's entries of tuned deployments: their values, and their errors on what the fit had not seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from servesim.catalog.deployments import FittedDeployment
from servesim.catalog.layout import in_order
from servesim.validation.closed_loop import Loop
from servesim.validation.closed_loop_study import (
    LEAST_ALIKE,
    Group,
    Study,
    group_left_out,
    kind_of,
    layout_left_out,
    model_left_out,
    refits,
    run_left_out,
)
from servesim.validation.closed_loop_subject import ENGINE_WIDE, NAMES, Floats, measured

SOURCE = "closed-loop runs of aiconfigurator 0.12.0 (Apache-2.0)"


def run_errors(errors: Floats, by_run: bool = False) -> dict[str, Any]:
    """Return median and 90th percentile per metric over the runs that have errors, and with `by_run` each of them."""
    known = errors[~np.isnan(errors[:, 0])]
    q50, q90 = np.quantile(known, [0.5, 0.9], axis=0)
    named = {
        name: {"median": round(float(a), 4), "p90": round(float(b), 4)}
        for name, a, b in zip(("ttft", "tpot", "e2e"), q50, q90, strict=True)
    }
    each = [[round(float(value), 4) for value in row] for row in known] if by_run else []
    return {"runs": len(known), **named, "by_run": each}


def _spread(values: Floats) -> dict[str, float]:
    known = values[~np.isnan(values).any(axis=1)]
    if not len(known):  # a single run: nothing is left to fit when it is left out
        return {}
    centre = np.median(known, axis=0)
    mad = 1.4826 * np.median(np.abs(known - centre), axis=0)
    return {name: _short(value) for name, value in zip(NAMES, mad, strict=True)}


def _short(value: float) -> float:
    return float(f"{value:.4g}")


@dataclass(frozen=True)
class LeftOut:
    """The errors of every group's runs, shape (runs, 3): with what left out, or unknown to the fit, they are found."""

    run: dict[Group, Floats]
    layout: dict[Group, Floats]
    group: dict[Group, Floats]
    model: dict[Group, Floats]


def everything_left_out(found: Study, map_groups: Callable[..., Any] = map) -> LeftOut:
    """Return all groups' errors with a run, a layout, the group and its model left out."""
    groups = list(found.lines)
    each = (run_left_out, layout_left_out, group_left_out, model_left_out)
    parts = [map_groups(errors_of, [found] * len(groups), groups) for errors_of in each]
    return LeftOut(*(dict(zip(groups, errors, strict=True)) for errors in parts))


def entries(found: Study, errors: LeftOut, digest: str) -> list[FittedDeployment]:
    """Return the catalog's entries: one per group, and the pooled ones of each engine."""
    result = [_group_entry(found, group, errors, digest) for group in found.lines]
    for backend in sorted({group[0] for group in found.lines}):
        result += _pooled_entries(found, backend, errors, digest)
    return result


def _group_entry(found: Study, group: Group, errors: LeftOut, digest: str) -> FittedDeployment:
    line = found.lines[group]
    layouts = in_order(loop.layout for loop in line.loops)
    others = {"error_other_layouts": run_errors(errors.layout[group], by_run=True)} if len(layouts) > 1 else {}
    return _entry(
        {"backend": group[0], "gpu": group[1], "model": group[2]},
        found.values[group],
        refits(found, group, lambda loop: loop.name),
        line.loops,
        digest,
        np.abs(np.exp(line.here - measured(line.loops)) - 1.0),
        errors.run[group] if len(line.loops) > 2 else errors.group[group],
        {"layouts": [layout.model_dump() for layout in layouts], **others},
    )


def _pooled_entries(found: Study, backend: str, errors: LeftOut, digest: str) -> Iterator[FittedDeployment]:
    """Yield what deployments of which no run was seen get, with the errors of predicting each member from others.

    Where one model is all there is of a kind, its own error without itself is that of the wrong kind; the engine's
    whole is told instead.
    """
    members = [group for group in found.lines if group[0] == backend]

    def entry(place: dict[str, str], alike: list[Group], out: list[Floats]) -> FittedDeployment:
        values = found.pooled(backend, place.get("model"), place.get("kind"))
        scatter = np.array([found.alone[group] for group in alike])
        loops = [loop for group in alike for loop in found.lines[group].loops]
        held_out = np.concatenate(out)
        return _entry({"backend": backend, **place}, values, scatter, loops, digest, held_out, held_out)

    every = [errors.model[group] for group in members]
    yield entry({}, members, every)
    for kind in sorted({kind_of(group) for group in members}):
        alike = [group for group in members if kind_of(group) == kind]
        if len(alike) >= LEAST_ALIKE:
            several = len({group[2] for group in alike}) > 1
            yield entry({"kind": kind}, alike, [errors.model[group] for group in alike] if several else every)
    for name in sorted({group[2] for group in members}):
        alike = [group for group in members if group[2] == name]
        if len(alike) > LEAST_ALIKE:
            yield entry({"model": name}, alike, [errors.group[group] for group in alike])


def _entry(
    place: dict[str, str],
    values: Floats,
    scatter: Floats,
    loops: list[Loop],
    digest: str,
    own: Floats,
    held_out: Floats,
    more: dict[str, Any] | None = None,
) -> FittedDeployment:
    return FittedDeployment.model_validate(
        {
            "schema_version": 1,
            **place,
            "fitted": {name: _short(value) for name, value in zip(NAMES, values, strict=True)},
            "engine_wide": ENGINE_WIDE[place["backend"]],
            "spread": _spread(scatter),
            "source": SOURCE,
            "input_sha256": digest,
            "runs": sorted(loop.name for loop in loops),
            "error": run_errors(own),
            "error_held_out": run_errors(held_out, by_run=True),
            **(more or {}),
        }
    )
