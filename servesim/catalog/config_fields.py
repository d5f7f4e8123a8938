"""Typed access to the fields of a model's config.json; whatever is missing or odd is an InputError that names it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from servesim.errors import InputError, Problem


class ConfigFields:
    """The mapping in a config file. A null counts as missing, as it does for the libraries that write these files."""

    def __init__(self, fields: Mapping[str, Any], file: str) -> None:
        self._fields = fields
        self.file = file

    def wrong(self, message: str) -> InputError:
        """Return the error `message` about this file."""
        return InputError(Problem(message, file=self.file))

    def with_defaults(self, defaults: Mapping[str, int]) -> ConfigFields:
        """Return the fields with `defaults` for those that are missing."""
        given = {name: value for name, value in self._fields.items() if value is not None}
        return ConfigFields({**defaults, **given}, self.file)

    def get(self, name: str) -> Any:
        """Return the field as it is, or None."""
        return self._fields.get(name)

    def count(self, name: str, default: int | None = None) -> int:
        """Return a positive whole number; without a default the field must be there."""
        value = self._fields.get(name)
        if value is None:
            if default is None:
                raise self.wrong(f"missing field {name!r} (a positive whole number)")
            return default
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.wrong(f"field {name!r}: expected a positive whole number, got {value!r}"[:200])
        return value

    def count_or_zero(self, name: str) -> int:
        """Return a positive whole number, or 0 where the field is missing or 0."""
        return 0 if self._fields.get(name) in (None, 0) else self.count(name)

    def flag(self, name: str, default: bool = False) -> bool:
        """Return a truth value."""
        value = self._fields.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.wrong(f"field {name!r}: expected true or false, got {value!r}"[:200])
        return value

    def texts(self, name: str) -> list[str] | None:
        """Return a list of texts, or None where the field is missing."""
        value = self._fields.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.wrong(f"field {name!r}: expected a list of texts")
        return value

    def part(self, name: str) -> ConfigFields:
        """Return the mapping under `name`."""
        value = self._fields.get(name)
        if not isinstance(value, dict):
            raise self.wrong(f"missing field {name!r} (a mapping)")
        return ConfigFields(value, self.file)
