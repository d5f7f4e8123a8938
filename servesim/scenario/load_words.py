"""The wording of schema errors."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, get_origin

from pydantic import BaseModel

from servesim.registry import Kind, families, kinds
from servesim.scenario.document import described, plain
from servesim.scenario.document_scalar import shortened
from servesim.scenario.load_allowed import description_of, keys_of, nearest, suggestion, type_at
from servesim.scenario.load_hints import conversion, file_hint, kind_hint
from servesim.scenario.load_homes import NOT_SIMULATED, home_of, meanings
from servesim.scenario.load_kinds import kinds_with, same_key
from servesim.scenario.load_place import Place

_LONGEST_MESSAGE = 500
_LONGEST_NUMBER = 40
_MOST_KEYS = 6
UNKNOWN_KEY = ("extra_forbidden", "unexpected_keyword_argument")
"""What a model and what a dataclass says of an unknown key."""

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "dataclass_type": "a mapping",
    "list_type": "a list",
    "tuple_type": "a list",
    "finite_number": "a finite number",
    "none_required": "null",
}
_RANGES = {
    "greater_than": ("must be greater than {}", "gt"),
    "greater_than_equal": ("must be at least {}", "ge"),
    "less_than": ("must be less than {}", "lt"),
    "less_than_equal": ("must be at most {}", "le"),
}
_PATTERNS = {
    r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$": "letters, digits, _ . and -, the first a letter or digit, at most 64 of them"
}


@dataclass(slots=True)
class Fault:
    """One of pydantic's errors and where it lies in the document."""

    error: Any
    place: Place
    model: type[BaseModel]

    @property
    def kind(self) -> str:
        """Pydantic's name for the error."""
        return str(self.error["type"])

    @property
    def limit(self) -> dict[str, Any]:
        """What pydantic says of the error besides: the limit, the choices."""
        return dict(self.error.get("ctx", {}))

    @property
    def minimum(self) -> int:
        """The fewest entries or characters allowed here."""
        return int(self.limit["min_length"])

    def reader(self, *, container: bool = False) -> Any:
        """Return what reads this place in the schema, or what reads the mapping around it."""
        loc = self.error["loc"]
        return type_at(self.model, loc[:-1] if container else loc)


def wording(fault: Fault) -> str:
    """Return what is wrong and what is allowed."""
    return _WORDS.get(fault.kind, _type_or_range)(fault)


def expectation(fault: Fault) -> str | None:
    """Return what kind of value is expected, if the value is of a wrong kind."""
    if fault.kind in ("literal_error", "union"):
        return str(fault.limit["expected"])
    return _EXPECTED.get(fault.kind)


def _unknown_key(fault: Fault) -> str:
    key = str(fault.error["loc"][-1])
    reader = fault.reader(container=True)
    allowed = keys_of(reader)
    return f"unknown key {shortened(key)!r}{_listed(_meant_key(fault, key, allowed), 'allowed', allowed)}"


def _meant_key(fault: Fault, key: str, allowed: Sequence[str]) -> str:
    """Return which key was probably meant: one of these under another name, one of another place, one spelt alike."""
    meant = meanings(key[:_LONGEST_NUMBER])
    home = same_key(key, allowed) or home_of(fault.model, fault.place.path[:-1], meant)
    if home is None and meant[0] in NOT_SIMULATED:
        return f"; {meant[0]} is not simulated"
    home = home or nearest(key, allowed)
    return f"; did you mean {home}?" if home else ""


def meant_here(fault: Fault) -> str | None:
    """Return which key of its own mapping an unknown key was probably meant to be, or None."""
    key = str(fault.error["loc"][-1])[:_LONGEST_NUMBER]
    allowed = keys_of(fault.reader(container=True))
    return same_key(key, allowed) or nearest(key, allowed)


def _listed(hint: str, what: str, names: Sequence[str]) -> str:
    """Return the hint, if any, followed by all names."""
    separator = " " if hint.endswith("?") else "; "
    return hint + (f"{separator}{what}: {', '.join(names)}" if names else "")


def _missing_key(fault: Fault) -> str:
    key = fault.error["loc"][-1]
    if isinstance(key, int):
        return f"expected at least {key + 1} items"
    about = description_of(fault.reader(container=True), key)
    message = f"missing key {key!r}" + (f" ({about.rstrip('.')})" if about else "")
    value = fault.place.node.value
    if isinstance(value, str):  # the short form `arrivals: poisson`
        message += f"; write {{kind: {value}, {key}: ...}}"
    return message


