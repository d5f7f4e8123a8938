"""Reading catalog files and finding an entry by name or alias."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, TypeVar

import yaml

from servesim.errors import InputError

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
E = TypeVar("E")


def parse_yaml(text: str) -> Any:
    """Return the plain data in `text`, with libyaml where PyYAML was built with it (10 times faster)."""
    return yaml.load(text, Loader=_Loader)


@cache
def catalog_file(name: str) -> Mapping[str, Any]:
    """Return the parsed catalog file `name` that ships with servesim."""
    data: Mapping[str, Any] = parse_yaml(files("servesim.catalog").joinpath(name).read_text(encoding="utf-8"))
    return data


def folded(name: str) -> str:
    """Return `name` as names are compared: without case, and with `-`, `_`, `.` and blanks alike."""
    return "".join("_" if c in "-_. " else c for c in name.strip().lower())


def find(name: str, what: str, names: Mapping[str, E], also: Iterable[str] = (), advice: str = "") -> E:
    """Return the entry of `names` (folded name or alias -> entry) called `name`.

    Raises InputError naming the nearest known names; `also` are the names worth listing, and `advice` follows them.
    """
    key = folded(name)
    if key in names:
        return names[key]
    near = difflib.get_close_matches(key, list(names), n=3, cutoff=0.5)
    listed = sorted(also)
    own_names = {
        id(names[folded(n)]): n for n in listed if folded(n) in names
    }  # an alias is shown as what it stands for
    near_names = list(dict.fromkeys(own_names.get(id(names[n]), n) for n in near))
    hint = f"; did you mean {' or '.join(near_names)}?" if near_names else "."
    raise InputError(f"unknown {what} {name!r}{hint} Known: {', '.join(listed)}{advice}")
