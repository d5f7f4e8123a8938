"""From a scenario and what is to vary to the points of a sweep, each a checked scenario."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from servesim.errors import InputError, Problem
from servesim.scenario.document import Document, Entry, Mark, Node, described, parse_document, plain
from servesim.scenario.document_scalar import shortened
from servesim.scenario.document_text import read_text
from servesim.scenario.dump import plain_value, to_yaml
from servesim.scenario.load import parse_mapping, validated
from servesim.scenario.load_overrides import overridden, with_nearest_name, with_value
from servesim.scenario.load_problems import in_order, schema_problems
from servesim.scenario.schema import Scenario
from servesim.scenario.sweep_spec import RangeSpec, SweepDocument, SweepSpec, values_of

Settings = tuple[tuple[str, Node], ...]
_NUMBER = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[-+]?[0-9]+)?"
_RANGE = re.compile(rf"({_NUMBER}):({_NUMBER}):({_NUMBER})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to vary: the settings of every point, with the variant each belongs to ("" without variants)."""

    points: tuple[tuple[str, Settings], ...]
    replications: int | None = None


@dataclass(frozen=True, slots=True)
class Point:
    """One choice of values: by path as plain data, and the scenario that has them."""

    variant: str
    settings: dict[str, Any]
    scenario: Scenario


class Base:
    """A scenario that points are made from: a file, or one that was loaded already."""

    def __init__(
        self,
        scenario: Scenario | str | Path,
        overrides: Sequence[str] = (),
        allow_paths: Sequence[str | Path] = (),
    ) -> None:
        """Read the scenario; a sweep document that names one is read with it. Raises InputError."""
        self.own: Asked | None = None
        self._folder, self._allowed = Path("."), list(allow_paths)
        if isinstance(scenario, Scenario):
            document = parse_mapping(to_yaml(scenario), scenario.name)
            problems: list[Problem] = []
            self._allowed.append("/")  # where its files lie was checked when it was loaded
        else:
            document, problems = self._read(Path(scenario))
        problems += document.problems
        for reading in document.readings:
            root, faults = overridden(reading, overrides)
            found, more = validated(root, self._folder, self._allowed)  # with its `sweep`, for the faults of that
            problems += [*faults, *more]
        if found is None or problems:
            raise InputError(in_order(dict.fromkeys(problems)))
        entries = dict(root.value) if isinstance(root.value, dict) else {}
        entry = entries.pop("sweep", None)
        if entry is not None and entry.node.value is not None:
            assert found.sweep is not None
            self.own = asked_of(found.sweep, entry.node)
        self._root = Node(entries, root.mark)
        self.scenario = found.model_copy(update={"sweep": None})

    def _read(self, path: Path) -> tuple[Document, list[Problem]]:
        """Return a scenario's document, and what is wrong with the sweep document that names it, if one does."""
        document = parse_mapping(read_text(path, str(path)), str(path))
        self._folder = path.parent
        root = document.root
        if not isinstance(root.value, dict) or "scenario" not in root.value:
            return document, []
        self.own, problems = _own_points(document)
        named = root.value["scenario"].node.value
        if not isinstance(named, str):
            raise InputError(in_order(problems))
        beside = path.parent / named
        self._folder = beside.parent
        try:
            return parse_mapping(read_text(beside, str(beside)), str(beside)), problems
        except InputError as error:
            raise InputError([*in_order(problems), *error.problems]) from None

    def _checked(self, root: Node) -> Scenario:
        scenario, problems = validated(root, self._folder, self._allowed)
        if scenario is None or problems:
            raise InputError(in_order(problems))
        return scenario

    def points(self, asked: Asked) -> list[Point]:
        """Return the points in order. Raises InputError with every problem of every point, each said once."""
        found, problems = [], []
        for variant, settings in asked.points:
            try:
                found.append(self.point(settings, variant))
            except InputError as error:
                problems += error.problems
        if problems:
            raise InputError(in_order(dict.fromkeys(problems)))
        return found

    def setting(self, path: str, value: float, mark: Mark) -> tuple[str, Node]:
        """Return the setting that gives the number at `path` of the resolved scenario another value.

        Where the document has a short form on the way it takes that one's place: `prompt_tokens: 512` is set as a
        number, `router: power_of_d` as a mapping with its kind.
        """
        node, steps = self._root, path.split(".")
        for index, step in enumerate(steps):
            if not isinstance(node.value, dict) or step not in node.value:
                break
            node = node.value[step].node
            short, rest = ".".join(steps[: index + 1]), steps[index + 1 :]
            if len(rest) == 1 and isinstance(node.value, str):
                return short, node_of({"kind": node.value, rest[0]: value}, mark)
            if len(rest) == 1 and isinstance(node.value, int | float):
                return short, node_of(value, mark)
        return path, node_of(value, mark)

    def point(self, settings: Settings, variant: str = "") -> Point:
        """Return the scenario with these settings. Raises InputError."""
        root, problems = self._root, []
        for path, node in settings:
            try:
                root = with_value(root, path, node)
            except InputError as error:
                problems += error.problems
        if problems:
            raise InputError(problems)
        try:
            scenario = self._checked(root)
        except InputError as error:
            raise InputError([with_nearest_name(problem, self._root) for problem in error.problems]) from None
        return Point(variant, {path: plain(node) for path, node in settings}, scenario)


