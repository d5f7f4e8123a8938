"""Schema errors as problems, each with its line and column."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any

from pydantic import BaseModel, ValidationError

from servesim.errors import Problem
from servesim.scenario.document import MAX_PROBLEMS, Mark, Node, dotted
from servesim.scenario.load_place import Place, child_by_name, locate
from servesim.scenario.load_words import UNKNOWN_KEY, Fault, expectation, meant_here, wording

_MAX_FAULTS = 300


def schema_problems(error: ValidationError, root: Node, model: type[BaseModel]) -> list[Problem]:
    """Return the errors of `model` about the document `root`; of thousands only some, which is enough to see why."""
    errors = error.errors(include_url=False)[:_MAX_FAULTS]
    faults = [Fault(item, locate(root, item["loc"]), model) for item in errors]
    last = faults[-1].place.mark
    faults = [fault for fault in faults if not fault.place.faulty]  # those were complained about already
    faults = _without_misspelt([f for f in faults if not _lacks_bad_items(f)] or faults)
    found = [_problem(fault) for fault in _one_per_union(faults)]
    if error.error_count() > _MAX_FAULTS:
        found.append(Problem("checking stopped here; there are more problems", "", *last))
    return found


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Return problems sorted by line, and beyond the first 50 only that there are more."""
    found = sorted(problems, key=lambda p: (p.file, p.line or 0, p.column or 0))
    if len(found) <= MAX_PROBLEMS:
        return found
    return [*found[:MAX_PROBLEMS], Problem(f"there are more than these {MAX_PROBLEMS} problems", file=found[0].file)]


def _without_misspelt(faults: list[Fault]) -> list[Fault]:
    """Leave out that a key is missing where the same mapping has an unknown key that was meant to be it."""
    missing = {(*f.place.path, f.error["loc"][-1]) for f in faults if f.kind == "missing"}
    if not missing:
        return faults
    unknown = [f for f in faults if f.kind in UNKNOWN_KEY]
    meant = {(*f.place.path[:-1], meant_here(f)) for f in unknown}
    return [f for f in faults if f.kind != "missing" or (*f.place.path, f.error["loc"][-1]) not in meant]


def _lacks_bad_items(fault: Fault) -> bool:
    """Return whether a list is too short only because pydantic dropped its bad items."""
    value = fault.place.node.value
    return fault.kind == "too_short" and isinstance(value, list | dict) and len(value) >= fault.minimum


def _one_per_union(faults: list[Fault]) -> list[Fault]:
    """Keep one fault of each union: pydantic complains once for every arm."""

    def union(fault: Fault) -> tuple[Any, ...]:
        branch_at = fault.place.branch_at
        return (id(fault),) if branch_at is None else ("union", *fault.error["loc"][:branch_at])

    kept: list[Fault] = []
    for key, group in groupby(faults, union):
        members = list(group)
        kept += [_merged(members)] if key[0] == "union" and len(members) > 1 else members
    return kept


def _merged(faults: list[Fault]) -> Fault:
    """Return the fault of the arm that came furthest; where all refuse the value itself, one that names all."""
    deepest = max(len(fault.place.path) for fault in faults)
    furthest = [fault for fault in faults if len(fault.place.path) == deepest]
    expected = [expectation(fault) for fault in furthest]
    if len(furthest) > 1 and all(expected):
        merged = dict(furthest[0].error, type="union", ctx={"expected": " or ".join(dict.fromkeys(map(str, expected)))})
        return Fault(merged, furthest[0].place, furthest[0].model)
    return furthest[0]


def _problem(fault: Fault) -> Problem:
    place, kind = fault.place, fault.kind
    path, mark = place.path, place.node.mark
    if kind in UNKNOWN_KEY:
        path, mark = path[:-1], place.key
    elif kind in ("missing", "value_error", "too_short", "assertion_error") or fault.error["loc"][-1:] == ("[key]",):
        mark = place.key
    elif kind == "union_tag_invalid" and isinstance(place.node.value, dict):
        mark = place.node.value["kind"].node.mark
    elif kind == "union_tag_not_found":
        mark = place.key
    message = wording(fault)
    if kind == "value_error":
        named = _named_place(place, message)
        if named is not None:
            target, message = named
            path, mark = (*path, *target.path), target.mark
    return placed(message, dotted(path), mark)


def placed(message: str, path: str, mark: Mark) -> Problem:
    """Return a problem at a mark; what an override set is called by the override's own path."""
    return Problem(message, "" if mark.file in (f"--set {path}", f"--vary {path}") else path, *mark)


def _named_place(place: Place, message: str) -> tuple[Place, str] | None:
    """Return the place that a validator's message begins with (`pools.main.gpu: ...`), and the rest of it."""
    name, colon, rest = message.partition(": ")
    target = child_by_name(place.node, name) if colon and len(name) < 300 else None
    return None if target is None else (target, rest)
