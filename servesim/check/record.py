"""Making a baseline: run the scenarios and write down what they measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from servesim.check.baseline import EMPTY, Assertion, Recorded, key_of, limits, load_baseline, save_baseline
from servesim.check.measure import Here, Replication
from servesim.check.report import Kept
from servesim.errors import InputError, Problem
from servesim.experiment.precision import HEADLINES
from servesim.experiment.replicate import Told, checked_number
from servesim.experiment.seeds import replication_seeds
from servesim.metrics.contrasts import mean
from servesim.scenario.load_allowed import suggestion

REPLICATIONS = 20


def update(
    scenarios: Sequence[str | Path],
    baseline: str | Path,
    *,
    replications: int | None = None,
    metrics: Sequence[str] = (),
    allow_paths: Sequence[str | Path] = (),
    deployed: Sequence[str] = (),
    progress: Told | None = None,
) -> list[tuple[Path, Kept]]:
    """Write what `scenarios` measure now to `baseline`; thresholds, assertions and other scenarios in it stay.

    Recorded are the headline metrics, attainments, those that were recorded before or that an assertion is about, and
    `metrics`. `replications` as before unless given, else 20. Pools run as `deployed` (see
    `servesim.deploy.overlay.with_deployed`). Returns the assertions and attainments asked for that
    are missed now, with whose they are: with them every check fails. Raises InputError.
    """
    file = Path(baseline)
    if not file.parent.is_dir():
        raise InputError(f"{file}: there is no folder {file.parent}")
    if replications is not None and checked_number(replications, "replications") < 2:
        raise InputError("replications: at least 2, one says nothing of how another would differ")
    found = load_baseline(file) if file.exists() else EMPTY
    records = dict(found.scenarios)
    missed: list[tuple[Path, Kept]] = []
    for path in map(Path, scenarios):
        key = key_of(path, file)
        old = records.get(key)
        here = Here(path, tuple(map(Path, allow_paths)), deployed)
        number = replications or (len(old.seeds) if old else REPLICATIONS)
        records[key] = _record(here, _runs(here, number, progress), old, metrics)
        missed += [(path, one) for one in _missed(here, records[key])]
    save_baseline(found.model_copy(update={"scenarios": records}), file)
    return missed


def _missed(here: Here, record: Recorded) -> Iterator[Kept]:
    for one, implied in limits(here.scenario, record.assertions):
        found = record.values.get(one.metric)
        if found and not one.kept(mean(found)):
            yield Kept(str(one), False, mean(found), one.metric, implied)


def _runs(here: Here, number: int, progress: Told | None) -> list[Replication]:
    runs = []
    for seed in replication_seeds(here.scenario.seed, number):
        runs.append(here.run(seed))
        if progress is not None:
            progress(len(runs), number)
    return runs


def _record(here: Here, runs: list[Replication], old: Recorded | None, metrics: Sequence[str]) -> Recorded:
    """Return what a baseline holds of a scenario; `old` gives thresholds, assertions and metrics."""
    first = runs[0]
    assertions = [] if old is None else old.assertions
    named([("--metric", name) for name in metrics], first)
    named([(f"{here.file}: assert {one}", one.metric) for one in assertions], first)
    before = [] if old is None else list(old.values)
    values = defined(runs, list(dict.fromkeys([*followed(first, assertions), *before, *metrics])))
    if not values:
        raise InputError(f"{here.file}: no metric is defined in every replication, so there is nothing to compare")
    thresholds = {} if old is None else old.thresholds
    return Recorded(
        name=here.scenario.name,
        thresholds={name: share for name, share in thresholds.items() if name in values},
        asserts=[] if old is None else old.asserts,
        made_from=here.made_from(first),
        overloaded=2 * sum(run.overloaded for run in runs) > len(runs),
        seeds=[run.seed for run in runs],
        digests=[run.digest for run in runs],
        values=values,
    )


def named(asked: Sequence[tuple[str, str]], first: Replication) -> None:
    """Raise InputError unless a replication defines every metric; `asked` has (who asks, metric)."""
    known = {name for name, value in first.metrics.items() if value is not None}
    problems = []
    for where, metric in asked:
        if metric not in known:
            hint = suggestion(metric, sorted(known)) or f"; such as {', '.join(HEADLINES)}"
            problems.append(Problem(f"{where}: metric {metric!r} is unknown, or not defined for this scenario{hint}"))
    if problems:
        raise InputError(problems)


def followed(first: Replication, assertions: Sequence[Assertion]) -> list[str]:
    """Return the metrics to record: headlines, attainments, and what assertions are about."""
    metrics = first.metrics
    attained = [name for name in metrics if name.endswith(".slo_attainment")]
    wanted = dict.fromkeys([*HEADLINES, *attained, *(one.metric for one in assertions)])
    return [name for name in wanted if metrics.get(name) is not None]


def defined(runs: Sequence[Replication], names: Sequence[str]) -> dict[str, list[float]]:
    """Return the values of metrics, by name, that every replication defines."""
    every = [run.metrics for run in runs]
    found = {name: [one.get(name) for one in every] for name in names}
    return {
        name: [float(value) for value in values if value is not None]
        for name, values in found.items()
        if None not in values
    }
