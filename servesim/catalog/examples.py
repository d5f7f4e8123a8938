"""The scenarios that ship with servesim."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path

from servesim.catalog.entries import find, folded, parse_yaml


@cache
def _paths() -> dict[str, Path]:
    root = Path(str(files("servesim.catalog"))) / "scenarios"
    return {path.relative_to(root).with_suffix("").as_posix(): path for path in sorted(root.rglob("*.yaml"))}


def examples() -> dict[str, str]:
    """Return what each shipped scenario is about, by name (`bench/w1`)."""
    return {name: str(parse_yaml(path.read_text(encoding="utf-8")).get("description", "")).strip()
            for name, path in _paths().items()}  # fmt: skip


def example(name: str) -> str:
    """Return the text of the shipped scenario called `name`; InputError names the nearest known one."""
    path = find(name[:200], "example", {folded(known): path for known, path in _paths().items()}, _paths())
    return path.read_text(encoding="utf-8")
