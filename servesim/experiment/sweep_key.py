"""Content hashes of points: equal exactly when the same numbers would come out."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from functools import lru_cache
from pathlib import Path
from types import CodeType
from typing import Any

import servesim
from servesim.experiment.seeds import replication_seeds
from servesim.provenance import installed
from servesim.scenario.dump import plain_scenario
from servesim.scenario.load_allowed import schema_fields
from servesim.scenario.schema import Scenario

# What only shows results, or makes calibrations beforehand, changes no number.
_OF_NO_MATTER = {"cli", "report", "calibrate", "__pycache__"}
_SOURCES = {".py", ".yaml", ".csv"}
_FILE_KEYS = {"path", "file", "config"}


def point_key(scenario: Scenario, seed: int, replications: int) -> str:
    """Return the SHA-256 of a resolved scenario, its seeds and everything else that the results depend on.

    That is servesim's own sources and catalog, the sources of kinds that come from elsewhere, the contents of files
    that the scenario names, and the versions of Python and numpy.
    """
    plain = plain_scenario(scenario)
    facts = {
        "scenario": plain,
        "seeds": replication_seeds(seed, replications),
        "servesim": installed("servesim"),
        "sources": source_digest(),
        "own_kinds": dict(sorted(_own_kinds(scenario))),
        "files": {name: _file_digest(name) for name in sorted(_files(plain))},
        "python": list(sys.version_info[:2]),
        "numpy": installed("numpy"),
    }
    return _sha(json.dumps(facts, sort_keys=True, ensure_ascii=False).encode())


@lru_cache(maxsize=1)
def source_digest() -> str:
    """Return the SHA-256 of servesim's sources and catalog, as far as results depend on them."""
    root = Path(inspect.getfile(servesim)).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        if path.suffix in _SOURCES and not _OF_NO_MATTER.intersection(parts):
            digest.update("/".join(parts).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _file_digest(name: str) -> str:
    with open(name, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files(plain: Any) -> set[str]:
    """Return the files a plain scenario names; those of a named folder too."""
    found: set[str] = set()
    if isinstance(plain, dict):
        for key, value in plain.items():
            if key in _FILE_KEYS and isinstance(value, str) and Path(value).is_absolute():
                path = Path(value)
                inside = path.rglob("*") if path.is_dir() else [path]
                found |= {str(one) for one in inside if one.is_file()}
            found |= _files(value)
    elif isinstance(plain, list):
        for value in plain:
            found |= _files(value)
    return found


def _own_kinds(value: Any) -> set[tuple[str, str]]:
    """Return (class, digest of its code) of every part of a scenario whose class servesim does not ship."""
    found: set[tuple[str, str]] = set()
    if fields := schema_fields(type(value)):
        for cls in type(value).__mro__:
            if cls.__module__.partition(".")[0] not in ("servesim", "pydantic", "builtins", "abc", "typing"):
                found.add((f"{cls.__module__}.{cls.__qualname__}", _class_digest(cls)))
        for name in fields:
            found |= _own_kinds(getattr(value, name))
    elif isinstance(value, dict):
        for one in value.values():
            found |= _own_kinds(one)
    elif isinstance(value, list | tuple):
        for one in value:
            found |= _own_kinds(one)
    return found


def _class_digest(cls: type[Any]) -> str:
    """Return a digest of the module a class comes from; of its compiled methods where there is no source file."""
    module = sys.modules.get(cls.__module__)
    file = getattr(module, "__file__", None)
    if cls.__module__ != "__main__" and file is not None and Path(file).is_file():
        return _file_digest(file)
    digest = hashlib.sha256()
    for name, member in sorted(vars(cls).items()):
        code = getattr(getattr(member, "__func__", member), "__code__", None)
        if code is not None:
            digest.update(name.encode() + repr(_code_facts(code)).encode())
    return digest.hexdigest()


def _code_facts(code: CodeType) -> tuple[Any, ...]:
    constants = tuple(_code_facts(one) if isinstance(one, CodeType) else repr(one) for one in code.co_consts)
    return code.co_code, code.co_names, code.co_varnames, constants
