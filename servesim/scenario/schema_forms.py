"""Annotations for fields that may be written in more than one way: how they are read, and their JSON Schema."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticKnownError, core_schema

_AS_IT_IS = core_schema.wrap_serializer_function_ser_schema(
    lambda value, inner: inner(value) if isinstance(value, BaseModel) else value
)


class NameOr:
    """`Annotated[str | X | None, NameOr(X, names)]`: a name, or a mapping read as X.

    Not a union for pydantic, so that an error is about the form that was meant. `names` are offered by editors; others
    (aliases) are allowed.
    """

    def __init__(self, inline: type[BaseModel], names: Callable[[], Sequence[str]]) -> None:
        self.inline = inline
        self.names = names

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(
            self._read, handler.generate_schema(self.inline), serialization=_AS_IT_IS
        )

    def _read(self, value: Any, inline: core_schema.ValidatorFunctionWrapHandler) -> Any:
        if value is None or isinstance(value, str):
            return value
        if not isinstance(value, dict | self.inline):
            allowed = ", ".join(self.inline.model_fields)
            raise ValueError(f"expected one name, or a mapping with {allowed}; got {_kind_of(value)}")
        return inline(value)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the names, any other text, or the mapping."""
        return {"anyOf": [{"enum": list(self.names())}, {"type": "string"}, handler(schema), {"type": "null"}]}


def _kind_of(value: Any) -> str:
    return "a list" if isinstance(value, list) else str(value)[:40]


class WordOr:
    """`Annotated[Literal[...] | X, WordOr(X, words)]`: one of some words, or a mapping read as X.

    Not a union for pydantic, for the same reason as `NameOr`.
    """

    def __init__(self, inline: type[BaseModel], words: Sequence[str]) -> None:
        self.inline = inline
        self.words = words

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(
            self._read, handler.generate_schema(self.inline), serialization=_AS_IT_IS
        )

    def _read(self, value: Any, inline: core_schema.ValidatorFunctionWrapHandler) -> Any:
        if isinstance(value, str):
            if value in self.words:
                return value
            *others, last = map(repr, self.words)
            raise PydanticKnownError("literal_error", {"expected": f"{', '.join(others)} or {last}"})
        if not isinstance(value, dict | self.inline):
            allowed = ", ".join(self.inline.model_fields)
            raise ValueError(f"expected one of {', '.join(self.words)}, or a mapping with {allowed}")
        return inline(value)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the words, or the mapping."""
        return {"anyOf": [{"enum": list(self.words)}, handler(schema)]}


class DefaultKind:
    """Let a mapping without `kind:` mean the usual one."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._with_kind, handler(source))

    def _with_kind(self, value: Any) -> Any:
        return {"kind": self.kind, **value} if isinstance(value, dict) else value

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the choices, of which the usual one does not ask for `kind`."""
        found = handler(schema)
        for choice in found["oneOf"]:
            inner = handler.resolve_ref_schema(choice)
            if inner["properties"]["kind"]["const"] == self.kind:
                inner["required"] = [name for name in inner["required"] if name != "kind"]
        return found


class FileOr:
    """`Annotated[str | X, FileOr(X)]`: the name of a file that holds an X, or the X itself; not a union."""

    def __init__(self, inline: type[BaseModel]) -> None:
        self.inline = inline

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(
            self._read, handler.generate_schema(self.inline), serialization=_AS_IT_IS
        )

    def _read(self, value: Any, inline: core_schema.ValidatorFunctionWrapHandler) -> Any:
        if isinstance(value, str):
            return value
        if not isinstance(value, dict | self.inline):
            raise ValueError(f"expected the name of a file, or a mapping; got {_kind_of(value)}")
        return inline(value)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return a text or the mapping."""
        return {"anyOf": [{"type": "string"}, handler(schema)]}
