"""Replicating until the numbers are as precise as asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from servesim.errors import InputError, Problem
from servesim.experiment.combine import combined, replication_intervals
from servesim.experiment.replicate import Replications, Runs, Told, checked_number
from servesim.experiment.simulate import Progress
from servesim.scenario.schema import Scenario

LEAST_REPLICATIONS = 10
HEADLINES = (
    "ttft_s.mean",
    "ttft_s.p99",
    "tpot_s.mean",
    "tpot_s.p99",
    "e2e_s.mean",
    "e2e_s.p99",
    "request_throughput_rps",
    "goodput_rps",
)


def replicate_until(
    scenario: Scenario | str | Path,
    precision: float,
    most: int = 200,
    metrics: Sequence[str] = (),
    seed: int | None = None,
    workers: int = 1,
    progress: Told | None = None,
    first_progress: Progress | None = None,
) -> Replications:
    """Replicate until every metric's 95 % half-width is at most `precision` times its value, or there are `most`.

    `metrics` are names such as `e2e_s.p99`, of all classes together, or `chat.e2e_s.p99`, of one; by default HEADLINES,
    as far as they are defined. The rule of Chow and Robbins ("On the asymptotic theory of fixed-width sequential
    confidence intervals for the mean", Annals of Mathematical Statistics 36(2), 1965) is looked at after each
    replication from the tenth on, in order, so that the number of workers changes nothing. A metric that has no
    interval is not waited for. `stopping` says what was reached. Raises InputError for a metric that does not exist.
    """
    if isinstance(precision, bool) or not isinstance(precision, int | float) or not 0 < precision < 1:
        raise InputError(f"precision: a number between 0 and 1, not {precision!r}")
    if checked_number(most, "max-replications") < LEAST_REPLICATIONS:
        raise InputError(f"max-replications: at least {LEAST_REPLICATIONS}, not {most}")
    runs = Runs(scenario, seed, workers, first_progress)
    wanted = wanted_metrics(runs.summaries[0], metrics)
    count, last = LEAST_REPLICATIONS, ""
    while True:
        # A few at a time keep the workers busy; those beyond the one at which to stop are forgotten.
        runs.extend(min(most, count + workers - 1), progress)
        for number in range(count, len(runs.summaries) + 1):
            widths = _widths(runs, number, wanted)
            far = {name: width for name, width in widths.items() if not width <= precision and not math.isnan(width)}
            if not far or number == most:
                return _stopped(runs, number, precision, widths, last, bool(far))
            last = max(far, key=lambda name: far[name])
        count = len(runs.summaries) + 1


def _stopped(runs: Runs, number: int, precision: float, widths: dict[str, float], last: str, far: bool) -> Replications:
    found = runs.replications(number)
    found.stopping = {
        "precision": precision,
        "reached": not far and not any(map(math.isnan, widths.values())),
        "last": max(widths, key=lambda name: (not math.isnan(widths[name]), widths[name])) if far else last or None,
        "relative_half_widths": {name: width if math.isfinite(width) else None for name, width in widths.items()},
    }
    return found


def stopping_warning(found: Replications) -> str | None:
    """Return a sentence if some metric is not as precise as asked for."""
    stopping = found.stopping
    if stopping is None or stopping["reached"]:
        return None
    widths = stopping["relative_half_widths"]
    without = [name for name, width in widths.items() if width is None]
    wide = {name: width for name, width in widths.items() if width is not None and width > stopping["precision"]}
    said = [f"{name} reached {100 * width:.2g} %" for name, width in wide.items()]
    said += [f"{name} has no interval" for name in without]
    return f"precision {100 * stopping['precision']:g} % not reached in {len(found)} replications: {', '.join(said)}"


def wanted_metrics(summary: dict[str, Any], metrics: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the paths into `classes` of the metrics asked for."""
    classes = summary["classes"]
    known = {name: path for name, path in metric_paths(classes).items() if number_at(classes, path) is not None}
    if not metrics:
        return {name: known[name] for name in HEADLINES if name in known}
    problems = []
    for name in metrics:
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]}?" if near else f"; such as {', '.join(HEADLINES)}"
            problems.append(Problem(f"metric {name!r}: unknown, or not defined for this scenario{hint}"))
    if problems:
        raise InputError(problems)
    return {name: known[name] for name in metrics}


def metric_paths(classes: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return, by name, the path into `classes` of every number that has a name (`chat.e2e_s.p99`)."""
    found = {}
    for name, one in classes.items():
        for key, value in one.items():
            paths = [(key, kind) for kind in value] if isinstance(value, dict) and key != "split" else [(key,)]
            if key.endswith(("_rps", "_tps", "_s", "slo_attainment")):
                for path in paths:
                    found[".".join(path if name == "all" else (name, *path))] = (name, *path)
    return found


def number_at(tree: Any, path: tuple[str, ...]) -> Any:
    """Return what is at a path; None where it is not defined."""
    for step in path:
        tree = tree[step]
    return tree


def _widths(runs: Runs, number: int, wanted: dict[str, tuple[str, ...]]) -> dict[str, float]:
    """Return the relative half-widths after so many replications; NaN where there is no interval."""
    summaries = runs.summaries[:number]
    intervals = replication_intervals(summaries, runs.overloaded[:number], runs.times[:number])["classes"]
    means = combined(summaries, {})["classes"]
    found = {}
    for name, path in wanted.items():
        interval, value = number_at(intervals, path), number_at(means, path)
        if "reason" in interval:
            found[name] = math.nan
        else:
            found[name] = interval["half_width"] / abs(value) if value else math.inf
    return found
