"""`--set a.b.c=value`: overrides of a loaded document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from servesim.errors import InputError, Problem
from servesim.scenario.document import MAX_DEPTH, Entry, Mark, Node, described, parse_document
from servesim.scenario.document_scalar import shortened
from servesim.scenario.load_allowed import nearest
from servesim.scenario.schema import WHICH_POOL

_OWN_NAMES = ("classes", "pools")  # whose keys are names of the scenario's own


def overridden(root: Node, overrides: Sequence[str]) -> tuple[Node, list[Problem]]:
    """Return the document with each `path=value` set, later ones last, and what was wrong with them."""
    problems: list[Problem] = []
    for text in overrides:
        try:
            name, value = _parsed(text)
            root = _placed(root, name.split("."), value, name, ())
        except InputError as error:
            problems += error.problems
    return root, problems


def with_value(root: Node, name: str, value: Node) -> Node:
    """Return the document with the node `value` at the dotted place `name`; InputError where it cannot be set."""
    if not all(name.split(".")) or name.count(".") >= MAX_DEPTH:
        raise InputError(Problem(f"{shortened(name)!r} is no path; such as pools.main.replicas", "", *value.mark))
    return _placed(root, name.split("."), value, name, ())


def is_override(mark: Mark) -> bool:
    """Return whether the mark is of a value that was set on the command line or in Python, not read from a file."""
    return mark.file.startswith(("--set ", "--vary "))


def with_nearest_name(problem: Problem, root: Node) -> Problem:
    """Return a problem of an override with the class or pool that it probably meant, where it made a new one.

    `root` is the document without the override.
    """
    if problem.message.startswith(WHICH_POOL):
        return _with_nearest_pool(problem, root)
    option, _, path = problem.file.partition(" ")
    steps = path.split(".")
    for index, step in enumerate(steps[:-1] if option in ("--set", "--vary") else ()):
        known = root.value if isinstance(root.value, dict) else {}
        if step in known:
            root = known[step].node
        elif steps[index - 1] in _OWN_NAMES and (near := nearest(step, known)):
            return replace(problem, message=f"{problem.message}; did you mean {'.'.join([*steps[:index], near])}?")
        else:
            break
    return problem


def _with_nearest_pool(problem: Problem, root: Node) -> Problem:
    """Return the question which of several pools serves a class, with the pool that was made by misspelling another."""
    entry = root.value.get("pools") if isinstance(root.value, dict) else None
    known = list(entry.node.value) if entry is not None and isinstance(entry.node.value, dict) else []
    for name in problem.message.removeprefix(WHICH_POOL).split(", "):
        if name not in known and (near := nearest(name, known)):
            return replace(problem, message=f"{problem.message}; {name!r} is new: did you mean pools.{near}?")
    return problem


def _parsed(text: str) -> tuple[str, Node]:
    name, equals, value_text = text.partition("=")
    name = name.strip()
    if not equals or not name or not all(name.split(".")):
        raise InputError(Problem("expected path=value, such as pools.main.replicas=4", file=f"--set {shortened(text)}"))
    mark = Mark(f"--set {shortened(name, 200)}")
    if name.count(".") >= MAX_DEPTH:
        raise InputError(Problem(f"nested more than {MAX_DEPTH} deep", "", *mark))
    try:
        document = parse_document(value_text, mark.file)
    except InputError as error:
        raise InputError([_unnumbered(problem) for problem in error.problems]) from None
    if document.problems:
        raise InputError([_unnumbered(problem) for problem in document.problems])
    if not document.root.flow:
        raise InputError(Problem("write a mapping as {a: 1} and a list as [1, 2]", "", *mark))
    return name, _remarked(document.root, mark)


def _unnumbered(problem: Problem) -> Problem:
    """Return the problem without its line, which would be 1 of the override's own text."""
    return Problem(problem.message, problem.path, problem.file)


def _remarked(node: Node, mark: Mark) -> Node:
    """Return a copy whose every mark is the override's."""
    copy = Node(node.value, mark)
    if isinstance(node.value, dict):
        copy.value = {key: Entry(mark, _remarked(entry.node, mark)) for key, entry in node.value.items()}
    elif isinstance(node.value, list):
        copy.value = [_remarked(child, mark) for child in node.value]
    return copy


def _placed(node: Node, steps: Sequence[str], value: Node, name: str, done: tuple[str, ...]) -> Node:
    """Return `node` with `value` at `steps` below it. Nodes on the way are copied: aliases may share them."""
    if not steps:
        return value
    copy = Node(node.value, node.mark, node.faulty)
    if isinstance(node.value, list):
        index = _index(node.value, steps[0], value.mark, done)
        child = _placed(node.value[index], steps[1:], value, name, (*done, steps[0]))
        copy.value = [*node.value[:index], child, *node.value[index + 1 :]]
        return copy
    if node.value is not None and not isinstance(node.value, dict):
        message = f"{'.'.join(done)} is {described(node.value)}, not a mapping; set it as a whole"
        raise InputError(Problem(message, "", *value.mark))
    entries = dict(node.value or {})
    length = _key_length(entries, steps)
    key = ".".join(steps[:length])
    entry = entries.get(key, Entry(value.mark, Node(None, value.mark)))
    child = _placed(entry.node, steps[length:], value, name, (*done, key))
    entries[key] = Entry(value.mark if length == len(steps) else entry.key, child)
    copy.value = entries
    return copy


def _key_length(entries: dict[str, Entry], steps: Sequence[str]) -> int:
    """Return how many steps make the next key: names may hold dots, and an existing longer key wins."""
    lengths = range(len(steps), 0, -1)
    return next((length for length in lengths if ".".join(steps[:length]) in entries), 1)


def _index(items: list[Node], step: str, mark: Mark, done: tuple[str, ...]) -> int:
    index = int(step) if step.isascii() and step.isdecimal() and len(step) < 8 else -1
    if not 0 <= index < len(items):
        message = f"{'.'.join(done)} is a list: expected an index from 0 to {len(items) - 1}, got {shortened(step)!r}"
        raise InputError(Problem(message, "", *mark))
    return index
