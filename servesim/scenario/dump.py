"""A scenario as YAML again, with every default written out."""

from __future__ import annotations

from typing import Any

import yaml

from servesim.scenario.document_scalar import core_scalar
from servesim.scenario.load_allowed import schema_fields
from servesim.scenario.schema import Scenario

_WIDTH = 100
_OTHER_LINE_BREAKS = frozenset("\r\x85\u2028\u2029")


class _Row(list[Any]):
    """A list of scalars, written in one line."""


class _Dumper(yaml.SafeDumper):
    """Quotes text that YAML 1.1 or the core schema of YAML 1.2 would read as something else."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write equal parts out in full."""
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    node = dumper.represent_str(value)
    if _OTHER_LINE_BREAKS.intersection(value):
        node.style = '"'
    elif _is_number(value):
        node.style = "'"
    elif "\n" in value:
        node.style = "|"
    return node


def _is_number(value: str) -> bool:
    try:
        return not isinstance(core_scalar(value), str)
    except ValueError:
        return True


def _number(dumper: yaml.SafeDumper, value: float) -> yaml.ScalarNode:
    # repr is the shortest text that reads as the same float; readers of YAML 1.1 want a point in it too.
    text = repr(value)
    return dumper.represent_scalar("tag:yaml.org,2002:float", text if "." in text else text.replace("e", ".0e"))


def _row(dumper: yaml.SafeDumper, value: _Row) -> yaml.SequenceNode:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=True)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(float, _number)
_Dumper.add_representer(_Row, _row)


def to_yaml(scenario: Scenario) -> str:
    """Return the scenario as block-style YAML in the schema's order; loading it gives an equal scenario.

    Keys whose default null means "decided when the run starts" are left out while they are null. Files are named by
    their absolute paths.
    """
    text: str = yaml.dump(
        plain_scenario(scenario),
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False,
        width=_WIDTH,
    )
    return text


def plain_scenario(scenario: Scenario) -> dict[str, Any]:
    """Return what `to_yaml` writes, as plain data."""
    found: dict[str, Any] = plain_value(scenario)
    return found


def plain_value(value: Any) -> Any:
    """Return a part of a scenario (a policy, a law, ...) as the plain data that a scenario file would hold."""
    if fields := schema_fields(type(value)):
        items = ((name, getattr(value, name), field.default) for name, field in fields.items())
        return {name: plain_value(item) for name, item, default in items if item is not None or default is not None}
    if isinstance(value, dict):
        return {key: plain_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        parts = [plain_value(item) for item in value]
        return parts if any(isinstance(part, dict | list) for part in parts) else _Row(parts)
    return value
