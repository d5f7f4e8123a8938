"""Compare scenarios with a committed baseline, or with another version of everything, and say what became worse."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from servesim.check.against import There, work_tree
from servesim.check.baseline import EMPTY, Assertion, Baseline, Recorded, key_of, limits, load_baseline, recorded
from servesim.check.fingerprint import Fingerprint, changes
from servesim.check.judge import Evidence, Rules, verdicts
from servesim.check.measure import Here, Replication
from servesim.check.record import REPLICATIONS, defined, followed, named
from servesim.check.report import Checked, Kept, Report
from servesim.errors import InputError
from servesim.experiment.replicate import Told, checked_number
from servesim.experiment.seeds import replication_seeds
from servesim.metrics.contrasts import mean

UNPAIRED = 4
"""How many times the baseline's replications are run where they are not paired with them, which shows much less."""


@dataclass(slots=True)
class _Case:
    """One scenario being checked."""

    key: str
    here: Here
    threshold_of: Callable[[str], float]
    assertions: list[Assertion]
    seeds: list[int]
    before: _Before
    now: list[Replication] = field(default_factory=list)
    identical: bool = False
    moved: list[str] = field(default_factory=list)


class _Before:
    """What there was: values read from a baseline, or replications run at another revision beside ours."""

    def __init__(self, record: Recorded | None, there: There | None) -> None:
        self._record = record
        self._there = there
        self._runs: list[Replication] = []

    def extend(self, seed: int) -> float:
        """Have one more replication; returns the CPU time it took."""
        if self._there is None:
            return 0.0
        self._runs.append(self._there.run(seed))
        return self._runs[-1].cpu_s

    @property
    def made_from(self) -> Fingerprint:
        if self._there is not None:
            return self._there.made_from(self._runs[0])
        assert self._record is not None
        return self._record.made_from

    @property
    def digests(self) -> list[str]:
        return [run.digest for run in self._runs] if self._record is None else self._record.digests

    @property
    def seeds(self) -> list[int]:
        return [run.seed for run in self._runs] if self._record is None else self._record.seeds

    @property
    def overloaded(self) -> bool:
        if self._record is not None:
            return self._record.overloaded
        return 2 * sum(run.overloaded for run in self._runs) > len(self._runs)

    @property
    def values(self) -> dict[str, list[float]]:
        if self._record is not None:
            return self._record.values
        return defined(self._runs, followed(self._runs[0], []))


def check(
    scenarios: Sequence[str | Path],
    baseline: str | Path | None = None,
    *,
    against: str | None = None,
    seed: int | None = None,
    replications: int | None = None,
    budget_s: float | None = None,
    allow_paths: Sequence[str | Path] = (),
    deployed: Sequence[str] = (),
    progress: Told | None = None,
) -> Report:
    """Run scenarios and compare them with `baseline`, a file, or with the git revision `against`.

    With `against` only thresholds and assertions are taken from the baseline, which may be left out. Replications have
    the baseline's number and seeds, and are paired with them, unless `seed` or the scenario's own says otherwise; then
    they are independent, and UNPAIRED times as many. `budget_s` is the CPU time of all, spread over the scenarios: what
    is not run by then is left out. Pools run as `deployed` (see `servesim.deploy.overlay.with_deployed`), whatever the
    files say of them. Raises InputError.
    """
    paths = _distinct(scenarios)
    if deployed and against is not None:
        raise InputError("deployed: is compared with a baseline, not with another revision")
    if (baseline is None) == (against is None) and baseline is None:
        raise InputError("check against what? give a baseline file, or a git revision")
    if budget_s is not None and not budget_s > 0:
        raise InputError(f"budget: a positive time, not {budget_s:g} s")
    file = None if baseline is None else Path(baseline)
    found = EMPTY if file is None else load_baseline(file)
    if replications is not None and checked_number(replications, "replications") < 2:
        raise InputError("replications: at least 2, one says nothing of how another would differ")
    allowed = tuple(map(Path, allow_paths))
    with ExitStack() as stack:
        theres = _theres(stack, paths, against, allowed) if against is not None else [None] * len(paths)
        cases = [
            _case(Here(path, allowed, deployed), there, found, file, seed, replications)
            for path, there in zip(paths, theres, strict=True)
        ]
        _run(cases, budget_s, progress)
        return _report(cases, found, against)


def _distinct(scenarios: Sequence[str | Path]) -> list[Path]:
    paths = list(dict.fromkeys(map(Path, scenarios)))
    if not paths:
        raise InputError("no scenario to check")
    return paths


def _theres(stack: ExitStack, paths: list[Path], ref: str, allowed: tuple[Path, ...]) -> list[There | None]:
    folder = paths[0].resolve().parent
    if not folder.is_dir():
        raise InputError(f"{paths[0]}: does not exist")
    root, tree = stack.enter_context(work_tree(ref, folder))
    found: list[There | None] = []
    for path in paths:
        there = There(path, root, tree, ref, allowed)
        stack.callback(there.close)
        found.append(there)
    return found


