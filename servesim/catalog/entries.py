"""Reading catalog files and finding an entry by name or alias."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import yaml

from servesim.errors import InputError, Problem, unreadable

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
E = TypeVar("E")


def parse_yaml(text: str) -> Any:
    """Return the plain data in `text`, with libyaml where PyYAML was built with it (10 times faster)."""
    return yaml.load(text, Loader=_Loader)


def read_mapping(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file of the user's; InputError if it cannot be read or holds something else."""
    try:
        data = parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise unreadable(error, str(path)) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line, column = (None, None) if mark is None else (mark.line + 1, mark.column + 1)
        message = f"is no sound YAML (cut short?): {error.problem}"
        raise InputError(Problem(message, file=str(path), line=line, column=column)) from error
    except (ValueError, yaml.YAMLError) as error:
        raise InputError(Problem(f"is not readable text: {str(error).splitlines()[0]}", file=str(path))) from error
    if data is None:
        raise InputError(Problem("the file is empty", file=str(path)))
    if not isinstance(data, dict):
        raise InputError(Problem("is not a calibration file: expected a mapping", file=str(path)))
    return data


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
