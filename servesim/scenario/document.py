"""YAML text as a tree of nodes that know their line and column.

The parser's events are read one by one with an explicit stack, so that neither depth nor aliases can exhaust anything.
YAML is narrowed to what a scenario needs: one document, text keys, no duplicates, tags or merge keys. Anchors and
aliases are allowed while the expanded document stays small. Work is bounded by the three limits below and by reporting
no more than `MAX_PROBLEMS`, so that no document, however hostile, keeps the reader waiting.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import yaml

from servesim.errors import InputError, Problem
from servesim.scenario.document_scalar import Scalar, core_scalar, shortened
from servesim.scenario.document_syntax import syntax_problem
from servesim.scenario.document_text import MAX_BYTES, checked

MAX_NODES = 20_000
MAX_KEYS = 1000
MAX_DEPTH = 50
MAX_PROBLEMS = 50
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Path = tuple[str | int, ...]


class Mark(NamedTuple):
    """Where something stands; `line` and `column` count from 1 and are None for what has no lines."""

    file: str
    line: int | None = None
    column: int | None = None


class Entry(NamedTuple):
    """A value in a mapping and where its key stands; `again` is the value of the same key given once more."""

    key: Mark
    node: Node
    again: Node | None = None


Content = Scalar | dict[str, Entry] | list["Node"]


@dataclass(slots=True, eq=False)
class Node:
    """A scalar, a mapping or a list. A `faulty` one was already complained about: what follows from it is noise."""

    value: Content
    mark: Mark
    faulty: bool = False
    flow: bool = True
    size: int = 1
    height: int = 1


@dataclass(slots=True, eq=False)
class _Frame:
    """A collection being read; in a mapping `key` is the key whose value comes next."""

    node: Node
    key: str | None = None
    key_mark: Mark | None = None
    expects_key: bool = True


@dataclass(slots=True)
class Document:
    """The root node, and what is wrong with the document as YAML, apart from its syntax."""

    root: Node
    problems: list[Problem] = field(default_factory=list)
    twice: bool = False

    @property
    def readings(self) -> list[Node]:
        """The root, and where keys are given more than once also one with the last value of each.

        Which of them counts is not known, so that all of them are to be checked; each reading has nodes of its own.
        """
        return [self.root, _last_of_each(self.root)] if self.twice else [self.root]


def dotted(path: Path) -> str:
    """Return a path as it is written: `pools.main.engine`."""
    return ".".join(shortened(str(step)) for step in path)


def parse_document(text: str, file: str) -> Document:
    """Return the tree of the one YAML document in `text`.

    Raises InputError for a syntax error, and for a document too large or too deep; lesser faults are collected.
    """
    if len(text) > MAX_BYTES:
        raise InputError(Problem(f"is larger than {MAX_BYTES:,} characters", file=file))
    checked(text, file)
    builder = _Builder(file)
    try:
        for event in yaml.parse(text, Loader=_Loader):
            builder.take(event)
    except yaml.YAMLError as error:
        raise InputError(syntax_problem(error, text, file)) from None
    return Document(builder.root or Node(None, Mark(file, 1, 1)), builder.problems, builder.twice)


class _Builder:
    """Turns parser events into nodes."""

    def __init__(self, file: str) -> None:
        self.root: Node | None = None
        self.problems: list[Problem] = []
        self.twice = False
        self._file = file
        self._frames: list[_Frame] = []
        self._anchors: dict[str, Node] = {}
        self._nodes = 0

    def take(self, event: Any) -> None:
        """Take the parser's next event."""
        if isinstance(event, yaml.ScalarEvent):
            self._anchored(event, self._scalar(event))
        elif isinstance(event, yaml.CollectionStartEvent):
            self._open(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._close()
        elif isinstance(event, yaml.AliasEvent):
            self._attach(self._alias(event), self._mark(event))
        elif isinstance(event, yaml.DocumentStartEvent) and self.root is not None:
            self._stop("a second document starts here; a scenario is one document", self._mark(event))

    def _mark(self, event: Any) -> Mark:
        return Mark(self._file, event.start_mark.line + 1, event.start_mark.column + 1)

    def _path(self) -> Path:
        def step(frame: _Frame) -> str | int | None:
            return len(frame.node.value) if isinstance(frame.node.value, list) else frame.key

        return tuple(s for s in map(step, self._frames) if s is not None)

    def _problem(self, message: str, mark: Mark) -> None:
        self.problems.append(Problem(message, dotted(self._path()), *mark))
        if len(self.problems) >= MAX_PROBLEMS:
            self._stop(f"reading stopped here, after {MAX_PROBLEMS} problems; there may be more", mark)

    def _stop(self, message: str, mark: Mark) -> None:
        raise InputError([*self.problems, Problem(message, "", *mark)])

    def _scalar(self, event: Any) -> Node:
        mark = self._mark(event)
        node = Node(event.value, mark)
        if event.tag is not None:
            self._refuse_tag(event, node)
        elif event.implicit[0]:
            try:
                node.value = core_scalar(event.value)
            except ValueError as error:
                node.faulty = True
                self._problem(str(error), mark)
        return node

    def _refuse_tag(self, event: Any, node: Node) -> None:
        node.faulty = True
        tag = event.tag.replace("tag:yaml.org,2002:", "!!")
        self._problem(f"tag {shortened(tag)} is not allowed; leave it out (quotes make text of a number)", node.mark)

    def _anchored(self, event: Any, node: Node) -> None:
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        self._attach(node, node.mark)

    def _open(self, event: Any) -> None:
        node = Node({} if isinstance(event, yaml.MappingStartEvent) else [], self._mark(event), flow=event.flow_style)
        if event.tag is not None:
            self._refuse_tag(event, node)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        self._frames.append(_Frame(node))
        if len(self._frames) > MAX_DEPTH:
            self._stop(f"nested more than {MAX_DEPTH} deep", node.mark)

    def _close(self) -> None:
        node = self._frames.pop().node
        children = [*children_of(node), *_given_again(node)]
        node.size = 1 + sum(child.size for child in children)
        node.height = 1 + max((child.height for child in children), default=0)
        self._nodes -= node.size - 1  # the children were counted as they came; attaching counts them again
        self._attach(node, node.mark)

    def _alias(self, event: Any) -> Node:
        mark = self._mark(event)
        node = self._anchors.get(event.anchor)
        name = shortened(event.anchor)
        if node is None:
            self._problem(f"alias *{name} has no anchor &{name} before it", mark)
        elif any(frame.node is node for frame in self._frames):
            self._problem(f"alias *{name} lies inside what it stands for", mark)
            self._frames[-1].node.faulty |= isinstance(self._frames[-1].node.value, list)
        elif len(self._frames) + node.height > MAX_DEPTH:
            self._stop(f"nested more than {MAX_DEPTH} deep once *{name} is expanded", mark)
        else:
            return node
        return Node(None, mark, faulty=True)

    def _attach(self, node: Node, mark: Mark) -> None:
        """Put a finished node where it belongs: the document, a list, or a mapping as key or value."""
        self._nodes += node.size
        if self._nodes > MAX_NODES:
            advice = "a scenario has a few hundred, and long lists of lengths belong in a file"
            self._stop(f"more than {MAX_NODES:,} values, aliases expanded; {advice}", mark)
        if not self._frames:
            self.root = node
            return
        frame = self._frames[-1]
        if isinstance(frame.node.value, list):
            frame.node.value.append(node)
        elif frame.expects_key:
            frame.expects_key = False
            frame.key, frame.key_mark = self._key(frame.node, node, mark), mark
        else:
            self._entry(frame, node)

    def _key(self, mapping: Node, key: Node, mark: Mark) -> str | None:
        if isinstance(key.value, str) and not key.faulty:
            if key.value == "<<":
                self._problem("merge keys (<<) are not allowed; repeat the keys, or alias a whole value", mark)
            else:
                return key.value
        elif not key.faulty:
            hint = "" if isinstance(key.value, dict | list) else "; put it in quotes"
            self._problem(f"a key must be text, not {described(key.value)}{hint}", mark)
        mapping.faulty = True
        return None

    def _entry(self, frame: _Frame, node: Node) -> None:
        key, key_mark, entries = frame.key, frame.key_mark, frame.node.value
        frame.key, frame.expects_key = None, True
        if key is None or key_mark is None or not isinstance(entries, dict):
            return
        if key in entries:
            first = entries[key]
            self._problem(f"duplicate key {shortened(key)!r}; the first is on line {first.key.line}", key_mark)
            entries[key] = first._replace(again=node)
            self.twice = True
        elif len(entries) >= MAX_KEYS:
            self._stop(f"more than {MAX_KEYS:,} keys in one mapping; reading stopped here", key_mark)
        else:
            entries[key] = Entry(key_mark, node)


def _last_of_each(node: Node) -> Node:
    """Return a copy in which each key has the last value that it was given."""
    value = node.value
    if isinstance(value, dict):
        value = {key: Entry(one.key, _last_of_each(one.again or one.node)) for key, one in value.items()}
    elif isinstance(value, list):
        value = [_last_of_each(child) for child in value]
    return replace(node, value=value)


def _given_again(node: Node) -> Iterator[Node]:
    """Yield the later values of keys given more than once, which count as much as the first."""
    if isinstance(node.value, dict):
        yield from (entry.again for entry in node.value.values() if entry.again is not None)


def children_of(node: Node) -> Iterator[Node]:
    """Yield the nodes directly below."""
    if isinstance(node.value, dict):
        for entry in node.value.values():
            yield entry.node
    elif isinstance(node.value, list):
        yield from node.value


def described(value: object) -> str:
    """Return a value as a message shows it: `the text 'x'`, `true`, `a list`."""
    if isinstance(value, str):
        return f"the text {shortened(value)!r}"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else f"{value:+}".replace("+", "").replace("inf", ".inf")
    return "nothing (null)" if value is None else repr(value).lower()


class Faulty:
    """Stands for a value that was already complained about; no field accepts it."""


def plain(node: Node) -> Any:
    """Return the node as plain dicts, lists and scalars, every alias a copy of its own."""
    if node.faulty and not isinstance(node.value, dict):
        return Faulty()
    if isinstance(node.value, dict):
        return {key: plain(entry.node) for key, entry in node.value.items()}
    if isinstance(node.value, list):
        return [plain(child) for child in node.value]
    return node.value
