"""The registered kinds as plain data: what each means and which keys it has."""

from __future__ import annotations

import inspect
import re
from typing import Any

from pydantic_core import to_jsonable_python

from servesim.registry import families, kinds
from servesim.scenario.json_schema import scenario_schema, unit_of
from servesim.scenario.load_allowed import schema_fields

Row = dict[str, Any]


def topic_of(family: str) -> str:
    """Return what a family of kinds is called on the command line: `service_time` is `service-times`."""
    name = family.replace("_", "-")
    return name if name.endswith("s") else name + "s"


def kind_topics() -> dict[str, str]:
    """Return the families by their names on the command line."""
    return {topic_of(family): family for family in families()}


def kind_rows(family: str) -> list[Row]:
    """Return kind, meaning, description and fields of each registered kind of `family`."""
    definitions = scenario_schema()["$defs"]
    return [_row(name, cls, definitions) for name, cls in kinds(family).items()]


def _row(name: str, cls: type[Any], definitions: Row) -> Row:
    about = inspect.cleandoc(cls.__doc__ or "")
    properties = definitions.get(cls.__name__, {}).get("properties", {})
    fields = [_field(key, field, properties.get(key, {})) for key, field in schema_fields(cls).items() if key != "kind"]
    return {"kind": name, "meaning": first_sentence(about), "description": about, "fields": fields}


def _field(key: str, field: Any, schema: Row) -> Row:
    required = field.is_required()
    row: Row = {"name": key, "type": type_text(schema), "required": required}
    if not required:
        row["default"] = _plain(field.get_default(call_default_factory=True, validated_data={}))
    if unit := unit_of(key):
        row["unit"] = unit
    row["description"] = field.description or ""
    return row


def _plain(value: Any) -> Any:
    """Return a default as plain data; a kind as its name."""
    return getattr(value, "kind", None) or to_jsonable_python(value)


def first_sentence(text: str) -> str:
    """Return the first line of a docstring, joined with the next ones until a sentence ends."""
    words = " ".join(text.split("\n\n")[0].split())
    return re.split(r"(?<!\.)\. ", words, maxsplit=1)[0].removesuffix(".")


def type_text(schema: Row) -> str:
    """Return the values a JSON Schema allows, in a few words: `number > 0`, `text or null`."""
    if "oneOf" in schema:
        return "mapping with kind"
    if arms := schema.get("anyOf"):
        return " or ".join(dict.fromkeys(type_text(arm) for arm in arms))
    if "enum" in schema:
        return " or ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    names = {"string": "text", "array": "list", "object": "mapping", "boolean": "true or false"}
    name = names.get(str(schema.get("type")), str(schema.get("type", "any")))
    limits = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {schema[key]:g}" for key, sign in limits.items() if key in schema]
    return " ".join([name, ", ".join(bounds)]).rstrip()
