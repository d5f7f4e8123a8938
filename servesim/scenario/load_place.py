"""Where in the document a schema error lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from servesim.registry import families, kinds
from servesim.scenario.document import Mark, Node, Path


@dataclass(slots=True)
class Place:
    """A place in the document, reached from pydantic's `loc` as far as the document goes.

    `rest` is what the document lacks (a missing key). `branch` is the first part of `loc` that names an arm of a
    union, which is nowhere in the document; `branch_at` is its index.
    """

    path: Path
    node: Node
    key: Mark
    faulty: bool
    rest: Path = ()
    branch_at: int | None = None

    @property
    def mark(self) -> Mark:
        """Where to point: at a scalar itself, else at the key that a mapping or list stands under."""
        return self.key if isinstance(self.node.value, dict | list) else self.node.mark


def locate(root: Node, loc: Sequence[str | int]) -> Place:
    """Follow `loc` down from `root`, leaving out the tags of kinds and the arms of unions that pydantic puts in."""
    place = Place((), root, root.mark, root.faulty)
    tag_allowed = True
    for index, step in enumerate(loc):
        node = place.node
        if step == "[key]":
            continue
        if tag_allowed and _is_tag(node, step):
            tag_allowed = False
            continue
        child = _child(node, step)
        if child is not None:
            place.key, place.node = child
            place.path = (*place.path, step)
            place.faulty = place.faulty or place.node.faulty
            tag_allowed = True
        elif isinstance(node.value, dict) and index == len(loc) - 1:
            place.rest = (step,)
        elif place.branch_at is None:
            place.branch_at = index
    return place


def _is_tag(node: Node, step: str | int) -> bool:
    """Return whether `step` is the node's kind, stated as `{kind: poisson}` or plain `poisson`, or left out."""
    if isinstance(node.value, dict):
        kind = node.value.get("kind")
        if kind is None:
            return step not in node.value and any(step in kinds(family) for family in families())
        return kind.node.value == step
    return node.value == step


def _child(node: Node, step: str | int) -> tuple[Mark, Node] | None:
    if isinstance(node.value, dict):
        entry = node.value.get(step) if isinstance(step, str) else None
        return None if entry is None else (entry.key, entry.node)
    if isinstance(node.value, list) and isinstance(step, int) and step < len(node.value):
        child = node.value[step]
        return child.mark, child
    return None


def child_by_name(root: Node, path: str) -> Place | None:
    """Return the place called `path` (`pools.main.gpu`), or None; keys that hold dots are found too."""
    place = Place((), root, root.mark, root.faulty)
    left = path.split(".")
    while left:
        for length in range(len(left), 0, -1):
            word = ".".join(left[:length])
            child = _child(place.node, int(word) if word.isdecimal() and isinstance(place.node.value, list) else word)
            if child is not None:
                steps = (*place.path, word)
                place = Place(steps, child[1], child[0], place.faulty or child[1].faulty)
                left = left[length:]
                break
        else:
            return None
    return place
