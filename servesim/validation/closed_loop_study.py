"""All deployments' tuned numbers together, what those without runs get, and the errors of what is left out.

Values of a group (engine, GPU, model) are drawn a little towards the median of the engine's other GPUs and models,
which is also what deployments get of which no run was seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from servesim.validation.closed_loop import Loop
from servesim.validation.closed_loop_fit import Line, line_of
from servesim.validation.closed_loop_subject import NAMES, NEUTRAL, Floats, measured, subject

OF_THE_MODEL = np.array([False, True, True])
LEAST_ALIKE = 2

Group = tuple[str, str, str]


@dataclass(frozen=True)
class Study:
    """All groups' lines, their values, and the values pooled per engine."""

    lines: dict[Group, Line]
    values: dict[Group, Floats]

    def pooled(
        self, backend: str, model_name: str | None = None, without: Group | None = None, new_model: bool = False
    ) -> Floats:
        """Return the median of an engine's groups; what is about prefill from those of the same model, if there are 2.

        Left out is the group `without`, and with `new_model` every group of its model.

        How long kernels of a prefill take compared with the operator data, and how many there are to launch, is the
        model's; what communication takes beyond the data is not.
        """
        groups = [group for group in self.values if group[0] == backend and group != without]
        if new_model and without is not None:
            groups = [group for group in groups if group[2] != without[2]]
        alike = [group for group in groups if group[2] == model_name]
        if not groups:
            return NEUTRAL
        result = np.asarray(np.median([self.values[group] for group in groups], axis=0))
        if len(alike) >= LEAST_ALIKE:
            own = np.median([self.values[group] for group in alike], axis=0)
            result = np.where(OF_THE_MODEL, own, result)
        return result


def study(loops: Sequence[Loop], map_groups: Callable[..., Any] = map) -> Study:
    """Fit every group of `loops`, then draw each towards its engine's median."""
    groups: dict[Group, list[Loop]] = {}
    for loop in loops:
        groups.setdefault(loop.group, []).append(loop)
    lines = dict(zip(groups, map_groups(line_of, list(groups.values())), strict=True))
    first = Study(lines, {group: line.at for group, line in lines.items()})
    priors = [first.pooled(group[0], group[2], group) for group in groups]
    again = map_groups(line_of, list(groups.values()), [line.at for line in lines.values()], priors)
    lines = dict(zip(groups, again, strict=True))
    return Study(lines, {group: line.at for group, line in lines.items()})


def left_out(found: Study, group: Group, key: Callable[[Loop], str]) -> tuple[Floats, Floats]:
    """Return (errors, values) with all runs of equal `key` left out in turn, to first order.

    Errors are |simulated / measured - 1|, shape (runs, 3); NaN where nothing would be left to fit. Values have one row
    per fit.
    """
    line = found.lines[group]
    keys = np.array([key(loop) for loop in line.loops])
    prior = found.pooled(group[0], group[2], group)
    errors = np.full((len(keys), 3), np.nan)
    values = []
    for one in np.unique(keys):
        out = keys == one
        if out.all():
            continue
        fitted = line.solve(~out, prior)
        values.append(fitted)
        errors[out] = np.abs(np.exp(line.predicted(fitted) - measured(line.loops))[out] - 1.0)
    return errors, np.array(values).reshape(-1, len(NAMES))


def unseen(found: Study, group: Group, as_model: bool = True) -> Floats:
    """Return |simulated / measured - 1| of a group's runs with the values of the engine's other groups, (runs, 3).

    Without `as_model` the model is new, too: its groups on other GPUs are not looked at either.
    """
    loops = found.lines[group].loops
    values = found.pooled(group[0], group[2] if as_model else None, group, new_model=not as_model)
    replayed = np.array([subject(loop).times(values) for loop in loops])
    return np.abs(replayed / np.exp(measured(loops)) - 1.0)
