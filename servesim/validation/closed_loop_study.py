"""All deployments' tuned numbers together, what those without runs get, and the errors of what is left out.

Values of a group (engine, GPU, model) are drawn a little towards the median of what the engine's other GPUs and models
say by themselves, which is also what deployments get of which no run was seen. Priors and pooled values are made of
fits without a prior, so that nothing which is left out reaches its own prediction through the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from servesim.catalog import model
from servesim.validation.closed_loop import Loop
from servesim.validation.closed_loop_fit import Line, line_of
from servesim.validation.closed_loop_subject import NAMES, NEUTRAL, OF_THE_MODEL, Floats, measured, subject

LEAST_ALIKE = 2

Group = tuple[str, str, str]


def kind_of(group: Group) -> str:
    """Return whether the group's model is dense or a mixture of experts."""
    return model(group[2]).kind


@dataclass(frozen=True)
class Study:
    """All groups' lines and values, and `alone`: what each group's own runs say without a prior."""

    lines: dict[Group, Line]
    values: dict[Group, Floats]
    alone: dict[Group, Floats]

    def pooled(
        self,
        backend: str,
        model_name: str | None = None,
        kind: str | None = None,
        without: Callable[[Group], bool] | None = None,
    ) -> Floats:
        """Return the median of an engine's groups; of what is the model's, of those of the same model, if there are 2.

        If not, of those with models of its kind, if there are 2. Groups `without` says True of are left out.
        """
        groups = [group for group in self.alone if group[0] == backend and not (without and without(group))]
        if not groups:
            return NEUTRAL
        result = self._median(groups)
        kind = kind if model_name is None else model(model_name).kind
        same = [group for group in groups if group[2] == model_name]
        for alike in (same, [group for group in groups if kind_of(group) == kind]):
            if len(alike) >= LEAST_ALIKE:
                return np.where(OF_THE_MODEL, self._median(alike), result)
        return result

    def _median(self, groups: list[Group]) -> Floats:
        return np.asarray(np.median([self.alone[group] for group in groups], axis=0))

    def prediction(self, group: Group, new_model: bool = False) -> Floats:
        """Return what the engine's other groups say of this one; with `new_model` those of its model do not, either."""
        return self.pooled(
            group[0],
            group[2],
            without=lambda other: other == group or (new_model and other[2] == group[2]),
        )


def study(loops: Sequence[Loop], map_groups: Callable[..., Any] = map) -> Study:
    """Fit every group of `loops`, then draw each towards the median of its engine's others."""
    groups: dict[Group, list[Loop]] = {}
    for loop in loops:
        groups.setdefault(loop.group, []).append(loop)
    lines = dict(zip(groups, map_groups(line_of, list(groups.values())), strict=True))
    alone = {group: line.at for group, line in lines.items()}
    first = Study(lines, alone, alone)
    priors = [first.prediction(group) for group in groups]
    again = map_groups(line_of, list(groups.values()), [line.at for line in lines.values()], priors)
    lines = dict(zip(groups, again, strict=True))
    return Study(lines, {group: line.at for group, line in lines.items()}, alone)


def refits(found: Study, group: Group, key: Callable[[Loop], object], truly: bool = False) -> Floats:
    """Return, for each run, the group's values with all runs of equal `key` left out, shape (runs, len(NAMES)).

    To first order around the whole fit, which is enough for single runs, or `truly` from a start that has not seen the
    group. NaN where nothing would be left to fit.
    """
    line, prior = found.lines[group], found.prediction(group)
    keys = [key(loop) for loop in line.loops]
    values = np.full((len(keys), len(NAMES)), np.nan)
    for one in dict.fromkeys(keys):
        kept = np.array([other != one for other in keys])
        if not kept.any():
            continue
        if truly:
            values[~kept] = line_of([line.loops[i] for i in np.flatnonzero(kept)], prior, prior).at
        else:
            values[~kept] = line.solve(kept, prior)
    return values


def replay_errors(loops: Sequence[Loop], values: Floats) -> Floats:
    """Return |simulated / measured - 1| of runs replayed with their row of `values`, shape (runs, 3); NaN for NaN."""
    errors = np.full((len(loops), 3), np.nan)
    for row, (loop, own) in enumerate(zip(loops, values, strict=True)):
        if not np.isnan(own).any():
            errors[row] = np.abs(subject(loop).times(own) / np.exp(measured([loop])[0]) - 1.0)
    return errors


def run_left_out(found: Study, group: Group) -> Floats:
    """Return the errors of runs replayed with what is fitted without them, shape (runs, 3)."""
    return replay_errors(found.lines[group].loops, refits(found, group, lambda loop: loop.name))


def layout_left_out(found: Study, group: Group) -> Floats:
    """Return the errors of runs replayed with what is fitted without all runs of their layout, shape (runs, 3)."""
    return replay_errors(found.lines[group].loops, refits(found, group, lambda loop: loop.layout, truly=True))


def group_left_out(found: Study, group: Group) -> Floats:
    """Return the errors of runs replayed with the values of the engine's other groups, shape (runs, 3)."""
    return _predicted(found, group, found.prediction(group))


def model_left_out(found: Study, group: Group) -> Floats:
    """Return the same with the values of the engine's groups of other models."""
    return _predicted(found, group, found.prediction(group, new_model=True))


def _predicted(found: Study, group: Group, values: Floats) -> Floats:
    loops = found.lines[group].loops
    return replay_errors(loops, np.tile(values, (len(loops), 1)))
