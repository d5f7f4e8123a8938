"""A token-length law as a field of a scenario: any registered kind, or a number."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from servesim.registry import Kind
from servesim.workload.base import Length


class ShortForm:
    """Say in the JSON Schema that a field may also be written as `form`."""

    def __init__(self, form: JsonSchemaValue) -> None:
        self.form = form

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the short form beside the others."""
        return {"anyOf": [self.form, handler(schema)]}


def _plain_number_is_fixed(value: Any) -> Any:
    """Let `prompt_tokens: 512` stand for `{kind: fixed, tokens: 512}`."""
    return {"kind": "fixed", "tokens": value} if isinstance(value, int) and not isinstance(value, bool) else value


LengthField = Annotated[
    Length,
    Kind("length"),
    BeforeValidator(_plain_number_is_fixed),
    ShortForm({"type": "integer", "minimum": 1, "description": "exactly so many tokens"}),
]
"""A length law in a scenario; a plain number means exactly so many tokens."""
