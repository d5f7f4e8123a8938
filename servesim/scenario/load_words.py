"""The wording of schema errors."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from servesim.registry import Kind, kinds
from servesim.scenario.document import described
from servesim.scenario.document_scalar import shortened
from servesim.scenario.load_allowed import description_of, home_of, keys_of, suggestion, type_at
from servesim.scenario.load_place import Place

_LONGEST_MESSAGE = 500
_LONGEST_NUMBER = 40
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
_WITH_UNIT = re.compile(r"([0-9.]+(?:e-?[0-9]+)?) ?(us|ms|s|min|h)")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}


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
    home = home_of(reader, key)
    hint = f"; did you mean {home}?" if home else suggestion(key, allowed)
    return f"unknown key {shortened(key)!r}{_listed(hint, 'allowed', allowed)}"


def _listed(hint: str, what: str, names: Sequence[str]) -> str:
    """Return the hint, if any, followed by all names."""
    separator = " " if hint else "; "
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
    known = list(kinds(choice.family)) if isinstance(choice, Kind) else []
    tag = str(fault.limit["tag"])
    return f"unknown {_noun(choice)} {shortened(tag)!r}{_listed(suggestion(tag, known), 'known', known)}"


def _missing_kind(fault: Fault) -> str:
    choice = fault.reader()
    known = ", ".join(kinds(choice.family)) if isinstance(choice, Kind) else ""
    return f"missing key 'kind' (which {_noun(choice)}); known: {known}"


def _noun(choice: Any) -> str:
    return choice.family.replace("_", " ") if isinstance(choice, Kind) else "kind"


def _own_words(fault: Fault) -> str:
    return shortened(str(fault.limit.get("error", fault.error["msg"])), _LONGEST_MESSAGE)


def _literal(fault: Fault) -> str:
    value = fault.error["input"]
    choices = re.findall(r"'([^']*)'", str(fault.limit["expected"]))
    hint = suggestion(value, choices) if isinstance(value, str) else ""
    return f"expected {fault.limit['expected']}, got {described(value)}{hint}"


def _pattern(fault: Fault) -> str:
    pattern = str(fault.limit["pattern"])
    return f"{shortened(str(fault.error['input']))!r} is not a name: use {_PATTERNS.get(pattern, pattern)}"


def _too_short(fault: Fault) -> str:
    return f"needs at least {fault.minimum} {'entry' if fault.minimum == 1 else 'entries'}"


def _empty_text(fault: Fault) -> str:
    return f"needs at least {fault.minimum} character{'s' if fault.minimum > 1 else ''}"


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
    choice = fault.reader()
    if expected == "a mapping" and isinstance(choice, Kind):
        short_form = "a whole number, or " if choice.family == "length" else ""
        expected = f"{short_form}a mapping with `kind:` ({', '.join(kinds(choice.family))})"
    return f"expected {expected}, got {described(value)}{_conversion(value, expected, str(fault.error['loc'][-1]))}"


def _number(limit: Any) -> str:
    return f"{limit:g}" if isinstance(limit, float) else str(limit)


def _conversion(value: Any, expected: str, key: str) -> str:
    """Return how to write what was probably meant."""
    if isinstance(value, float) and expected.startswith("a whole number") and value.is_integer() and abs(value) < 1e18:
        return f"; write {int(value)}"
    if isinstance(value, str) and len(value) < _LONGEST_NUMBER and "number" in expected:
        unit = _WITH_UNIT.fullmatch(value)
        if unit and key.endswith("_s"):
            return f"; in seconds, without a unit: {float(unit[1]) * _SECONDS[unit[2]]:g}"
        if re.fullmatch(r"[-+]?[0-9.]+(e[-+]?[0-9]+)?", value):
            return "; leave out the quotes"
    if expected == "text" and isinstance(value, bool | int | float):
        return "; put it in quotes"
    if expected == "true or false" and isinstance(value, str):
        return {"yes": "; write true", "on": "; write true", "no": "; write false", "off": "; write false"}.get(
            value.lower(), ""
        )
    return ""


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
}
