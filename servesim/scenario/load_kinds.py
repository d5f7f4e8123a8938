"""Which kind was probably meant by a mapping that names none, and which key by one without its unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from servesim.errors import InputError
from servesim.scenario.document_scalar import shortened
from servesim.scenario.load_allowed import keys_of, schema_fields
from servesim.scenario.load_homes import meanings

_LONGEST = 40
_MOST_KEYS, _MOST_KINDS = 6, 2
# Of several kinds that read the same keys, those that people mean first.
_USUAL = ("lognormal", "poisson")


def same_key(key: str, allowed: Sequence[str]) -> str | None:
    """Return which of `allowed` another tool calls `key`, or is the key with its unit: `mean_tokens` for `mean`."""
    key = key[:_LONGEST]
    by_name = next((name for name in meanings(key) if name in allowed), None)
    return by_name or next((name for name in allowed if name.rpartition("_")[0] == key), None)


def kinds_with(given: Mapping[str, Any], choices: Mapping[str, Any]) -> str:
    """Return the kinds that read such a mapping, written out with its values, as a question; or nothing."""
    if not 0 < len(given) <= _MOST_KEYS:
        return ""
    found = []
    for kind, reader in choices.items():
        named = {same_key(key, keys_of(reader)): value for key, value in given.items()}
        keys = {key: value for key, value in named.items() if key is not None}
        lacks = [name for name, one in schema_fields(reader).items() if one.is_required() and name not in keys]
        if len(keys) == len(given) and _is_read(reader, {**keys, **dict.fromkeys(lacks, 1)}):
            said = [f"kind: {kind}", *(f"{key}: {shortened(str(value))}" for key, value in keys.items())]
            found.append((kind not in _USUAL, len(lacks), ", ".join([*said, *(f"{key}: ..." for key in lacks)])))
    written = [f"{{{text}}}" for _, _, text in sorted(found)[:_MOST_KINDS]]
    return f"; did you mean {' or '.join(written)}?" if written else ""


def _is_read(reader: Any, values: Mapping[str, Any]) -> bool:
    try:
        TypeAdapter(reader).validate_python(values)
    except (ValidationError, InputError):
        return False
    return True
