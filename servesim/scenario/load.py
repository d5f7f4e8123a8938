"""From a scenario file to a checked `Scenario`, or to every problem it has with its line and column."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from pydantic import ValidationError

from servesim.errors import InputError, Problem
from servesim.registry import revision
from servesim.scenario.document import Document, Node, described, parse_document, plain
from servesim.scenario.document_text import read_text
from servesim.scenario.load_catalog import catalog_problems
from servesim.scenario.load_overrides import overridden, with_nearest_name
from servesim.scenario.load_paths import Folders, with_absolute_paths
from servesim.scenario.load_place import child_by_name
from servesim.scenario.load_problems import in_order, placed, schema_problems
from servesim.scenario.schema import Scenario, refresh


def load(path: str | Path, overrides: Sequence[str] = (), *, allow_paths: Sequence[str | Path] = ()) -> Scenario:
    """Return the scenario in the YAML file `path`.

    `overrides` are `a.b.c=value` texts applied on top. Files that the scenario names are looked for in its folder
    and must lie there or below one of `allow_paths` (or of the environment's SERVESIM_ALLOW_PATH).
    Raises InputError with every problem found.
    """
    return parse(
        read_text(Path(path), str(path)), str(path), overrides, folder=Path(path).parent, allow_paths=allow_paths
    )


def parse(
    text: str,
    file: str = "<text>",
    overrides: Sequence[str] = (),
    *,
    folder: str | Path = ".",
    allow_paths: Sequence[str | Path] = (),
) -> Scenario:
    """Return the scenario in `text`, as `load` does; messages call it `file`, and its files lie in `folder`."""
    document = parse_mapping(text, file)
    problems = list(document.problems)
    scenario = None
    for reading in document.readings:
        root, faults = overridden(reading, overrides)
        scenario, more = validated(root, folder, allow_paths)
        problems += [*faults, *(with_nearest_name(problem, reading) for problem in more)]
    if scenario is None or problems:
        raise InputError(in_order(dict.fromkeys(problems)))
    return scenario


def parse_mapping(text: str, file: str) -> Document:
    """Return the document in `text`, each reading of which is to be `validated`. Raises InputError if it is none."""
    document = parse_document(text, file)
    root = document.root
    if isinstance(root.value, dict) or (root.faulty and document.problems):
        return document
    what = "is empty" if root.value is None else f"is {described(root.value)}"
    raise InputError(Problem(f"{what}; a scenario is a mapping with name, workload and pools", "", *root.mark))


def validated(
    root: Node, folder: str | Path, allow_paths: Sequence[str | Path] = ()
) -> tuple[Scenario | None, list[Problem]]:
    """Return the scenario of a document, None where it has none, and every problem; file names become absolute."""
    problems = with_absolute_paths(root, Folders(Path(folder), allow_paths))
    scenario, faults = _validated(root)
    return scenario, problems + faults


def _validated(root: Node) -> tuple[Scenario | None, list[Problem]]:
    _follow_registry(revision())
    unknown = catalog_problems(root)
    try:
        return Scenario.model_validate(plain(root)), unknown
    except ValidationError as error:
        return None, [*schema_problems(error, root, Scenario), *unknown]


@lru_cache(maxsize=1)
def _follow_registry(revision: int) -> None:
    """Rebuild the schema when kinds were registered since the last load."""
    refresh()


def positioned(problems: Sequence[Problem], path: str | Path, overrides: Sequence[str] = ()) -> list[Problem]:
    """Return problems found after loading with the line and column, in the file, of the place they name.

    A problem that already names a file, or no place, stays as it is.
    """
    root, _ = overridden(parse_document(read_text(Path(path), str(path)), str(path)).root, overrides)
    return [_positioned(problem, root) for problem in problems]


def _positioned(problem: Problem, root: Node) -> Problem:
    if problem.file or not problem.path:
        return problem
    steps = problem.path.split(".")
    for length in range(len(steps), 0, -1):
        place = child_by_name(root, ".".join(steps[:length]))
        if place is not None:
            return placed(problem.message, problem.path, place.mark if length == len(steps) else place.key)
    return placed(problem.message, problem.path, root.mark)