def _case(
    here: Here,
    there: There | None,
    found: Baseline,
    file: Path | None,
    seed: int | None,
    replications: int | None,
) -> _Case:
    path = here.file
    first = here.scenario.seed if seed is None else seed
    if file is None:
        seeds = replication_seeds(first, replications or REPLICATIONS)
        return _Case(path.as_posix(), here, lambda _: found.threshold, [], seeds, _Before(None, there))
    if there is not None and key_of(path, file) not in found.scenarios:
        record = None
    else:
        record = recorded(found, path, here.scenario.name, file)
    thresholds = {} if record is None else record.thresholds
    number = replications or (REPLICATIONS if record is None else len(record.seeds))
    if record is not None and there is None:
        paired = record.seeds[0] == first  # more than the baseline has would have no partner
        number = min(number, len(record.seeds)) if paired else replications or UNPAIRED * number
    return _Case(
        key_of(path, file),
        here,
        lambda metric: thresholds.get(metric, found.threshold),
        [] if record is None else record.assertions,
        replication_seeds(first, number),
        _Before(record, None) if there is None else _Before(None, there),
    )


def _run(cases: list[_Case], budget_s: float | None, progress: Told | None) -> None:
    """Run what there is to run; time left over by one scenario is for the next ones."""
    tell = progress or (lambda done, of: None)
    left_s, done, of = budget_s, 0, sum(len(case.seeds) for case in cases)
    for number, case in enumerate(cases):
        share_s = None if left_s is None else max(left_s, 0.0) / (len(cases) - number)
        spent_s = 0.0
        for cost_s in _replications(case):
            spent_s += cost_s
            tell(done + len(case.now), of)
            if share_s is not None and spent_s + cost_s > share_s:
                break
        done += len(case.seeds)
        left_s = None if left_s is None else left_s - spent_s


def _replications(case: _Case) -> Iterator[float]:
    """Run replications, and yield the CPU time of each; ends after the first if nothing at all has changed."""
    for seed in case.seeds:
        cost_s = case.before.extend(seed)
        case.now.append(case.here.run(seed))
        first = len(case.now) == 1
        if first:
            case.moved = changes(case.before.made_from, case.here.made_from(case.now[0]))
            _check_names(case)
        yield cost_s + case.now[-1].cpu_s
        if first and not case.moved and _paired(case) and case.now[0].digest == case.before.digests[0]:
            # The same code, scenario, calibration and seed gave the same numbers: so do all other seeds.
            case.identical = True
            return


def _check_names(case: _Case) -> None:
    named([(f"{case.key}: assert {one}", one.metric) for one in case.assertions], case.now[0])


def _paired(case: _Case) -> bool:
    seeds = [run.seed for run in case.now]
    return case.before.seeds[: len(seeds)] == seeds


def _report(cases: list[_Case], found: Baseline, against: str | None) -> Report:
    evidence = {
        (case.key, name): Evidence(
            before, [run.metrics.get(name) for run in case.now], _paired(case), case.threshold_of(name)
        )
        for case in cases
        if not case.identical
        for name, before in case.before.values.items()
    }
    rules = Rules(found.level, found.threshold, found.detectable)
    judged = verdicts(evidence, {key: key[1] for key in evidence}, rules)
    return Report(
        against=against,
        level=found.level,
        scenarios=[
            Checked(
                key=case.key,
                name=case.here.scenario.name,
                identical=case.identical or _all_equal(case),
                paired=_paired(case),
                replications=len(case.now),
                asked=len(case.seeds),
                moved=case.moved,
                verdicts=[verdict for (key, _), verdict in judged.items() if key == case.key],
                assertions=[_kept(case, one, implied) for one, implied in limits(case.here.scenario, case.assertions)],
                overloaded=2 * sum(run.overloaded for run in case.now) > len(case.now),
                overloaded_before=case.before.overloaded,
                cpu_s=sum(run.cpu_s for run in case.now),
            )
            for case in cases
        ],
    )


def _all_equal(case: _Case) -> bool:
    digests = [run.digest for run in case.now]
    return len(digests) > 1 and _paired(case) and digests == case.before.digests[: len(digests)]


def _kept(case: _Case, one: Assertion, implied: bool) -> Kept:
    """Return whether a limit holds for the mean over replications; the recorded ones where nothing has changed."""
    before = case.before.values.get(one.metric) if case.identical else None
    values = before or [value for run in case.now if (value := run.metrics[one.metric]) is not None]
    value = mean(values) if values else None
    return Kept(str(one), value is not None and one.kept(value), value, one.metric, implied)