def asked_of(spec: SweepSpec, root: Node) -> Asked:
    """Return the settings of all points of a sweep document, each value with its place in the document."""
    axes = [_axis(path, values_of(choice), _child(root, "vary", path)) for path, choice in spec.vary.items()]
    together: list[Settings]
    together = list(zip(*axes, strict=True)) if spec.combine == "zip" and axes else list(product(*axes))
    if not spec.variants:
        return Asked(tuple(("", one) for one in together), spec.replications)
    nodes = _child(root, "variants").value
    assert isinstance(nodes, list)
    named = [
        (variant.name, tuple((path, _child(node, "set", path)) for path in variant.set))
        for variant, node in zip(spec.variants, nodes, strict=True)
    ]
    points = tuple((name, (*changes, *one)) for name, changes in named for one in together)
    return Asked(points, spec.replications)


def _axis(path: str, values: list[Any], node: Node) -> list[tuple[str, Node]]:
    """Return (path, node) of every value; those of a range stand where the range does."""
    nodes = node.value if isinstance(node.value, list) else [node_of(value, node.mark) for value in values]
    return [(path, one) for one in nodes]


def _child(node: Node, *keys: str) -> Node:
    for key in keys:
        assert isinstance(node.value, dict)
        node = node.value[key].node
    return node


def node_of(value: Any, mark: Mark) -> Node:
    """Return plain data, or a policy or another part of a scenario, as nodes that all stand at `mark`."""
    value = plain_value(value)
    if isinstance(value, Mapping):
        return Node({str(key): Entry(mark, node_of(one, mark)) for key, one in value.items()}, mark)
    if isinstance(value, list):
        return Node([node_of(one, mark) for one in value], mark)
    if hasattr(value, "item") and not isinstance(value, str):  # numpy's numbers
        value = value.item()
    if value is not None and not isinstance(value, str | bool | int | float):
        raise InputError(Problem(f"expected plain values or a registered kind, got {type(value).__name__}", "", *mark))
    return Node(value, mark)


