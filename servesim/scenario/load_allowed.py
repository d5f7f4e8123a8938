"""What the schema allows at a place: which class reads it, which keys that has, what is nearest to a wrong one."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from servesim.registry import Kind, kinds
from servesim.scenario.load_hints import other_name

_LONGEST_NAME = 80


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the name in `known` that means or is most like `word`, or None; case and `-` for `_` do not matter."""
    if len(word) > _LONGEST_NAME:
        return None
    by_folded = {_folded(name): name for name in known}
    same = by_folded.get(_folded(word)) or other_name(word, list(by_folded.values()))
    if same is not None:
        return same
    near = difflib.get_close_matches(_folded(word), list(by_folded), n=1, cutoff=0.6)
    return by_folded[near[0]] if near else None


def _folded(name: str) -> str:
    return name.lower().replace("-", "_")


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean x?`, or nothing."""
    near = nearest(word, known)
    return f"; did you mean {near}?" if near else ""


def type_at(root: Any, steps: Sequence[str | int]) -> Any:
    """Return what reads the place that pydantic calls `steps` below the type `root`.

    That is a class, a `Kind` where the choice itself is meant, or None where the way leads through a union.
    """
    here = _narrowed(root)
    for step in steps:
        here = _narrowed(_child(here, step))
    return here


def _child(here: Any, step: str | int) -> Any:
    if isinstance(here, Kind):
        return kinds(here.family).get(str(step))
    if fields := schema_fields(here):
        field = fields.get(str(step))
        return None if field is None else _with_metadata(field.annotation, field.metadata)
    arguments = get_args(here)
    origin = get_origin(here)
    if origin is dict:
        return arguments[1]
    if origin in (list, tuple):
        return arguments[step] if isinstance(step, int) and step < len(arguments) > 2 else arguments[0]
    return None


def _with_metadata(annotation: Any, metadata: Iterable[Any]) -> Any:
    return next((item for item in metadata if isinstance(item, Kind)), annotation)


def _narrowed(annotation: Any) -> Any:
    """Return the annotation without `Annotated`, `| None` and `str |` before a mapping."""
    if get_origin(annotation) is Annotated:
        inner, *metadata = get_args(annotation)
        return _narrowed(_with_metadata(inner, metadata))
    if get_origin(annotation) in (Union, types.UnionType):
        arms = [arm for arm in get_args(annotation) if arm is not types.NoneType]
        arms = [arm for arm in arms if schema_fields(arm)] or arms  # a name or a mapping: only the latter has parts
        return _narrowed(arms[0]) if len(arms) == 1 else None
    return annotation


def schema_fields(reader: Any) -> dict[str, FieldInfo]:
    """Return the fields of a pydantic model or dataclass in its order; of anything else, none."""
    fields: dict[str, FieldInfo] = getattr(reader, "__pydantic_fields__", {}) if isinstance(reader, type) else {}
    return fields


def keys_of(reader: Any) -> list[str]:
    """Return the keys a class reads, in its order."""
    return list(schema_fields(reader))


def description_of(reader: Any, key: str) -> str:
    """Return what the class says of a key, or nothing."""
    field = schema_fields(reader).get(key)
    return (field and field.description) or ""
