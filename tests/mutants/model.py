"""A mutant: a wrong servesim, made by a small change to one module, and the tests that should notice."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

FLIPPED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
}
REVERSED: dict[type[ast.cmpop], type[ast.cmpop]] = {ast.Lt: ast.Gt, ast.LtE: ast.GtE, ast.Gt: ast.Lt, ast.GtE: ast.LtE}
Change = Literal["flip", "reverse", "plus", "minus"]


@dataclass(frozen=True)
class Mutant:
    """What is wrong, in which module of servesim, and `tests`: pytest arguments that should fail, the quickest ones."""

    name: str
    path: str
    tests: tuple[str, ...]

    def apply(self, source: str) -> str:
        """Return the mutated source; ValueError if the place is no longer there."""
        raise NotImplementedError


@dataclass(frozen=True)
class Deliberate(Mutant):
    """A mistake that somebody could make: `patches` are (what is written, what stands there instead)."""

    patches: tuple[tuple[str, str], ...]

    def apply(self, source: str) -> str:
        """Replace each text, which must occur exactly once."""
        for old, new in self.patches:
            if source.count(old) != 1:
                raise ValueError(f"{self.path}: {old!r} is there {source.count(old)} times")
            source = source.replace(old, new)
        return source


@dataclass(frozen=True)
class Mechanical(Mutant):
    """A blind change within `function` (Class.method): of its comparison, or whole number, number `place` from 0.

    `flip` turns < into <=, == into != and so on, `reverse` < into >; `plus` and `minus` change a number by one.
    """

    function: str
    change: Change
    place: int

    def apply(self, source: str) -> str:
        """Change the one token, all else stays as it is written."""
        tree = ast.parse(source)
        places = sorted(self._places(self._function(tree)), key=lambda node: (node.lineno, node.col_offset))
        if self.place >= len(places):
            raise ValueError(f"{self.path}: {self.function} has {len(places)} places to {self.change}")
        node = places[self.place]
        old = ast.get_source_segment(source, node)
        if isinstance(node, ast.Constant):
            node.value += 1 if self.change == "plus" else -1
        elif isinstance(node, ast.Compare):
            node.ops[0] = (FLIPPED if self.change == "flip" else REVERSED)[type(node.ops[0])]()
        begin = _offset(source, node.lineno, node.col_offset)
        assert old is not None
        return source[:begin] + f"({ast.unparse(node)})" + source[begin + len(old) :]

    def _function(self, tree: ast.Module) -> ast.AST:
        found: ast.AST = tree
        for name in self.function.split("."):
            named = [one for one in ast.iter_child_nodes(found) if getattr(one, "name", None) == name]
            if len(named) != 1:
                raise ValueError(f"{self.path}: no {self.function}")
            found = named[0]
        return found

    def _places(self, function: ast.AST) -> list[ast.expr]:
        if self.change in ("flip", "reverse"):
            return [one for one in ast.walk(function) if isinstance(one, ast.Compare) and type(one.ops[0]) in FLIPPED]
        return [one for one in ast.walk(function) if isinstance(one, ast.Constant) and type(one.value) is int]


def _offset(source: str, line: int, column: int) -> int:
    """Return the place in `source` of a line (from 1) and a column in bytes."""
    lines = source.splitlines(keepends=True)
    before = lines[line - 1].encode()[:column].decode()
    return sum(map(len, lines[: line - 1])) + len(before)


def mutate(mutant: Mutant, package: Path) -> str:
    """Return the mutated source of the module under `package`, which must compile and differ."""
    source = (package / mutant.path).read_text(encoding="utf-8")
    mutated = mutant.apply(source)
    if ast.dump(ast.parse(mutated)) == ast.dump(ast.parse(source)):
        raise ValueError(f"{mutant.name}: nothing changes")
    return mutated