def asked_of_values(
    vary: Mapping[str, Any], combine: str = "grid", variants: Mapping[str, Mapping[str, Any]] | None = None
) -> Asked:
    """Return the points of `{path: values}` and `{name: {path: value}}` given in Python.

    Values are plain data, or kinds such as `PowerOfD(d=3)`; a mapping with `from`, `to` and `steps` or `step` is a
    range.
    """
    entries = {}
    for path, values in vary.items():
        mark = Mark(f"--vary {shortened(str(path), 200)}")
        if not isinstance(values, Mapping):
            values = [values] if isinstance(values, str) or not hasattr(values, "__iter__") else list(values)
        entries[str(path)] = Entry(mark, node_of(values, mark))
    here = Mark("--vary")
    named = node_of([{"name": name, "set": dict(changes)} for name, changes in (variants or {}).items()], here)
    root = {"vary": Node(entries, here), "combine": Node(combine, here), "variants": named}
    return _asked(Node({key: Entry(here, node) for key, node in root.items()}, here))


def asked_of_texts(texts: Sequence[str], zipped: bool) -> Asked:
    """Return the points of `path=1,2,4` and `path=FROM:TO:STEP` texts. Raises InputError with all their faults."""
    vary: dict[str, Any] = {}
    problems: list[Problem] = []
    for text in texts:
        try:
            path, values = _parsed(text)
            if path in vary:
                raise InputError(Problem("is given more than once; list all values in one", file=f"--vary {path}"))
            vary[path] = values
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    return asked_of_values(vary, "zip" if zipped else "grid")


def _parsed(text: str) -> tuple[str, Any]:
    path, equals, values = text.partition("=")
    path = path.strip()
    if not equals or not path or not values.strip():
        example = "pools.main.replicas=1,2,4 or pools.main.replicas=1:10:1"
        raise InputError(Problem(f"expected path=values, such as {example}", file=f"--vary {shortened(text)}"))
    if match := _RANGE.fullmatch(values.strip()):
        return path, dict(zip(("from", "to", "step"), map(float, match.groups()), strict=True))
    name = f"--vary {shortened(path, 200)}"
    try:
        document = parse_document(f"[{values}]", name)
        found, problems = document.root, document.problems
    except InputError as error:
        found, problems = None, error.problems
    if found is None or problems:
        raise InputError([Problem(problem.message, "", name) for problem in problems])
    return path, plain(found)


def asked_of_file(path: Path) -> Asked:
    """Return the points of a sweep document. Raises InputError with its place in the file."""
    asked, problems = _own_points(parse_mapping(read_text(path, str(path)), str(path)))
    if asked is None or problems:
        raise InputError(in_order(problems))
    return asked


def _own_points(document: Document) -> tuple[Asked | None, list[Problem]]:
    """Return the points of a sweep document, None where it has faults, and these."""
    problems, asked = list(document.problems), None
    for reading in document.readings:
        try:
            spec = _validated_sweep(reading)
        except InputError as error:
            problems += error.problems
        else:
            asked = None if problems else asked_of(spec, reading)
    return asked, list(dict.fromkeys(problems))


def _asked(root: Node) -> Asked:
    return asked_of(_validated_sweep(root), root)


def _validated_sweep(root: Node) -> SweepDocument:
    if not isinstance(root.value, dict):
        message = f"is {described(root.value)}; a sweep is a mapping with vary or variants"
        raise InputError(Problem(message, "", *root.mark))
    try:
        return SweepDocument.model_validate(plain(root))
    except ValidationError as error:
        raise InputError(in_order(schema_problems(error, root, SweepDocument))) from None


def combined_asked(first: Asked, second: Asked | None) -> Asked:
    """Return every point of `first` with every one of `second`."""
    if second is None:
        return first
    points = tuple(
        ("; ".join(filter(None, (a, b))), (*one, *two)) for a, one in first.points for b, two in second.points
    )
    return Asked(points, first.replications or second.replications)


def words_of(value: Any) -> str:
    """Return a value as tables show it: a kind by its name where it has no other key, else YAML in one line."""
    if isinstance(value, dict) and set(value) == {"kind"}:
        return str(value["kind"])
    if isinstance(value, str):
        return value
    return f"{value:g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


__all__ = ["Asked", "Base", "Point", "RangeSpec", "asked_of_file", "asked_of_texts", "asked_of_values"]