def _unknown_kind(fault: Fault) -> str:
    choice = fault.reader()
    known = list(choice.choices()) if isinstance(choice, Kind) else []
    tag = str(fault.limit["tag"])
    hint = suggestion(tag, known)
    if not hint and isinstance(choice, Kind):
        hint = file_hint(tag, choice.family) or _other_family(tag)
    return f"unknown {_noun(choice)} {shortened(tag)!r}{_listed(hint, 'known', known)}"


def _other_family(tag: str) -> str:
    """Return which other choice has a kind of this name: a router that was given as engine."""
    family = next((family for family in families() if tag in kinds(family)), None)
    return "" if family is None else f"; it is a kind of {family.replace('_', ' ')}"


def _missing_kind(fault: Fault) -> str:
    choice, value = fault.reader(), fault.place.node.value
    message = f"missing key 'kind' (which {_noun(choice)})"
    if not isinstance(choice, Kind):
        return message
    given = plain(fault.place.node) if isinstance(value, dict) else {}
    return message + _listed(kinds_with(given, choice.choices()), "known", list(choice.choices()))


def _noun(choice: Any) -> str:
    return choice.family.replace("_", " ") if isinstance(choice, Kind) else "kind"


def _own_words(fault: Fault) -> str:
    return shortened(str(fault.limit.get("error", fault.error["msg"])), _LONGEST_MESSAGE)


def _literal(fault: Fault) -> str:
    value = fault.error["input"]
    choices = re.findall(r"'([^']*)'", str(fault.limit["expected"]))
    hint = suggestion(value, choices) if isinstance(value, str) else ""
    if not hint and isinstance(value, str) and value.lower() in ("none", "null"):
        hint = "; write null, or leave the key out"
    return f"expected {fault.limit['expected']}, got {described(value)}{hint}"


def _pattern(fault: Fault) -> str:
    pattern = str(fault.limit["pattern"])
    return f"{shortened(str(fault.error['input']))!r} is not a name: use {_PATTERNS.get(pattern, pattern)}"


def _too_short(fault: Fault) -> str:
    return f"needs at least {fault.minimum} {'entry' if fault.minimum == 1 else 'entries'}"


def _empty_text(fault: Fault) -> str:
    return f"needs at least {fault.minimum} character{'s' if fault.minimum > 1 else ''}"


def _long_text(fault: Fault) -> str:
    return f"at most {fault.limit['max_length']} characters, got {len(str(fault.place.node.value))}"


def _too_long(fault: Fault) -> str:
    return f"expected at most {fault.limit['max_length']} items, got {fault.limit['actual_length']}"


def _type_or_range(fault: Fault) -> str:
    value, kind = fault.error["input"], fault.kind
    if kind in _RANGES:
        words, key = _RANGES[kind]
        return f"{words.format(_number(fault.limit[key]))}, got {described(value)}"
    expected = expectation(fault)
    if expected is None:
        return f"{fault.error['msg']}, got {described(value)}"
    hint = conversion(value, expected, str(fault.error["loc"][-1]))
    if expected == "a mapping":
        expected, hint = _mapping(fault.reader(), value)
    return f"expected {expected}, got {described(value)}{hint}"


def _mapping(reader: Any, value: Any) -> tuple[str, str]:
    """Return what mapping `reader` wants, and how to write `value` as one."""
    if isinstance(reader, Kind):
        short_form = "a whole number, or " if reader.family in ("length", "count") else ""
        hint = kind_hint(value, reader.family)
        if short_form and isinstance(value, str):
            hint = conversion(value, "a whole number", "prompt_tokens")
        if not hint and isinstance(value, str):
            hint = _other_family(value)
        return f"{short_form}a mapping with `kind:` ({', '.join(reader.choices())})", hint
    if get_origin(reader) is dict:
        return "a mapping from names", "; write `NAME:` instead of each dash" if isinstance(value, list) else ""
    keys = keys_of(reader)
    return (
        f"a mapping of {', '.join(keys[:_MOST_KEYS])}{', ...' * (len(keys) > _MOST_KEYS)}" if keys else "a mapping",
        "",
    )


def _number(limit: Any) -> str:
    return f"{limit:g}" if isinstance(limit, float) else str(limit)


_WORDS: dict[str, Callable[[Fault], str]] = {
    **dict.fromkeys(UNKNOWN_KEY, _unknown_key),
    "missing": _missing_key,
    "union_tag_invalid": _unknown_kind,
    "union_tag_not_found": _missing_kind,
    "value_error": _own_words,
    "assertion_error": _own_words,
    "literal_error": _literal,
    "string_pattern_mismatch": _pattern,
    "too_short": _too_short,
    "string_too_short": _empty_text,
    "too_long": _too_long,
    "string_too_long": _long_text,
}
