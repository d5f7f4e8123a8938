"""The JSON Schema of a scenario, for editors and other tools."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from servesim.scenario.inventory_schema import InventoryPlanSpec, ModelSpec
from servesim.scenario.plan_schema import PlanSpec
from servesim.scenario.schema import Scenario, refresh
from servesim.scenario.sweep_spec import SweepDocument

_UNITS = {
    "_bytes_per_s": "bytes/s",
    "_per_hour": "USD per hour",
    "_gpu_hour": "USD per GPU and hour",
    "_flops": "FLOP/s",
    "_per_s": "1/s",
    "_bytes": "bytes",
    "_tokens": "tokens",
    "_rps": "requests/s",
    "_usd": "USD",
    "_w": "watts",
    "_s": "seconds",
}
Node = dict[str, Any]


def unit_of(name: str) -> str | None:
    """Return the unit that the end of a key's name states (`ttft_s`: seconds), or None."""
    return next((unit for ending, unit in _UNITS.items() if name.endswith(ending)), None)


def scenario_schema() -> Node:
    """Return the JSON Schema (draft 2020-12) of a scenario with all kinds registered now.

    What the schema cannot say (rules over several keys, names that must exist) is checked when a scenario is loaded.
    """
    return _schema(Scenario, "servesim scenario")


def plan_schema() -> Node:
    """Return the JSON Schema (draft 2020-12) of a plan document (`servesim plan`)."""
    return _schema(PlanSpec, "servesim plan")


def inventory_schema() -> Node:
    """Return the JSON Schema (draft 2020-12) of an inventory to divide (`servesim plan`)."""
    return _schema(InventoryPlanSpec, "servesim inventory")


def sweep_schema() -> Node:
    """Return the JSON Schema (draft 2020-12) of a sweep in a file of its own."""
    return _schema(SweepDocument, "servesim sweep")


def _schema(model: type[BaseModel], title: str) -> Node:
    refresh()
    for document in (PlanSpec, ModelSpec, InventoryPlanSpec):
        document.model_rebuild(force=True)
    schema = model.model_json_schema(ref_template="#/$defs/{model}")
    head = {"$schema": GenerateJsonSchema.schema_dialect, "title": title}
    described = _described(schema)
    return {**head, **{key: value for key, value in described.items() if key != "title"}}


def _described(node: Any, name: str | None = None) -> Any:
    """Return the schema with units in the descriptions, and without the titles that repeat each key."""
    if isinstance(node, list):
        return [_described(item) for item in node]
    if not isinstance(node, dict):
        return node
    found: Node = {}
    for key, value in node.items():
        if key == "properties":
            found[key] = {child: _described(schema, child) for child, schema in value.items()}
        elif key == "$defs":
            found[key] = {child: _described(schema) for child, schema in value.items()}
        elif key in ("default", "const", "enum", "examples"):
            found[key] = value
        elif not (key == "title" and isinstance(value, str)):
            found[key] = _described(value)
    if "patternProperties" in found:  # names that do not match are refused, too
        found["additionalProperties"] = False
    unit = unit_of(name) if name else None
    if unit and unit.split(" ")[0] not in found.get("description", ""):
        found["description"] = f"{found['description']} [{unit}]" if "description" in found else f"[{unit}]"
    return found
