"""What the numbers rest on, as a flat list."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def flat(tree: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the leaves of nested mappings with their dotted places."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield from flat(value, f"{path}.{name}" if path else str(name))
    else:
        yield path, "-" if tree is None else str(tree)
